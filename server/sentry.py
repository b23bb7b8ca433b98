"""Errors to Sentry, if `SENTRY_DSN` is set; nothing that people have entered goes with them."""

from typing import Any

import sentry_sdk
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
from sentry_sdk.types import Event, Hint
from starlette.types import ASGIApp

from dbscope import masked
from server.config import settings
from server.logs import safe_text

HEADERS = ("host", "user-agent", "content-type", "content-length")  # and no Referer, for one


def start() -> None:
    """Connect to Sentry.

    Its automatic integrations stay off: they record statements, and the middleware sees all that
    matters here, being outermost: exceptions of endpoints, and COMMITs that failed.
    """
    if settings.sentry_dsn is None:
        return
    sentry_sdk.init(
        settings.sentry_dsn.get_secret_value(),
        environment=settings.environment,
        auto_enabling_integrations=False,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        before_send=without_values,
    )


def without_values(event: Event, hint: Hint) -> Event:
    """Keep the kind of an error and its traceback, and leave out what the database quotes."""
    _, error, _ = hint.get("exc_info") or (None, None, None)
    for told in event.get("exception", {}).get("values", []):
        told["value"] = ""
    if error is not None and (values := event.get("exception", {}).get("values")):
        values[-1]["value"] = masked(safe_text(error))
    if logged := event.get("logentry"):  # the words, without what was put into them
        event["logentry"] = {"message": masked(logged.get("message", ""))}
    event.pop("extra", None)
    request: dict[str, Any] = event.get("request", {})
    for private in ("cookies", "data", "query_string"):
        request.pop(private, None)
    headers = request.get("headers", {})
    request["headers"] = {name: headers[name] for name in HEADERS if name in headers}
    return event


class SentryMiddleware:
    """Sentry's middleware if there is a DSN, and nothing at all if there is none.

    Args:
        app: what is inside.
    """

    def __new__(cls, app: ASGIApp) -> Any:
        """Return what is to be called."""
        return app if settings.sentry_dsn is None else SentryAsgiMiddleware(app)
