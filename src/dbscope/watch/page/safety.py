"""Who may see the page: nobody, unless it is asked for; then whoever has the token, or is let in.

A page that shows the SQL of an application is worth an attack: another site that asks the browser
for it, a name that resolves to this machine (DNS rebinding), a frame around it.
"""

from __future__ import annotations

import hmac
import inspect
import secrets
from collections.abc import Callable, Collection
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from dbscope.watch.share import folder

COOKIE = "dbscope_watch"
ASKED = b"x-dbscope-watch"  # of what the page sends itself
LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
CSP = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = [
    (b"content-security-policy", CSP.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
Auth = Callable[[Any], Any]


def token() -> str:
    """Return the token: that of all workers, or one of this process where they share nothing."""
    try:
        return folder.token()
    except (OSError, AttributeError):  # not ours; or no such thing on this system
        return secrets.token_urlsafe(24)


class Guard:
    """Decides about each request of the page.

    Args:
        auth: of the application: given Starlette's `Request`, whether to let it in; may be async.
            None: whoever has the token.
        hosts: names that the page may be asked for by; None: this machine's, or with `auth` any.
    """

    def __init__(self, auth: Auth | None, hosts: Collection[str] | None) -> None:
        self.auth = auth
        self.token = token() if auth is None else ""
        self.hosts = hosts if hosts is not None or auth is not None else LOCAL

    async def refuses(self, scope: Any, *, asks: bool = False) -> int | None:
        """Return the status to refuse a request by; None lets it in.

        Args:
            scope: of the request.
            asks: it is one that has the database asked, and has to be sent by a script of the page.
        """
        headers = {name.lower(): value for name, value in scope["headers"]}
        if scope["method"] not in ({"POST"} if asks else {"GET", "HEAD"}):
            return 405
        if asks and not is_of_page(headers):
            return 403
        if self.hosts is not None and host_of(headers) not in self.hosts:
            return 421
        if headers.get(b"sec-fetch-site", b"none") not in {b"none", b"same-origin"}:
            return 403
        return None if await self._knows(scope, headers) else 401 if self.auth is None else 403

    async def _knows(self, scope: Any, headers: dict[bytes, bytes]) -> bool:
        if self.auth is None:
            return self.is_token(cookie_of(headers))
        from starlette.requests import Request

        found = self.auth(Request(scope))
        return bool(await found if inspect.isawaitable(found) else found)

    def is_token(self, given: str) -> bool:
        """Tell whether this is the token, in a time that tells nothing else."""
        return hmac.compare_digest(given.encode(), self.token.encode())

    def signs_in(self, scope: Any) -> bool:
        """Tell whether the token is in the address, which is then taken out of it."""
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])
        return self.auth is None and self.is_token(given[0])

    def cookie(self, path: str) -> tuple[bytes, bytes]:
        """Return the header that lets this browser in, and no script of it see why."""
        told = f"{COOKIE}={self.token}; Path={path}; HttpOnly; SameSite=Strict"
        return b"set-cookie", told.encode()


def is_of_page(headers: dict[bytes, bytes]) -> bool:
    """Tell whether a script of this page has sent it: no form and no other site can.

    Another site may not send a header of its own to here unless it is allowed to, and a browser
    says of each POST where it comes from.
    """
    origin, host = headers.get(b"origin", b""), headers.get(b"host", b"")
    is_same = headers.get(b"sec-fetch-site") == b"same-origin"
    return ASKED in headers and (is_same or origin.rpartition(b"//")[2] == host)


def host_of(headers: dict[bytes, bytes]) -> str:
    """Return the name that the page is asked for by, without its port."""
    host = headers.get(b"host", b"").decode("latin-1")
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def cookie_of(headers: dict[bytes, bytes]) -> str:
    """Return the token that the browser has, if it has one."""
    try:
        found = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
    except Exception:  # of another application on this host
        return ""
    return "" if found is None else found.value
