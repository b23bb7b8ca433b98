"""The refusals as Starlette's `HTTPException`: a handler for either of the two finds them."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException

from dbscope.crud.refusals import BadCursor, BadRequest, NotFound, NullRefused


class HTTPNotFound(NotFound, HTTPException):
    """404."""

    def __init__(self, detail: str) -> None:
        HTTPException.__init__(self, 404, detail)


class HTTPBadRequest(BadRequest, HTTPException):
    """422, as FastAPI answers a parameter that it cannot use."""

    def __init__(self, detail: str) -> None:
        HTTPException.__init__(self, 422, detail)


class HTTPBadCursor(BadCursor, HTTPBadRequest):
    """422 too."""


class HTTPNullRefused(NullRefused, HTTPBadRequest):
    """422 too."""


ANSWERS: dict[type[Exception], type[Any]] = {
    NotFound: HTTPNotFound,
    BadRequest: HTTPBadRequest,
    BadCursor: HTTPBadCursor,
    NullRefused: HTTPNullRefused,
}
