"""What a scope does with a database by itself, and which responses and errors keep the work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from enum import StrEnum
from typing import Any

from dbscope import arguments

ASGIScope = MutableMapping[str, Any]
Headers = Iterable[tuple[bytes, bytes]]
AtomicRequests = bool | Callable[[ASGIScope], bool]
CommitVeto = Callable[[ASGIScope, int, Headers, BaseException | None], bool]
Message = MutableMapping[str, Any]
BeforeRetry = Callable[[ASGIScope, BaseException, Message | None], Awaitable[object] | object]

FIRST_ERROR_STATUS = 400
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "QUERY"})


class Mode(StrEnum):
    """What a scope is to a database, as long as no `atomic()` says otherwise."""

    ATOMIC = "atomic"  # all of it is one transaction
    AUTOCOMMIT = "autocommit"  # each statement and each flush is one
    READONLY = "read-only"  # autocommit that never writes


def mode(*, atomic: bool, readonly: bool = False) -> Mode:
    """Return the mode that these two words ask for; read-only ones need no transaction."""
    if readonly is True:
        return Mode.READONLY
    if atomic is True and readonly is False:
        return Mode.ATOMIC
    arguments.check("atomic", atomic, arguments.FLAG)
    arguments.check("readonly", readonly, arguments.FLAG)
    return Mode.AUTOCOMMIT


def unsafe_methods(scope: ASGIScope) -> bool:
    """Tell whether the request may change something: for `atomic_requests=unsafe_methods`.

    GET, HEAD, OPTIONS and QUERY then autocommit; all other requests are one transaction
    (https://www.rfc-editor.org/rfc/rfc9110#section-9.2.1).

    Args:
        scope: the ASGI scope of the request.
    """
    return scope["method"] not in SAFE_METHODS


def wants_atomic(atomic_requests: AtomicRequests, scope: ASGIScope) -> bool:
    """Tell whether a request is one transaction by the setting of the database."""
    return bool(atomic_requests(scope)) if callable(atomic_requests) else atomic_requests


def default_commit_veto(
    scope: ASGIScope,  # noqa: ARG001  (part of the veto's signature)
    status: int,
    headers: Headers,  # noqa: ARG001
    exception: BaseException | None,
) -> bool:
    """Roll back if the status is 400 or above, or if an exception left the endpoint.

    The application says otherwise by `db.keep(response)`, or `db.set_rollback(True)`.

    Args:
        scope: the ASGI scope of the request.
        status: the status of the response that is about to leave.
        headers: its headers, as ASGI pairs of bytes.
        exception: what left the endpoint, even if a handler has turned it into this response.

    Returns:
        True to roll back.
    """
    return status >= FIRST_ERROR_STATUS or exception is not None


def keeps(
    veto: CommitVeto | None,
    scope: ASGIScope,
    message: ASGIScope,
    exception: BaseException | None,
) -> bool:
    """Tell whether the work behind this `http.response.start` is to be committed."""
    if veto is None:
        return exception is None
    return not veto(scope, message["status"], message.get("headers", ()), exception)
