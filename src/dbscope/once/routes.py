"""Which route a request is for, before the router knows it; and what the route says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from dbscope.once.idempotency import Idempotency

MARK = "__dbscope_idempotent__"
INSTALLED = "dbscope_idempotency"


class Asked:
    """What some route or application of this process asks for."""

    required = False


def mark(function: Any, database: Any, settings: Mapping[str, Any]) -> Any:
    """Mark a route's function: its requests may have a key."""
    if not callable(function):
        raise TypeError(f"a route's function is decorated, not {function!r}")
    replace(Idempotency(), **settings)  # refuses what there is not
    setattr(function, MARK, (database, dict(settings)))
    Asked.required = Asked.required or bool(settings.get("required"))
    return function


def settings_of(asgi: Any) -> tuple[Any, Idempotency] | None:
    """Return the database and the settings of a request; None if it can have no key.

    Only for requests that have the header, or that may have to have it, the route is looked for;
    it is noted in the scope, as the router will do, for it says what a request is to a database.
    """
    installed: tuple[Any, Idempotency] | None = getattr(asgi.get("app"), INSTALLED, None)
    usual = Idempotency() if installed is None else installed[1]
    name = usual.header.lower().encode()
    has_key = any(header.lower() == name for header, _ in asgi["headers"])
    if not (has_key or usual.required or Asked.required):
        return None
    asgi.update(found(getattr(asgi.get("app"), "routes", ()), dict(asgi)))
    endpoint = asgi.get("endpoint")
    marked: tuple[Any, dict[str, Any]] | None = getattr(endpoint, MARK, None)
    if marked is not None:
        return marked[0], replace(usual, **marked[1])
    if endpoint is None or installed is None or asgi["method"] not in usual.methods:
        return None
    return installed


def found(routes: Iterable[Any], asgi: dict[str, Any]) -> dict[str, Any]:
    """Return the endpoint and the route that the router will choose, by their own `matches`."""
    from starlette.routing import Match

    for route in routes:
        match, child = matched(route, asgi)
        if match is not Match.FULL:
            continue
        inner = getattr(route, "routes", None)
        if inner and hasattr(route, "app"):  # a mounted application, or a host
            return found(inner, {**asgi, **child})
        return {name: child[name] for name in ("endpoint", "route") if name in child}
    return {}


def matched(route: Any, asgi: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return how a route matches, and what it adds to the scope.

    FastAPI keeps an included router as it is, and tells only inside which of its routes it is.
    """
    inside = getattr(route, "_match", None)
    if inside is None:
        match, child = route.matches(asgi)
        return match, child
    match, child, chosen, _ = inside(asgi)
    if chosen is not None and hasattr(chosen, "_match"):
        return match, matched(chosen, asgi)[1]
    return match, child
