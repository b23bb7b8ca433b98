"""The API describes itself: Swagger UI from our own host, and a page that loads nothing else."""

import base64
import hashlib
import re
from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

FILES = Path(fastapi_offline.__file__).with_name("static")
SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
POLICY = (
    "default-src 'none'; script-src 'self' '{script}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def install(app: FastAPI) -> None:
    """Add `/docs` to an application that has an OpenAPI document."""
    html = bytes(
        get_swagger_ui_html(
            openapi_url=str(app.openapi_url),
            title=app.title,
            swagger_js_url="/docs/files/swagger-ui-bundle.js",
            swagger_css_url="/docs/files/swagger-ui.css",
            swagger_favicon_url="/shop/static/teapot.svg",
        ).body
    ).decode()
    headers = {"Content-Security-Policy": POLICY.format(script=script_of(html))}

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(html, headers=headers)

    app.mount("/docs/files", StaticFiles(directory=FILES))


def script_of(html: str) -> str:
    """Return what names the one script inside of the page, so that no other one is run."""
    (script,) = SCRIPT.findall(html)
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
