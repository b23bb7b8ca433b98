"""The client of a request or a websocket: it cannot hold a transaction open as long as it likes.

A body that never ends would keep a connection, and on SQLite everybody's turn to write; so would
a client that does not read what it is sent. So the time for which a transaction waits for its
client is counted; in sum and not for each message, since one byte every second is as good as none.
"""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dbscope.aio import shield
from dbscope.errors import ClientTimeout
from dbscope.scopes.unended import frames_of
from dbscope.unit import callsite
from dbscope.unit.current import Scope, current
from dbscope.watch.dispatch import tell_all
from dbscope.watch.events import ClientTimedOut, ClientWaits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from dbscope.scopes.asgi import Message, Receive
    from dbscope.unit.unit import Unit

T = TypeVar("T")

LOOK_AGAIN = 5.0  # seconds; whether another task of the request has begun a transaction
WORTH_A_WORD = 0.1  # seconds; a middleware takes some time for a body that is there, too
warned: set[str] = set()  # lines of code that were warned of


class ClientScope(Scope):
    """A scope with a client at the other end."""

    runs_background = True
    started = False  # the answer to a request has
    failure: BaseException | None = None
    client_receive: Receive


class Client:
    """Who sends the body of a request, until all of it is there.

    Args:
        scope: that of the request, or of the websocket.
    """

    waits = "waits for its client"
    advice = (
        "read the body before the first statement, or give the connection back before: "
        "`db.release()`"
    )

    def __init__(self, scope: ClientScope) -> None:
        self.scope = scope
        self.is_heard = False  # all of the body is there, or the client is gone
        self.spent = 0.0  # seconds for which the transactions below have waited
        self._held: list[object] = []

    async def receive(self) -> Message:
        """Return the next message of the body.

        Raises:
            ClientTimeout: a transaction has waited for it for too long.
        """
        message = await self.waited_for(self.scope.client_receive())
        self.is_heard = not message.get("more_body", False)
        return message

    @types.coroutine
    def waited_for(self, work: Awaitable[T]) -> Generator[Any, Any, T]:
        """Wait for the client, and not for ever; what is there already costs no clock.

        Raises:
            ClientTimeout: a transaction has waited for too long.
        """
        steps: Any = work.__await__()
        try:
            waits_for = next(steps)
        except StopIteration as end:
            return cast("T", end.value)
        return cast("T", (yield from Wait(self).over(steps, waits_for).__await__()))

    def scopes(self) -> set[Scope]:
        """Return the scopes whose transactions wait for the client now."""
        if self.scope.started:
            return set()
        return {*(current.get() or self.scope).with_ancestors(), self.scope}

    def waiting(self) -> list[Unit]:
        """Return what holds a transaction now that must not wait for ever."""
        found = [unit for scope in self.scopes() for unit in list(scope.units.values())]
        return [unit for unit in found if unit.connection and unit.source.client_wait is not None]

    def note(self, units: list[Unit]) -> None:
        """Begin to count: anew, unless a transaction is still the one that has waited before."""
        held: list[object] = [unit.connection for unit in units]
        if not any(each in self._held for each in held):
            self.spent = 0.0
        self._held = held

    def warn(self) -> None:
        """Name the line that waits; once for each, since every request may come by."""
        where = line_of_wait()
        if self.spent > WORTH_A_WORD and where not in warned:
            warned.add(where)
            tell_all(ClientWaits, self.scope, self.waits, where, self.advice)

    def give_up(self) -> ClientTimeout:
        """Keep nothing of these transactions, and let no other answer leave; return the error."""
        seconds = f"{self.spent:.1f} s, at {line_of_wait()}"
        error = ClientTimeout(f"{self.scope} {self.waits}, and has done so for {seconds}.")
        for unit in self.waiting():
            unit.source.events.tell(ClientTimedOut, unit)
            unit.break_all(error)
            unit.doomed = True
        self.scope.failure = error
        return error


class Reader(Client):
    """Who reads what it is sent, after the response has started: the tail waits for it."""

    waits = "sends to a slow client"
    advice = (
        "read what is sent in a scope of its own, page by page, or give the connection back "
        "before: `db.release()`"
    )

    def scopes(self) -> set[Scope]:
        """Return the scopes whose transactions wait for the client now."""
        return {*(current.get() or self.scope).with_ancestors(), self.scope}


class Peer(Reader):
    """The other end of a websocket, which may say nothing for a day."""

    waits = "waits for the other end"
    advice = "leave the block or the scope before, so that each message has one of its own"

    def __init__(self, scope: ClientScope, own: Callable[[], set[Scope]] | None) -> None:
        super().__init__(scope)
        self._own = own  # None in other tasks than that of the connection, which goes on meanwhile

    def scopes(self) -> set[Scope]:
        """Return the scopes whose transactions wait for the other end now."""
        found = super().scopes() - {self.scope}
        return found if self._own is None else found | self._own()


class Wait:
    """One wait for a message, with a clock that runs while a transaction is held."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._since: float | None = None  # when a transaction was seen to wait
        self._alarm: asyncio.TimerHandle | None = None
        self._timer = asyncio.timeout(None)

    async def over(self, steps: Any, waits_for: Any) -> Any:
        """Wait, and no longer than a transaction may."""
        try:
            async with self._timer:
                self._look()
                result = await shield.resume(steps, waits_for)
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
        return result

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


def line_of_wait() -> str:
    """Return the line of the application that waits now; a library's, if none of its does."""
    last = None
    for frame in frames_of(asyncio.current_task()):
        if callsite.is_of_application(frame):
            return str(callsite.Place(frame.f_code, frame.f_lineno))
        last = last or (None if callsite.is_of_session(frame) else frame)
    return "an unknown place" if last is None else str(callsite.Place(last.f_code, last.f_lineno))
