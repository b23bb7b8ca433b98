"""How a page is made: the template, the headers, and who looks at it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from server.config import settings
from server.security.users import LOGIN, Visitor

HERE = Path(__file__).parent
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
}
LIVE = {  # of a page that is told what changes
    **HEADERS,
    "Content-Security-Policy": HEADERS["Content-Security-Policy"]
    + "; script-src 'self'; connect-src 'self'",
}
PICTURES = {path.stem: path.name for path in (HERE / "static/pictures").glob("*.svg")}
FEW = 5
HEADINGS = {
    404: "There is nothing here",
    409: "That did not work",
    422: "Something is wrong here",
    429: "Wait a moment",
    500: "Something broke",
    503: "Back in a moment",
}

templates = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=not settings.in_production,
)


def picture(name: str) -> str | None:
    """Return the file with the picture of an item that is called so, if there is one."""
    return PICTURES.get(name.lower().replace(" ", "-"))


def stock_words(left: int) -> tuple[str, str]:
    """Return how many there are in words, and of which kind that is, for the style."""
    if left == 0:
        return "Sold out", "none"
    return (f"Only {left} left", "few") if left <= FEW else (f"{left} left", "")


def version_of(file: str) -> str:
    """Return what is new in the name of a file that is: no browser shows that of yesterday."""
    return hashlib.sha256((HERE / "static" / file).read_bytes()).hexdigest()[:8]


templates.filters["stock_words"] = stock_words
templates.globals["wants_watch"] = settings.wants_watch
templates.filters["picture"] = picture
templates.filters["money"] = "{:,.2f}".format
templates.globals["style"] = version_of("shop.css")
templates.globals["script"] = version_of("stock.js")


@dataclass(frozen=True)
class Viewer:
    """Who looks at the page, as the request found them; outlives a transaction that failed."""

    name: str
    credit: Decimal


async def remember_visitor(request: Request, user: Visitor) -> None:
    """Keep for the header of the page who is logged in."""
    request.state.viewer = Viewer(user.name, user.credit) if user else None


def page(
    request: Request,
    template: str,
    shown: Mapping[str, object],
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a page.

    Args:
        request: whose page it is.
        template: the name of a file in `templates`.
        shown: what the template asks for.
        status: of the answer.
        headers: further ones.
    """
    viewer, known = viewer_of(request)
    html = templates.get_template(template).render(viewer=viewer, known=known, **shown)
    return HTMLResponse(html, status, {**HEADERS, **(headers or {})})


def viewer_of(request: Request) -> tuple[Viewer | None, bool]:
    """Return who looks at the page, and whether to offer what is for users.

    Where nobody was looked up, as on the page of an error, the cookie has to do.
    """
    if hasattr(request.state, "viewer"):
        return request.state.viewer, request.state.viewer is not None
    return None, LOGIN in request.scope.get("session", {})


def error_page(
    request: Request, status: int, title: str, detail: str, headers: Mapping[str, str] | None
) -> Response:
    """Return the page that says what went wrong; it asks the database nothing."""
    shown: dict[str, object] = {
        "code": status,
        "title": title,
        "heading": HEADINGS.get(status, title),
        "detail": detail,
        "wait": (headers or {}).get("Retry-After"),
        "back": getattr(request.state, "back", None),
    }
    return page(request, "error.html", shown, status, headers)


def see_other(path: str) -> Response:
    """Send the browser to another page of ours, by GET: reloading that repeats nothing."""
    return RedirectResponse(path, 303, HEADERS)


def to_login(path: str) -> Response:
    """Ask who it is first, and come back to this path then."""
    return see_other("/shop/login?" + urlencode({"next": path}))
