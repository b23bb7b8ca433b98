"""The session: a cookie that everybody can read, and only we can write."""

from collections.abc import Sequence

import itsdangerous
from pydantic import SecretStr
from starlette.middleware.sessions import SessionMiddleware
from starlette.types import ASGIApp

DAY = 24 * 60 * 60  # seconds


class SignedSessionMiddleware(SessionMiddleware):
    """Starlette's, with a succession of keys: the first signs, all of them verify.

    The cookie is `HttpOnly` and `SameSite=Lax`. Over HTTPS it is `Secure`, and by the prefix of its
    name bound to this host (https://datatracker.ietf.org/doc/draft-ietf-httpbis-rfc6265bis).

    Args:
        app: what is inside.
        keys: the newest first.
        days: how long a cookie is valid.
        https: whether it is only sent over HTTPS.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[SecretStr], days: int, *, https: bool) -> None:
        name = "__Host-session" if https else "session"
        super().__init__(app, "", session_cookie=name, max_age=days * DAY, https_only=https)
        oldest_first = [key.get_secret_value() for key in reversed(keys)]
        self.signer = itsdangerous.TimestampSigner(oldest_first)
