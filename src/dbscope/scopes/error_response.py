"""What the client is told when the work could not be kept."""

from __future__ import annotations

import json
import logging
from typing import Any

from dbscope.errors import ClientTimeout, DatabaseUnavailable, PoolTimeout

logger = logging.getLogger("dbscope")

RETRY_AFTER = b"1"  # seconds
PARTLY = "a part of the work may be stored"


async def by_handler(scope: Any, failure: BaseException, send: Any) -> None:
    """Answer a failed COMMIT by the application's own exception handler for that error.

    Raises:
        BaseException: the failure itself, if there is none; the server answers 500.
    """
    handler = handler_of(scope, failure)
    if handler is None:
        raise failure
    # Starlette is here if its application is.
    from starlette.requests import Request

    response = await handled(handler, Request(scope, no_more_body), failure)
    await response(scope, no_more_body, send)


async def handled(handler: Any, connection: Any, failure: BaseException) -> Any:
    """Return what an exception handler makes of an error; a plain one runs in a thread."""
    from starlette._utils import is_async_callable
    from starlette.concurrency import run_in_threadpool

    if is_async_callable(handler):
        return await handler(connection, failure)
    return await run_in_threadpool(handler, connection, failure)


async def no_more_body() -> dict[str, Any]:
    """Be the `receive` of a response that has nothing to read."""
    return {"type": "http.disconnect"}


def handler_of(scope: Any, failure: BaseException) -> Any:
    """Return the handler of the application for this error, along its classes."""
    handlers = getattr(scope.get("app"), "exception_handlers", {})
    for cls in type(failure).__mro__:
        if cls is Exception:  # that one is ServerErrorMiddleware's, which is outside of us
            break
        if cls in handlers:
            return handlers[cls]
    return None


async def of_ours(error: BaseException, send: Any, *, stored: bool) -> bool:
    """Answer an error for which there is a status, where the application has no answer.

    Args:
        error: what has become of the request.
        send: of the server.
        stored: a part of the work was committed before, or may have been, so that the client is
            not told to do all of it again.

    Returns:
        Whether it was answered.
    """
    if isinstance(error, DatabaseUnavailable | PoolTimeout):
        await unavailable(error, send, stored)
    elif isinstance(error, ClientTimeout):
        await too_slow(error, send, stored)
    else:
        return False
    return True


async def too_slow(error: ClientTimeout, send: Any, stored: bool) -> None:
    """Answer 408 (RFC 9110, 15.5.9), and close: what is still to come of the body is not read."""
    logger.warning("Answered 408: %s", error)
    detail = f"The request took too long to arrive; {PARTLY if stored else 'nothing was stored'}."
    await answer(408, detail, [(b"connection", b"close")], send)


async def unavailable(error: Exception, send: Any, stored: bool) -> None:
    """Answer 503 with `Retry-After` (RFC 9110, 15.6.4): the database is away or all is in use."""
    # All at once, when the pool is used up: a thousand tracebacks would take the loop seconds.
    shown = None if isinstance(error, PoolTimeout) else error
    logger.error("Answered 503: %s", error, exc_info=shown)
    detail = f"The database is not available; {PARTLY if stored else 'try again'}."
    await answer(503, detail, [] if stored else [(b"retry-after", RETRY_AFTER)], send)


async def answer(status: int, detail: str, more: list[tuple[bytes, bytes]], send: Any) -> None:
    """Send a short answer, in the form of FastAPI's own, with some more headers."""
    body = json.dumps({"detail": detail}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
