"""The header `Idempotency-Key`: what is asked of it, and how a request is refused.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from dbscope import arguments
from dbscope.errors import ConfigurationError
from dbscope.once.values import KEEP, NOT_FOR_EVER, digest

# Not cookies, and nothing that belongs to one connection or one moment.
KEPT_HEADERS = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-type",
    "etag",
    "last-modified",
    "link",
    "location",
    "vary",
)
ABOUT = "https://github.com/dbscope/dbscope/blob/main/docs/how-to/once.md#over-http"
TEXT = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')  # RFC 8941, 3.3.3
TOKEN = re.compile(r"[!#-+\--~]+")  # as many clients write it: visible, without quotes and commas
LONGEST = 255  # characters


def by_authorization(request: Any) -> str:
    """Tell clients apart by the header `Authorization`, of which only a digest is kept.

    Raises:
        ConfigurationError: the request has cookies instead. Which of them says who it is, only the
            application knows; a guess would give one user what was answered to another.
    """
    credentials: str | None = request.headers.get("authorization")
    if credentials is None and request.headers.get("cookie"):
        raise ConfigurationError(
            "A request with an Idempotency-Key has cookies and no Authorization, so it is not "
            "known whose key it is: Idempotency(user=lambda request: ...) tells it, for example "
            "by `request.session.get('user')`; `user=lambda request: None`: all share their keys."
        )
    return "" if credentials is None else digest(credentials)


@dataclass(frozen=True, kw_only=True)
class Idempotency:
    """What the header `Idempotency-Key` means in an application, or for one route.

    Args:
        required: a request without the header is refused (400).
        methods: of requests to which it applies.
        user: tells by the request (Starlette's) whose key it is; may be `async`. Applications with
            cookies or middlewares that know the user say so here.
        wait: for a request with the same key that is under way; False: it is a 409 at once.
        keep: for how long an answer is kept.
        body_limit: bytes; larger bodies are refused (413), and larger answers not kept.
        headers: of the answer, which are kept beside status and body.
        header: its name.

    Raises:
        ConfigurationError: `keep` is no time for which something could be kept.

    Example:
        >>> db.install(app, idempotency=Idempotency(user=lambda request: request.user.name))
    """

    required: bool = False
    methods: Collection[str] = ("POST", "PATCH")
    user: Callable[[Any], object] = by_authorization
    wait: bool = False
    keep: timedelta = timedelta(days=1)
    body_limit: int = 1024 * 1024
    headers: Collection[str] = KEPT_HEADERS
    header: str = "Idempotency-Key"

    def __post_init__(self) -> None:
        """Refuse at the start what would fail with the first key."""
        arguments.check("keep", self.keep, KEEP)
        arguments.check("keep", self.keep, NOT_FOR_EVER)

    def key(self, asgi: Any) -> str | None:
        """Return the key of a request, None if it has none.

        Raises:
            Refused: it is no text, or there are two.
        """
        name = self.header.lower().encode()
        given = [value for header, value in asgi["headers"] if header.lower() == name]
        if not given:
            return None
        found = None if len(given) > 1 else parsed(given[0].decode("latin-1").strip())
        if found is None:
            raise Refused(
                400,
                f"{self.header} cannot be read",
                f'It is one text of 1 to {LONGEST} visible characters, best a UUID: "8e03978e-…".',
            )
        return found


def parsed(value: str) -> str | None:
    """Return the text of a header's value; None if it is none."""
    if quoted := TEXT.fullmatch(value):
        value = re.sub(r"\\(.)", r"\1", quoted[1])
    elif not TOKEN.fullmatch(value):
        return None
    return value if 0 < len(value) <= LONGEST else None


class Refused(Exception):
    """A request that is answered by problem details (RFC 9457) instead of being done."""

    def __init__(self, status: int, title: str, detail: str, *, again: bool = False) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.detail = detail
        self.again = again  # it may be tried again at once

    def messages(self) -> list[dict[str, Any]]:
        """Return the answer."""
        problem = {
            "type": ABOUT,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        body = json.dumps(problem).encode()
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if self.again:
            headers.append((b"retry-after", b"1"))
        start = {"type": "http.response.start", "status": self.status, "headers": headers}
        return [start, {"type": "http.response.body", "body": body}]


def missing(header: str) -> Refused:
    """Return the refusal of a request without the header, where it is required."""
    detail = "This operation is done once for each key: send one."
    return Refused(400, f"{header} is missing", detail)


def reused(header: str) -> Refused:
    """Return the refusal of a key that came with another request."""
    detail = "Another request came with this key before. Send a new key with a new request."
    return Refused(422, f"{header} is already used", detail)


def under_way(header: str) -> Refused:
    """Return the refusal of a key whose request is still being done."""
    detail = "A request with this key is being done. Send it again later."
    return Refused(409, f"A request with the same {header} is outstanding", detail, again=True)


def not_kept(header: str) -> Refused:
    """Return the refusal of a key whose answer cannot be repeated."""
    detail = "It was done, and nothing is done again; its answer was a stream, or was too large."
    return Refused(409, f"The answer for this {header} was not kept", detail)


def cut_short(header: str) -> Refused:
    """Return the refusal of a key whose request has committed by itself, and then not ended."""
    told = (
        "A part of it was stored before it failed, and nothing is done again. Look what is there, "
        "and send what is missing with a new key."
    )
    return Refused(409, f"The request with this {header} was not done to its end", told)


def too_large(limit: int) -> Refused:
    """Return the refusal of a body that is larger than what is read for a key."""
    return Refused(413, "The content is too large", f"With a key at most {limit} bytes are read.")
