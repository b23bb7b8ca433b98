"""The cookie session (`request.session`): what a failed request wrote there is taken back."""

from __future__ import annotations

from collections.abc import MutableMapping
from copy import deepcopy
from typing import Any, cast

Memory = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]


def remember(asgi: MutableMapping[str, Any], *, deep: bool = False) -> Memory | None:
    """Return the session as it is now, if a middleware outside of us has put one there.

    Args:
        asgi: the scope of the request.
        deep: what is inside its lists and dicts too, which costs more.
    """
    session: Any = asgi.get("session")
    if not isinstance(session, dict):
        return None
    known = cast("dict[str, Any]", session)
    items = dict(known)
    return known, deepcopy(items) if deep else items, dict(getattr(known, "__dict__", {}))


def restore(memory: Memory | None) -> None:
    """Make it what it was: not changed, for who sends the cookie only if it was."""
    if memory is None:
        return
    session, items, flags = memory
    dict[str, Any].clear(session)
    dict[str, Any].update(session, items)
    if hasattr(session, "__dict__"):
        session.__dict__.clear()
        session.__dict__.update(flags)
