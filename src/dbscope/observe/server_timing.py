"""`Server-Timing`: what a request has done with its database, where a browser's tools show it.

https://www.w3.org/TR/server-timing/
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from dbscope import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from dbscope.observe.attaching import AnyDatabase
    from dbscope.watch.records import Record

    ASGI = Callable[..., Awaitable[None]]

__all__ = ["ServerTimingMiddleware"]

NO_TOKEN = re.compile(r"[^\w!#$%&'*+.^`|~-]+", re.ASCII)  # RFC 9110, 5.6.2
NO_TEXT = re.compile(r"[^\x20-\x7e]+")
SERVED = "dbscope"  # in an ASGI scope: our middleware is around

_records: ContextVar[list[Record] | None] = ContextVar("dbscope_server_timing", default=None)


def _keep(record: Record) -> None:
    records = _records.get()
    if records is not None:
        records.append(record)


class ServerTimingMiddleware:
    """Tell the client of a request what it has done with these databases; the watch is started.

    Add it after `db.install(app)`, so that it is around it. It tells how many milliseconds a
    connection was held and waited for, and how long statements and COMMIT took: whoever gets the
    answer reads that, so it is for development, or for who may know.

    Args:
        app: the application.
        databases: either kind.
        line: tell the one line of the record, too. It names lines of code.

    Raises:
        ConfigurationError: when a request comes, if it is not around `db.install(app)`.

    Example:
        >>> db.install(app)
        >>> app.add_middleware(ServerTimingMiddleware, databases=[db])
    """

    def __init__(self, app: ASGI, *, databases: list[AnyDatabase], line: bool = False) -> None:
        self.app = app
        self.line = line
        for database in databases:
            database.watch.forget(_keep)
            database.watch.on_record(_keep)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if SERVED in scope:
            raise ConfigurationError(
                "ServerTimingMiddleware is inside of `db.install(app)`, where COMMIT is still to "
                "come: add it after that."
            )
        records: list[Record] = []

        async def send_with_times(message: Any) -> None:
            if message["type"] == "http.response.start" and records:
                told = ", ".join(part for each in records for part in self._parts(each))
                headers = [*message.get("headers", ()), (b"server-timing", told.encode("ascii"))]
                message = {**message, "headers": headers}
            await send(message)

        token = _records.set(records)
        try:
            await self.app(scope, receive, send_with_times)
        finally:
            _records.reset(token)

    def _parts(self, record: Record) -> Iterator[str]:
        suffix = "" if record.database == "default" else f"-{record.database}"
        name = NO_TOKEN.sub("_", f"db{suffix}")
        yield _part(name, record.held, str(record) if self.line else record.outcome)
        sent = record.statements
        number = len(sent) + record.more
        plural = "" if number == 1 else "s"
        yield _part(
            f"{name}-sql", sum(each.seconds for each in sent), f"{number} statement{plural}"
        )
        if record.waits:
            yield _part(f"{name}-wait", sum(wait.seconds for wait in record.waits))
        commits = [each.commit for each in record.transactions if each.commit is not None]
        if commits:
            yield _part(f"{name}-commit", sum(commits))


def _part(name: str, seconds: float, told: str = "") -> str:
    quoted = NO_TEXT.sub("?", told).replace("\\", "\\\\").replace('"', '\\"')
    return f"{name};dur={seconds * 1000:.1f}" + (f';desc="{quoted}"' if told else "")
