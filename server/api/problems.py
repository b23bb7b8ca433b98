"""What clients are told when it does not work: problem details for programs, pages for people."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm.exc import StaleDataError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from dbscope import ClientTimeout, DatabaseUnavailable, PoolTimeout, TransactionOutcomeUnknown
from server import pages
from server.crud.orders import CannotOrder
from server.schemas.problems import InvalidField, Problem
from server.security.passwords import Busy

logger = logging.getLogger("server")
TOO_LARGE = 413


class ProblemResponse(JSONResponse):
    media_type = "application/problem+json"


def answer(
    request: Request,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: list[InvalidField] | None = None,
) -> Response:
    """Return the answer, as a page where pages are."""
    title = HTTPStatus(status).phrase
    if pages.is_page(request):
        return pages.error_page(request, status, title, detail, headers)
    problem = Problem(title=title, status=status, detail=detail, errors=errors)
    return ProblemResponse(problem.model_dump(exclude_none=True), status, headers)


async def refused(request: Request, error: HTTPException) -> Response:
    """Answer as the endpoint said."""
    return answer(request, error.status_code, error.detail, error.headers)


async def invalid(request: Request, error: RequestValidationError) -> Response:
    """Answer 422, and where the request is wrong; never with what was sent, which may be secret."""
    errors = [InvalidField(loc=list(each["loc"]), msg=each["msg"]) for each in error.errors()]
    return answer(request, 422, "The request is not as it has to be.", errors=errors)


async def conflict(request: Request, _error: Exception) -> Response:
    """Answer 409, also when it was COMMIT that failed: nothing is stored then."""
    return answer(request, 409, "This conflicts with what is stored.")


async def cannot_order(request: Request, error: CannotOrder) -> Response:
    """Answer 409, and say what is missing."""
    return answer(request, 409, str(error))


async def unavailable(request: Request, error: Exception) -> Response:
    """Answer 503 and when to come back (RFC 9110, 15.6.4)."""
    logger.error("Answered 503: %s", error)
    return answer(request, 503, "The database is not available; try again.", {"Retry-After": "1"})


async def busy(request: Request, _error: Busy) -> Response:
    """Answer 503: the rest of the shop goes on."""
    return answer(request, 503, "Too many log in at the moment; try again.", {"Retry-After": "2"})


async def too_slow(request: Request, error: ClientTimeout) -> Response:
    """Answer 408, and close: what is still to come is not read."""
    logger.warning("Answered 408: %s", error)
    return answer(request, 408, "The request took too long to arrive.", {"Connection": "close"})


async def gone(_request: Request, _error: ClientDisconnect) -> Response:
    """Answer somebody who has hung up: nobody reads it, and it is nobody's fault."""
    return Response(status_code=400)


async def failed(request: Request, error: Exception) -> Response:
    """Answer 500 without a word about why; the log and Sentry have it.

    The server closes the connection after an exception, and the answer has to say so.
    """
    detail = "That is our fault, and nothing was changed."
    if isinstance(error, TransactionOutcomeUnknown):
        detail = "It is not known whether this was stored: look before you try again."
    return answer(request, 500, detail, {"Connection": "close"})


HANDLERS: Mapping[Any, Any] = {
    HTTPException: refused,
    RequestValidationError: invalid,
    CannotOrder: cannot_order,
    IntegrityError: conflict,  # a name that is taken, an item that was ordered
    StaleDataError: conflict,  # somebody else changed or deleted it in the meantime
    DatabaseUnavailable: unavailable,
    PoolTimeout: unavailable,
    Busy: busy,
    ClientTimeout: too_slow,
    ClientDisconnect: gone,
}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says about these answers."""
    problem = {ProblemResponse.media_type: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    words = {"text/plain": {"schema": {"type": "string"}}}  # FastAPI's own, for too long a body
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": words if status == TOO_LARGE else problem,
        }
        for status in statuses
    }


def document(app: FastAPI) -> None:
    """Add the schema of the problems to the OpenAPI document."""
    made_by_fastapi = app.openapi

    def openapi() -> dict[str, Any]:
        document = made_by_fastapi()
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(schema.pop("$defs"), Problem=schema)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
