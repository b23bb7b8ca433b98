"""A cursor of a sandbox: what it sends goes through its connection, to where that lives."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from dbscope.testing.line import Holder

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.testing.line import Line

NOTHING = object()


class Sending(Holder, Protocol):
    """The connection, as its cursors see it."""

    line: Line

    def check_open(self) -> None:
        """Raise if its sandbox has ended."""

    def send(self, sql: str, call: Callable[[], Any], parameters: Any) -> Any:
        """Send a statement."""


class SandboxCursor:
    """A cursor, which is made where the connection lives.

    Args:
        connection: of the sandbox.
        make: makes the driver's.
        in_pieces: its rows stay at the server until they are asked for.
    """

    __slots__ = ("_connection", "_in_pieces", "_make", "_real")
    _connection: Sending
    _in_pieces: bool
    _real: Any

    def __init__(self, connection: Sending, make: Callable[[], Any], in_pieces: bool) -> None:
        object.__setattr__(self, "_connection", connection)
        object.__setattr__(self, "_make", make)
        object.__setattr__(self, "_in_pieces", in_pieces)
        object.__setattr__(self, "_real", None)

    def _made(self) -> Any:
        if self._real is None:
            self._connection.check_open()
            object.__setattr__(self, "_real", self._make())
        return self._real

    def _send(self, name: str, sql: Any, parameters: Any) -> Any:
        def call() -> Any:
            method = getattr(self._made(), name)
            return method(sql) if parameters is NOTHING else method(sql, parameters)

        if self._in_pieces:
            self._connection.unread.add(self)
        return self._connection.send(str(sql), call, parameters)

    def execute(self, sql: Any, parameters: Any = None) -> Any:
        """Send a statement."""
        return self._send("execute", sql, NOTHING if parameters is None else parameters)

    def executemany(self, sql: Any, parameters: Any) -> Any:
        """Send a statement for each set of parameters."""
        return self._send("executemany", sql, parameters)

    def __getattr__(self, name: str) -> Any:
        """Give what the driver's has; what may wait, waits at its home."""
        if self._real is None:
            if name in {"description", "lastrowid"}:
                return None
            if name == "rowcount":
                return -1
            self._connection.line.home.call(self._made)
        member = getattr(self._real, name)
        if self._in_pieces and name.startswith(("fetch", "nextset")):
            return partial(self._fetch, member)
        return member

    def _fetch(self, method: Callable[..., Any], *args: Any) -> Any:
        return self._connection.line.home.call(partial(method, *args))

    def __setattr__(self, name: str, value: Any) -> None:
        """Set it on the driver's."""
        if self._real is None:
            self._connection.line.home.call(self._made)
        setattr(self._real, name, value)

    def __iter__(self) -> Any:
        return iter(self._real)

    async def _async_soft_close(self) -> None:
        """There is nothing that another loop could wait for."""

    def close(self) -> None:
        """End it; of an async driver all rows are here already."""
        real, connection = self._real, self._connection
        if real is None:
            return
        if self._in_pieces:
            if connection.line.sandboxes:
                connection.line.home.call(real.close)
            if self in connection.unread:  # who has only read may be asked to give way now
                connection.unread.remove(self)
                connection.line.rest(connection)
        elif connection.line.engine.dialect.is_async:
            real.fetchall()
        else:
            real.close()
