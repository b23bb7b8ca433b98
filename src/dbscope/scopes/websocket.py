"""The scope of one websocket: it autocommits, and holds nothing while the socket is idle."""

from __future__ import annotations

import asyncio
import sys
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dbscope.errors import ConfigurationError, DatabaseUnavailable, PoolTimeout
from dbscope.scopes import background, carrying, client, error_response, unended
from dbscope.scopes.asgi import path_of
from dbscope.scopes.routes import refuse_override, route_choice
from dbscope.scopes.settle import close, log_hooks, log_others, run_hooks, settled, used
from dbscope.unit.current import Scope, current
from dbscope.unit.policy import Mode
from dbscope.unit.sessions import is_by_hand, is_clean

if TYPE_CHECKING:
    from dbscope.scopes.asgi import ASGIApp, ASGIScope, Message, Receive, Send
    from dbscope.unit.source import Source
    from dbscope.unit.unit import Unit

INTERNAL_ERROR = 1011  # RFC 6455, 7.4.1
TRY_AGAIN_LATER = 1013  # the registry of RFC 6455, 11.7
DENIAL = "websocket.http.response"  # the extension of ASGI: an answer instead of the socket


class WebSocketScope(client.ClientScope):
    """The scope of a connection, and what stands between the application and the other end.

    Each statement and each flush is a transaction of its own. What is pending is stored before the
    next message leaves or is waited for, so the other end is told of nothing that is not stored.
    """

    kind = "websocket"
    kind_inside = "websocket message"
    exception: BaseException | None = None  # left the endpoint
    is_accepted = False
    is_over = False

    def __init__(self, asgi: ASGIScope, receive: Receive, send: Send) -> None:
        self.asgi = asgi
        super().__init__(f"the websocket {path_of(asgi)}", Mode.AUTOCOMMIT)
        self.client_receive = receive
        self.inner: dict[Scope, unended.Opener] = {}  # what was opened in it, and has not ended
        self._send = send
        self._task = asyncio.current_task()
        self._behind: asyncio.Task[None] | None = None
        self._around = sys.exception()
        self._peers: WeakKeyDictionary[Any, client.Peer] = WeakKeyDictionary()

    def mode_of(self, source: Source) -> Mode:
        """Return what the connection is to a database: read-only if its route says so."""
        refuse_override(self.asgi, source)
        chosen = route_choice(self.asgi, source)
        if chosen is Mode.ATOMIC:
            raise ConfigurationError(
                f"`@db.atomic_requests` is on {self}, which may stay open for hours, so it cannot "
                "be one transaction. Open one for each message, by `async with db.scope(): ...` or "
                "`@db.atomic`."
            )
        return chosen or self.mode

    def note_opened(self, inner: Scope) -> None:
        """Note a scope that was opened inside, and who has opened it."""
        self.inner[inner] = unended.opener()

    def note_ended(self, inner: Scope) -> None:
        """Forget a scope that has ended."""
        self.inner.pop(inner, None)

    async def receive(self) -> Message:
        """Wait for the other end, and not for ever while a transaction is open."""
        await self._store()
        self._run_background()
        message = await self._peer().waited_for(self.client_receive())
        if message["type"] == "websocket.disconnect":
            self.is_over = True
        return message

    async def send(self, message: Message) -> None:
        """Store what is pending, and then send."""
        await self._store()
        await self._peer().waited_for(self._send(message))
        self._run_background()
        if message["type"] == "websocket.accept":
            self.is_accepted = True
        elif message["type"] != "websocket.send":
            self.is_over = True

    def _peer(self) -> client.Peer:
        task = asyncio.current_task()
        peer = self._peers.get(task)
        if peer is None:
            own = self.own_scopes if task is self._task else None
            peer = self._peers[task] = client.Peer(self, own)
        return peer

    def own_scopes(self) -> set[Scope]:
        """Return this scope, and what a dependency has opened that is left after the connection.

        A plain one has opened it in a thread, whose ContextVars nobody else sees.
        """
        opened = list(self.inner.items())
        return {self, *(scope for scope, by in opened if not unended.goes_on(by))}

    async def _store(self) -> None:
        """Store what is pending in the connection's own sessions, unless something has failed.

        Another task of the connection may wait while this one is about to add more.
        """
        if not self.units or asyncio.current_task() is not self._task:
            return
        if sys.exception() not in (None, self._around):
            return
        for unit in list(self.units.values()):
            if is_pending(unit):
                assert unit.session is not None
                await carrying.carried([unit], unit.session.flush)
            if unit.pending_hooks:
                log_hooks(await carrying.carried([unit], run_hooks, unit), self)

    def _run_background(self) -> None:
        """Run what is left to be run, in its order, while the connection goes on."""
        if self.background and (self._behind is None or self._behind.done()):
            self._behind = background.start(self)

    # -- its life ------------------------------------------------------------------------------

    async def serve(self, app: ASGIApp) -> None:
        """Serve the connection in this scope."""
        token = current.set(self)
        try:
            await app(self.asgi, self.receive, self.send)
            await self._end()
        except BaseException as error:
            await self._end_failed(error)
        finally:
            self.closed = True
            close(self)
            self.exception = self.failure = self._around = None  # they refer to our frames
            current.reset(token)
            self._run_background()
            if self._behind is not None and not isinstance(sys.exception(), CancelledError):
                await asyncio.shield(self._behind)

    async def _end(self) -> None:
        """Store what is left, unless an exception has left the endpoint."""
        if units := used(self):
            keep = self.exception is None and self.failure is None
            errors, hook_errors = await settled(units, keep=keep)
            log_hooks(hook_errors, self)
            if errors:
                first, *others = errors
                log_others(others, self)
                await self._tell(first)

    async def _tell(self, failure: BaseException) -> None:
        """Let the application's own handler for this error close the socket.

        Raises:
            BaseException: the failure itself, if there is none, or nobody to be told.
        """
        handler = error_response.handler_of(self.asgi, failure)
        if handler is None or self.is_over or not self.is_accepted:
            raise failure
        from starlette.websockets import WebSocket, WebSocketState

        websocket = WebSocket(self.asgi, self.receive, self.send)
        websocket.client_state = websocket.application_state = WebSocketState.CONNECTED
        await error_response.handled(handler, websocket, failure)

    async def _end_failed(self, error: BaseException) -> None:
        """Roll back what is left, and let no other end take it for a success."""
        if units := used(self):
            errors, hook_errors = await settled(units, keep=False)
            log_others(errors, self)
            log_hooks(hook_errors, self)
        if isinstance(error, Exception) and not self.is_over and await self._refuse(error):
            return
        raise error

    async def _refuse(self, error: Exception) -> bool:
        """Close the socket, or do not open it; tell whether the server need not hear of it."""
        is_away = isinstance(error, DatabaseUnavailable | PoolTimeout)
        if self.is_accepted:
            self.is_over = True
            code = TRY_AGAIN_LATER if is_away else INTERNAL_ERROR
            await self._send({"type": "websocket.close", "code": code, "reason": ""})
        elif is_away and DENIAL in (self.asgi.get("extensions") or ()):
            await error_response.of_ours(error, self._deny, stored=self.stored)
            return True
        return False  # a server answers 500 itself, and logs

    async def _deny(self, message: Message) -> None:
        await self._send({**message, "type": f"websocket.{message['type']}"})


def is_pending(unit: Unit) -> bool:
    """Tell whether a unit has something to store that is no part of a block, and may be now."""
    session = unit.session
    if session is None or unit.blocks or unit.turn.is_taken() or is_clean(session):
        return False
    return not is_by_hand(session)
