"""PostgreSQL: what is set on every connection."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL


def engine_options(url: URL) -> dict[str, Any]:  # noqa: ARG001
    """Return what `create_engine` needs; nothing so far that a URL could not say."""
    return {}
