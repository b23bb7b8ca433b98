"""Which responses and errors keep the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

ASGIScope = MutableMapping[str, Any]
Headers = Iterable[tuple[bytes, bytes]]
CommitVeto = Callable[[ASGIScope, int, Headers, BaseException | None], bool]

FIRST_ERROR_STATUS = 400
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "QUERY"})
OVERRIDE_HEADER = b"x-tm"


def default_commit_veto(
    scope: ASGIScope,  # noqa: ARG001  (part of the veto's signature)
    status: int,
    headers: Headers,
    exception: BaseException | None,
) -> bool:
    """Roll back if the status is 400 or above, or if an exception left the endpoint.

    The response header `X-Tm: commit` keeps the work all the same, any other value of it rolls
    back; it is taken off before the response is sent (as in `pyramid_tm`).

    Args:
        scope: the ASGI scope of the request.
        status: the status of the response that is about to leave.
        headers: its headers, as ASGI pairs of bytes.
        exception: what left the endpoint, even if a handler has turned it into this response.

    Returns:
        True to roll back.
    """
    for name, value in headers:
        if name.lower() == OVERRIDE_HEADER:
            return value != b"commit"
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
