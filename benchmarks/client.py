"""Calls an ASGI application as a server would, without a server and without HTTP."""

import json
from typing import Any

from fastapi import FastAPI

from benchmarks.model import ITEM_ID


class WrongResult(AssertionError):
    """A variant did not do its work, so its time means nothing."""


class Client:
    """Makes one kind of request, and keeps what came back until it is checked."""

    def __init__(self, app: FastAPI, method: str) -> None:
        self.app = app
        self.method = method
        self.sent = 0
        self._messages: list[Any] = []

    async def request(self, times: int) -> None:
        """Make requests, one after another. This is what is measured."""
        app, messages, method = self.app, self._messages, self.method

        async def send(message: Any) -> None:
            messages.append(message)

        for _ in range(times):
            await app(asgi_scope(method), receive, send)
        self.sent += times

    def check(self) -> None:
        """Raise WrongResult unless all answers since the last check were right."""
        messages, self._messages = self._messages, []
        starts, bodies = messages[::2], messages[1::2]
        first = self.sent - len(starts) + 1
        for number, (start, body) in enumerate(zip(starts, bodies, strict=True), first):
            expected = {
                "id": ITEM_ID,
                "name": "lamp",
                "count": number if self.method == "POST" else 0,
            }
            if start["status"] != 200 or json.loads(body["body"]) != expected:
                raise WrongResult(f"expected {expected}, got {start['status']} {body['body']}")


def asgi_scope(method: str) -> dict[str, Any]:
    path = f"/items/{ITEM_ID}"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"accept", b"application/json")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}
