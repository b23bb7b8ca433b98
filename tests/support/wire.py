"""As much of PostgreSQL's protocol as it takes to see a COMMIT go by."""

import re
from collections.abc import Iterator

COMMIT = re.compile(r"(\s|/\*.*?\*/)*(COMMIT|END)\b", re.IGNORECASE | re.DOTALL)
STARTUP = b""  # the messages that open a connection have no type: their code says what they are
LOGIN = 3  # the protocol's major version, in the place where requests have a code of their own
ENCRYPTION_CODES = (80877103, 80877104)  # SSLRequest, GSSENCRequest
AWAITED = (b"Q", b"S", b"H")  # Query, Sync, Flush: the client now waits for an answer
READY = b"Z"


def is_commit(sql: str | None) -> bool:
    """Say whether a statement ends the transaction for good."""
    return sql is not None and COMMIT.match(sql) is not None


def asks_for_encryption(message: bytes) -> bool:
    """Say whether a startup message asks for TLS or GSS."""
    return startup_code(message) in ENCRYPTION_CODES


def is_login(message: bytes) -> bool:
    """Say whether a startup message opens a session, rather than cancelling another's query."""
    return startup_code(message) >> 16 == LOGIN


def startup_code(message: bytes) -> int:
    """Read what kind of startup message this is."""
    return int.from_bytes(message[4:8], "big")


class Messages:
    """Cuts a stream of bytes into messages, each with its type."""

    def __init__(self, *, from_client: bool) -> None:
        self._starting = from_client
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Give the messages that are complete by now: their type and all of their bytes."""
        self._buffer += data
        while (size := self._size()) is not None:
            message = bytes(self._buffer[:size])
            del self._buffer[:size]
            yield STARTUP if self._starting else message[:1], message
            self._starting = self._starting and not is_login(message)

    def _size(self) -> int | None:
        start = 0 if self._starting else 1  # the length counts itself, but not the type
        if len(self._buffer) < start + 4:
            return None
        size = start + int.from_bytes(self._buffer[start : start + 4], "big")
        return size if len(self._buffer) >= size else None


class Statements:
    """Knows which SQL a client's messages execute, prepared statements included."""

    def __init__(self) -> None:
        self._prepared: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}

    def executed(self, kind: bytes, message: bytes) -> str | None:
        """Return the SQL that this message executes, if it executes any."""
        body = message[5:]
        if kind == b"Q":
            return body.rstrip(b"\0").decode()
        if kind == b"P":
            name, sql, _types = body.split(b"\0", 2)
            self._prepared[name] = sql.decode()
        elif kind == b"B":
            portal, name, _values = body.split(b"\0", 2)
            self._portals[portal] = self._prepared[name]
        elif kind == b"E":
            return self._portals[body.split(b"\0", 1)[0]]
        return None
