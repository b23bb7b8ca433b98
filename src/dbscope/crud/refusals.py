"""What is answered to a client who asked for something that cannot be given."""

from __future__ import annotations


class NotFound(LookupError):
    """There is no such row. Where Starlette is in use it is an `HTTPException` too: 404."""


class BadRequest(ValueError):
    """A limit, an order or a cursor that cannot be. With Starlette an `HTTPException` too: 422."""


class BadCursor(BadRequest):
    """A cursor that no page of this list has given."""


class NullRefused(BadRequest):
    """A null for a field that must have a value; the message names it. With Starlette 422."""
