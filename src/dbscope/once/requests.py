"""A request with a key: claimed in its own transaction, answered as the first time if it was done.

It stands between the middlewares of the application and its router, so that those see each request,
and each answer.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload
from urllib.parse import quote

from sqlalchemy.exc import DBAPIError

from dbscope.backends import conflicts
from dbscope.backends.inserting import UnderWay
from dbscope.errors import ConfigurationError, KeyReused
from dbscope.once import idempotency, routes, store
from dbscope.once.answers import NOT_KEPT, Held, Message, Send, decoded, encoded
from dbscope.once.claiming import claim, find, session_of
from dbscope.once.idempotency import Idempotency, Refused
from dbscope.once.store import Claim, Found
from dbscope.once.values import digest
from dbscope.scopes import carrying
from dbscope.scopes.request import RequestScope
from dbscope.scopes.routes import Routes
from dbscope.unit.current import open_scope, unit_of
from dbscope.unit.hooks import is_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.unit.unit import Unit


F = TypeVar("F", bound="Callable[..., Any]")
SERVED = "dbscope.once"  # of an ASGI scope
at_work: set[tuple[str, str]] = set()  # database and id of what this process is doing


def install(app: Any, database: Any, settings: object) -> None:
    """Let the requests of an application have a key."""
    if not isinstance(settings, bool | Idempotency):
        raise TypeError(f"idempotency must be True, or Idempotency(...), not {settings!r}.")
    if settings is not False:
        chosen = Idempotency() if settings is True else settings
        setattr(app, routes.INSTALLED, (database, chosen))
        Routes.around = serve


class KeyedRoutes:
    """What a database has for routes."""

    @overload
    def idempotent(self, function: F, /) -> F: ...

    @overload
    def idempotent(self, /, **settings: Any) -> Callable[[F], F]: ...

    def idempotent(self, function: Any = None, /, **settings: Any) -> Any:
        """Decorate a route: its requests may have an `Idempotency-Key`, see `Idempotency`.

        Args:
            function: of the route; the decorator may stand above or below that of the route.
            settings: what is to be different from what the application has: `required=True`.

        Example:
            >>> @app.post("/payments")
            ... @db.idempotent(required=True)
            ... async def pay(payment: Payment) -> Receipt: ...
        """
        if function is None:
            return partial(self._keyed, settings)
        return self._keyed(settings, function)

    def _keyed(self, settings: dict[str, Any], function: Any) -> Any:
        Routes.around = serve
        return routes.mark(function, self, settings)


async def serve(app: Any, asgi: Any, receive: Any, send: Send) -> None:
    """Serve a request, which may have a key."""
    request = open_scope()
    if asgi["type"] != "http" or SERVED in asgi or not isinstance(request, RequestScope):
        await app(asgi, receive, send)
        return
    asked = routes.settings_of(asgi)
    if asked is None:
        await app(asgi, receive, send)
        return
    asgi[SERVED] = True
    try:
        keyed = await read(asgi, receive, *asked)
    except Refused as refused:
        await send_all(refused.messages(), send)
        return
    if keyed is None:
        await app(asgi, receive, send)
    else:
        await keyed.serve(app, asgi, send)


async def send_all(messages: list[Any], send: Send) -> None:
    """Send a short answer."""
    for message in messages:
        await send(message)


async def read(asgi: Any, receive: Any, database: Any, settings: Idempotency) -> Keyed | None:
    """Read the key and the body of a request; None if it has no key.

    Raises:
        Refused: it has none, and should; or what it has cannot be taken.
    """
    key = settings.key(asgi)
    if key is None:
        if settings.required:
            raise idempotency.missing(settings.header)
        return None
    from starlette.requests import Request

    user: Any = settings.user(Request(asgi))
    if inspect.isawaitable(user):
        user = await user
    body = Body(receive)
    await body.read(settings.body_limit)
    if database.is_async and not is_async(asgi["endpoint"]):
        database = database.sync
    text = b"\0".join(
        [asgi["method"].encode(), asgi["path"].encode(), asgi["query_string"], body.content]
    )
    who = "" if user is None else quote(str(user), safe="")  # in which there is no colon
    claimed = Claim(f"http:{who}:{key}", digest(text), settings.keep)
    return Keyed(database, settings, claimed, body)


class Body:
    """The body of a request, which is read before the application reads it.

    Args:
        receive: of the server.
    """

    def __init__(self, receive: Any) -> None:
        self._receive = receive
        self._messages: list[Message] = []
        self.content = b""
        self.is_whole = True  # unless the client went away before

    async def read(self, limit: int) -> None:
        """Read all of it.

        Raises:
            Refused: it is larger than the limit, in bytes.
        """
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self._receive()
            self._messages.append(message)
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise idempotency.too_large(limit)
            more = message.get("more_body", False)
            self.is_whole = message["type"] == "http.request"
        self.content = b"".join(parts)

    async def receive(self) -> Message:
        """Be the `receive` of the application: what was read, then what comes."""
        if self._messages:
            return self._messages.pop(0)
        message: Message = await self._receive()
        return message


class Keyed:
    """One request with a key.

    Args:
        database: in whose transaction the key is claimed.
        settings: of the route.
        claimed: the key.
        body: of the request.
    """

    def __init__(self, database: Any, settings: Idempotency, claimed: Claim, body: Body) -> None:
        self.source: Any = database._source  # noqa: SLF001
        self.settings = settings
        self.claimed = claimed
        self.body = body
        self.name = (str(database.url), claimed.id)

    async def serve(self, app: Any, asgi: Any, send: Send) -> None:
        """Do it, or answer as before."""
        if not self.body.is_whole:  # the client is gone, which the application hears as ever
            await app(asgi, self.body.receive, send)
            return
        if not self.settings.wait and self.name in at_work:
            await send_all(idempotency.under_way(self.settings.header).messages(), send)
            return
        at_work.add(self.name)
        try:
            found = await self._claim()
            if found is None:
                held = Held(send, self.settings.body_limit, self._store, self._started)
                await app(asgi, self.body.receive, held.send)
            else:
                await send_all(self._again(found), send)
        except Refused as refused:
            await send_all(refused.messages(), send)
        finally:
            self._started()

    def _started(self) -> None:
        at_work.discard(self.name)

    def _again(self, found: Found) -> list[Message]:
        if found.result is None:
            raise idempotency.cut_short(self.settings.header)
        if found.result == NOT_KEPT:
            raise idempotency.not_kept(self.settings.header)
        return decoded(found.result)

    async def _claim(self) -> Found | None:
        """Claim the key as the first thing in the transaction of the request.

        Raises:
            Refused: it is somebody else's, or of another request.
        """
        unit = unit_of(self.source)
        if unit.block is None:
            raise ConfigurationError(
                f"{unit.scope} came with an {self.settings.header}, and autocommits: the key would "
                "be stored apart from the work. Let the route be one transaction."
            )
        try:
            return await carrying.carried([unit], self._claim_in, unit)
        except KeyReused as error:
            raise idempotency.reused(self.settings.header) from error
        except UnderWay as error:
            raise idempotency.under_way(self.settings.header) from error
        except DBAPIError as error:
            if conflicts.is_retryable(error):  # a deadlock of those who want the same key
                raise idempotency.under_way(self.settings.header) from error
            raise

    def _claim_in(self, unit: Unit) -> Found | None:
        if not self.source.sandboxes.opened:
            return claim(unit, self.claimed, wait=self.settings.wait)
        # There a second transaction has to wait for whoever has written: the row is written last.
        found = find(unit, self.claimed)
        if found is None:
            unit.blocks[0].before_commit(partial(self._finish, unit, None))
        return found

    def _store(self, start: Message, body: bytes | None) -> None:
        """See to it that the answer is stored with the work, if that is.

        A row without one is of a request that has committed by hand, and has not come to its end.
        """
        unit = unit_of(self.source)
        answer = NOT_KEPT if body is None else encoded(start, body, self.settings.headers)
        if unit.blocks and unit.blocks[0].outcome is None:
            unit.blocks[0].before_commit(partial(self._finish, unit, answer))

    def _finish(self, unit: Unit, answer: bytes | None) -> None:
        """Store the answer in the row that is ours; or in a new one, in this very transaction.

        Who rolls back by hand takes the row away, too, and goes on in another transaction.

        Raises:
            Refused: somebody else has the key by then, so that nothing of this may be stored.
        """
        session = session_of(unit)
        if store.finish(session, self.claimed, answer):
            return
        try:
            found = claim(unit, self.claimed, wait=False)
        except (KeyReused, UnderWay) as error:
            raise idempotency.under_way(self.settings.header) from error
        if found is not None:
            raise idempotency.under_way(self.settings.header)
        store.finish(session, self.claimed, answer)
