"""No other site may act for a user of ours (CSRF).

A browser says where a request comes from; what says nothing is no browser, and has none of our
cookies. With `SameSite=Lax` this is the second lock on the same door: that one alone would let a
subdomain pass, and older browsers know it not
(https://developer.mozilla.org/docs/Web/Security/Attacks/CSRF).
"""

from fastapi import HTTPException, WebSocketException
from fastapi.requests import HTTPConnection

from server.config import settings

SAFE = {"GET", "HEAD", "OPTIONS", "QUERY"}


async def refuse_other_sites(request: HTTPConnection) -> None:
    """Answer 403 to a request that changes something and was sent by another site's page.

    A websocket is refused, too: what it tells would be read by that page.
    """
    if request.scope.get("method") in SAFE or not is_foreign(request):
        return
    if request.scope["type"] == "websocket":
        raise WebSocketException(1008, "This was asked by the page of another site.")
    raise HTTPException(403, "This request comes from the page of another site.")


def is_foreign(request: HTTPConnection) -> bool:
    """Tell whether a browser says that another site has sent it."""
    origin = request.headers.get("origin")
    if origin in settings.cors_origins:
        return False
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    host = request.headers.get("host", "")
    return origin is not None and origin.partition("://")[2].lower() != host.lower()
