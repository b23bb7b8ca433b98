"""The client of a request: it cannot hold a transaction open for as long as it likes.

A body that never ends would keep a connection, and on SQLite everybody's turn to write. So the time
for which a transaction waits for its client is counted; in sum and not for each message, since one
byte every second is as good as none.
"""

from __future__ import annotations

import asyncio
import logging
import types
from typing import TYPE_CHECKING, Any

from dbscope.aio import shield
from dbscope.errors import ClientTimeout
from dbscope.scopes.unended import frames_of
from dbscope.unit import callsite
from dbscope.unit.current import current

if TYPE_CHECKING:
    from collections.abc import Generator

    from dbscope.scopes.request import Message, Receive, RequestScope
    from dbscope.unit.unit import Unit

logger = logging.getLogger("dbscope")
LOOK_AGAIN = 5.0  # seconds; whether another task of the request has begun a transaction
WORTH_A_WORD = 0.1  # seconds; a middleware takes some time for a body that is there, too
told: set[str] = set()  # the places that were warned of


class Client:
    """Who sends the body of a request, until all of it is there.

    Args:
        request: the scope of the request.
        receive: of the server.
    """

    def __init__(self, request: RequestScope, receive: Receive) -> None:
        self.request = request
        self.is_heard = False  # all of the body is there, or the client is gone
        self.spent = 0.0  # seconds for which the transactions below have waited
        self._receive = receive
        self._held: list[object] = []

    async def receive(self) -> Message:
        """Return the next message; one that is there already costs no clock.

        Raises:
            ClientTimeout: a transaction has waited for it for too long.
        """
        message = await self._next()
        self.is_heard = not message.get("more_body", False)
        return message

    @types.coroutine
    def _next(self) -> Generator[Any, Any, Message]:
        steps: Any = self._receive().__await__()
        try:
            waits_for = next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        return (yield from Wait(self).over(steps, waits_for).__await__())

    def waiting(self) -> list[Unit]:
        """Return what holds a transaction now that must not wait for ever."""
        if self.request.started:
            return []
        scopes = (current.get() or self.request).with_ancestors()
        found = [unit for scope in {*scopes, self.request} for unit in list(scope.units.values())]
        return [unit for unit in found if unit.connection and unit.source.client_wait is not None]

    def note(self, units: list[Unit]) -> None:
        """Begin to count: anew, unless a transaction is still the one that has waited before."""
        held: list[object] = [unit.connection for unit in units]
        if not any(each in self._held for each in held):
            self.spent = 0.0
        self._held = held

    def warn(self) -> None:
        """Name the line that waits; once for each, since every request may come by."""
        where = place_of_wait()
        if self.spent > WORTH_A_WORD and where not in told:
            told.add(where)
            logger.warning(
                "%s waits for its client at %s while it holds a transaction: read the body before "
                "the first statement, or give the connection back before: `db.release()`.",
                self.request,
                where,
            )

    def give_up(self) -> ClientTimeout:
        """Let nothing be kept of this request, and no other answer leave; return the error."""
        seconds = f"{self.spent:.1f} s, at {place_of_wait()}"
        error = ClientTimeout(f"{self.request} has waited for its client for {seconds}.")
        for unit in self.waiting():
            unit.source.counters["client_timeouts"] += 1
            unit.break_all(error)
            unit.doomed = True
        self.request.failure = error
        return error


class Wait:
    """One wait for a message, with a clock that runs while a transaction is held."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._since: float | None = None  # when a transaction was seen to wait
        self._alarm: asyncio.TimerHandle | None = None
        self._timer = asyncio.timeout(None)

    async def over(self, steps: Any, waits_for: Any) -> Message:
        """Wait, and no longer than a transaction may."""
        try:
            async with self._timer:
                self._look()
                message: Message = await shield.resume(steps, waits_for)
        except TimeoutError:
            self._stop()
            if not self._timer.expired():
                raise
            raise self._client.give_up() from None
        except BaseException:
            self._stop()
            raise
        if self._stop():
            self._client.warn()
        return message

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        units = self._client.waiting()
        limit = min((unit.source.client_wait or 0.0 for unit in units), default=None)
        if limit is None:
            self._alarm = loop.call_later(LOOK_AGAIN, self._look)
            return
        if self._since is None:
            self._since = loop.time()
            self._client.note(units)
        left = limit - self._client.spent - (loop.time() - self._since)
        if left > 0:
            self._alarm = loop.call_later(left, self._look)
        else:
            self._timer.reschedule(loop.time())

    def _stop(self) -> bool:
        """Stop the clock; tell whether it ran."""
        if self._alarm is not None:
            self._alarm.cancel()
        if self._since is None:
            return False
        self._client.spent += asyncio.get_running_loop().time() - self._since
        return True


def place_of_wait() -> str:
    """Return the line of the application that waits now; a library's, if none of its does."""
    last = None
    for frame in frames_of(asyncio.current_task()):
        if callsite.is_of_application(frame):
            return str(callsite.Place(frame.f_code, frame.f_lineno))
        last = last or (None if callsite.is_of_session(frame) else frame)
    return "an unknown place" if last is None else str(callsite.Place(last.f_code, last.f_lineno))
