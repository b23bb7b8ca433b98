"""Rules for the value of an option: each returns what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Rule = Callable[[Any], str | None]


def only(*allowed: Any, why: str) -> Rule:
    """Return a rule that accepts these values only."""
    return lambda value: (
        None
        if any(value is each or (isinstance(each, str) and value == each) for each in allowed)
        else why
    )


def never(why: str) -> Rule:
    """Return a rule that accepts nothing."""
    return lambda value: why  # noqa: ARG005


def number(*kinds: type, or_none: bool = False) -> Rule:
    """Return a rule that accepts numbers of these kinds; what the environment says is text."""

    def wrong(value: Any) -> str | None:
        if (value is None and or_none) or (isinstance(value, kinds) and value is not True):
            return None
        return f"it must be {' or '.join(each.__name__ for each in kinds)}"

    return wrong


def mapping(value: Any) -> str | None:
    """Say what is wrong with a mapping."""
    return None if value is None or isinstance(value, Mapping) else "it must be a mapping"
