"""A client that can hang up in the middle of a request."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """What a client was told."""

    status: int
    json: Any

    @property
    def is_unknown(self) -> bool:
        """Whether it says itself that it does not know what became of the request."""
        detail = self.json.get("detail", "") if isinstance(self.json, dict) else ""
        return self.status == 504 or detail.startswith("It is not known")


class Client:
    """One connection, which is kept as long as the server keeps it."""

    def __init__(self, base: str) -> None:
        self.place = urlsplit(base)
        self.writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.hang_up()

    async def post(
        self, path: str, body: Any, headers: dict[str, str], patience: float | None = None
    ) -> Answer | None:
        """Send a request, and return the answer, or None if there is none.

        Args:
            path: where to.
            body: for JSON.
            headers: more headers.
            patience: the seconds until the client hangs up.
        """
        data = json.dumps(body).encode()
        told = {"Host": self.place.netloc, "Content-Type": "application/json", **headers}
        told["Content-Length"] = str(len(data))
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items())]
        request = "\r\n".join([*lines, "", ""]).encode() + data
        try:
            async with asyncio.timeout(patience):
                return await self.exchange(request)
        except (OSError, EOFError, TimeoutError):
            self.hang_up()
            return None

    async def exchange(self, request: bytes) -> Answer:
        """Send bytes, and read the answer."""
        if self.writer is None:
            where = (self.place.hostname, self.place.port)
            self.reader, self.writer = await asyncio.open_connection(*where)
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        status, headers = int(head.split(b" ", 2)[1]), head.lower()
        length = headers.partition(b"content-length:")[2].partition(b"\r\n")[0]
        body = await self.reader.readexactly(int(length or 0))
        if status >= 500 or b"connection: close" in headers:
            self.hang_up()  # the server does, after an exception
        return Answer(status, read(body))

    def hang_up(self) -> None:
        """End the connection at once, in the middle of whatever it was."""
        if self.writer is not None:
            self.writer.transport.abort()
            self.writer = None


def read(body: bytes) -> Any:
    """Return JSON, or what is none as it is."""
    try:
        return json.loads(body)
    except ValueError:
        return body
