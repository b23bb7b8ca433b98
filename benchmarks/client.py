"""Calls an ASGI application as a server would, without a server and without HTTP."""

import asyncio
import json
from operator import itemgetter
from typing import Any

from fastapi import FastAPI

from benchmarks.model import ITEM_ID, ITEMS, answer


class WrongResult(AssertionError):
    """A variant did not do its work, so its time means nothing."""


ONE = f"/items/{ITEM_ID}"
ALL = "/items"


class Client:
    """Makes one kind of request, and keeps what came back until it is checked."""

    def __init__(self, app: FastAPI, method: str, path: str = ONE, at_once: int = 1) -> None:
        self.app = app
        self.method = method
        self.path = path
        self.at_once = at_once
        self.sent = 0
        self._messages: list[Any] = []

    async def request(self, times: int) -> None:
        """Make requests, one after another or many at once. This is what is measured."""
        app, messages, method, path = self.app, self._messages, self.method, self.path

        async def send(message: Any) -> None:
            messages.append(message)

        if self.at_once == 1:
            for _ in range(times):
                await app(asgi_scope(method, path), receive, send)
        else:
            for _ in range(times // self.at_once):
                await self._at_once()
        self.sent += times

    async def _at_once(self) -> None:
        async def one() -> None:
            answer: list[Any] = []

            async def send(message: Any) -> None:
                answer.append(message)

            await self.app(asgi_scope(self.method, self.path), receive, send)
            self._messages.extend(answer)

        await asyncio.gather(*(one() for _ in range(self.at_once)))

    def check(self) -> None:
        """Raise WrongResult unless all answers since the last check were right."""
        messages, self._messages = self._messages, []
        answers = list(map(content, messages[::2], messages[1::2]))
        first = self.sent - len(answers) + 1
        expected = [self.expected(number) for number in range(first, self.sent + 1)]
        if self.method == "POST" and self.at_once > 1:  # they overtake each other
            answers.sort(key=itemgetter("count"))
        for right, got in zip(expected, answers, strict=True):
            if got != right:
                raise WrongResult(f"expected {right}, got {got}")

    def expected(self, number: int) -> Any:
        """Return what the request of this number is answered."""
        if self.path == ALL:
            return [answer(item_id) for item_id in range(1, ITEMS + 1)]
        return answer(count=number if self.method == "POST" else 0)


def content(start: Any, body: Any) -> Any:
    """Return what is in an answer."""
    if start["status"] != 200:
        raise WrongResult(f"{start['status']} {body['body']}")
    return json.loads(body["body"])


def asgi_scope(method: str, path: str) -> dict[str, Any]:
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
