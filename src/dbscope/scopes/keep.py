"""`db.keep(response)`: keep the work of a request though its response tells of an error.

The response carries a mark that only this request knows. So it may be copied, wrapped and changed
on its way out, and no answer from elsewhere can be taken for it; and the mark never leaves.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, TypeVar

from dbscope.errors import ScopeMissing
from dbscope.unit.current import open_scope

if TYPE_CHECKING:
    from dbscope.scopes.asgi import Message

R = TypeVar("R")
NAME = b"x-dbscope-keep"
OLD_NAME = b"x-tm"  # which decided before, whoever had sent it
LENGTHS = frozenset(map(len, (NAME, OLD_NAME)))


def keep(response: R) -> R:
    """Mark the response in the request of the running code.

    Raises:
        ScopeMissing: outside any scope.
        TypeError: it has no headers, as Starlette's responses have.
    """
    headers: Any = getattr(response, "raw_headers", None)
    if headers is None:
        raise TypeError(f"db.keep() takes a response of Starlette or FastAPI, not {response!r}.")
    scope = open_scope()
    if scope is None:
        raise ScopeMissing("db.keep() was called outside any scope.")
    each: Any
    for each in scope.with_ancestors():
        if hasattr(each, "mark"):  # a request; what is around that is a test's
            each.mark = each.mark or secrets.token_hex().encode()
            headers.append((NAME, each.mark))
    return response


def is_marked(message: Message, mark: bytes | None) -> bool:
    """Tell whether this `http.response.start` has the mark."""
    return mark is not None and (NAME, mark) in [tuple(each) for each in message.get("headers", ())]


def without_marks(headers: Any) -> Any:
    """Return the headers without what is for us, or was; the very same if there is no such."""
    for header in headers:
        if len(header[0]) in LENGTHS and is_ours(header):
            return [header for header in headers if not is_ours(header)]
    return headers


def is_ours(header: Any) -> bool:
    """Tell whether a header is one of ours, in whatever spelling."""
    return header[0].lower() in (NAME, OLD_NAME)
