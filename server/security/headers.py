"""What every answer tells the browser, unless the endpoint has said otherwise."""

from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DAY = 24 * 60 * 60  # seconds
USUAL = {
    "Cache-Control": "no-store",  # what is one person's is kept by no browser and no proxy
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def usual(hsts_days: int) -> Mapping[str, str]:
    """Return the headers, with the promise that this host speaks HTTPS for some time."""
    hsts = {"Strict-Transport-Security": f"max-age={hsts_days * DAY}"}
    return {**USUAL, **(hsts if hsts_days else {})}


class HeadersMiddleware:
    """Adds what is missing.

    Args:
        app: what is inside.
        headers: names and values.
    """

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self.app = app
        self.headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""

        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with)
