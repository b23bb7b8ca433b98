"""The page that shows every transaction: in development, for who sits at this machine."""

from fastapi import FastAPI, Request

from server.db.database import db, migrations

PATH = "/_db"
HERE = ("127.0.0.1", "::1")
NAMES = ("localhost", "127.0.0.1", "::1")


def from_here(request: Request) -> bool:
    """Tell whether a request comes from this machine."""
    return request.client is not None and request.client.host in HERE


def install(app: FastAPI) -> None:
    """Serve the page, and begin to record."""
    db.watch.mount(app, PATH, auth=from_here, hosts=NAMES, migrations=migrations)
