"""What the client is told when the work could not be kept."""

from __future__ import annotations

import json
import logging
from typing import Any

from dbscope.errors import PoolTimeout

logger = logging.getLogger("dbscope")

RETRY_AFTER = b"1"  # seconds


async def by_handler(scope: Any, failure: BaseException, send: Any) -> None:
    """Answer a failed COMMIT by the application's own exception handler for that error.

    Raises:
        BaseException: the failure itself, if there is none; the server answers 500.
    """
    handler = handler_of(scope, failure)
    if handler is None:
        raise failure
    # Starlette is here if its application is.
    from starlette._utils import is_async_callable
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request

    request = Request(scope, no_more_body)
    if is_async_callable(handler):
        response = await handler(request, failure)
    else:
        response = await run_in_threadpool(handler, request, failure)
    await response(scope, no_more_body, send)


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


async def unavailable(error: Exception, send: Any) -> None:
    """Answer 503 with `Retry-After` (RFC 9110, 15.6.4): the database is away or all is in use."""
    # All at once, when the pool is used up: a thousand tracebacks would take the loop seconds.
    told = None if isinstance(error, PoolTimeout) else error
    logger.error("Answered 503: %s", error, exc_info=told)
    body = json.dumps({"detail": "The database is not available; try again."}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", RETRY_AFTER),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
