"""The shop as people see it: pages made on the server, which work without JavaScript."""

from pathlib import Path

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles

from server.pages import items, live, logins, orders
from server.pages.forms import whole_form
from server.pages.page import error_page, remember_visitor

__all__ = ["error_page", "is_page", "router"]

router = APIRouter(include_in_schema=False)
for part in (items, logins, orders):
    router.include_router(
        part.router, dependencies=[Depends(whole_form), Depends(remember_visitor)]
    )
router.include_router(live.router)
files = StaticFiles(directory=Path(__file__).with_name("static"))


@router.get("/shop/static/{path:path}")
async def static_file(request: Request, path: str) -> Response:
    """Answer with the style sheet or the picture; this touches no database."""
    response = await files.get_response(path, request.scope)
    response.headers["Cache-Control"] = "public, max-age=3600"
    return response


def is_page(request: Request) -> bool:
    """Tell whether a page is wanted, and no JSON."""
    path = request.url.path
    return path == "/" or path.startswith("/shop/")
