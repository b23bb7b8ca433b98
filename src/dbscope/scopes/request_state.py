"""`request.state.db`: the session, opened when somebody looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class StateWithSession(dict[str, Any]):
    """The `state` of an ASGI scope, with names that give the session of a database.

    What is written goes to the original as well, whose users may have kept hold of it.
    """

    def __init__(self, original: dict[str, Any], databases: dict[str, Any]) -> None:
        super().__init__(original)
        self._original = original
        self._databases = databases

    def __missing__(self, key: str) -> Any:
        if key in self._databases:
            return self._databases[key].session
        return self._original[key]

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._original[key] = value

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._original.pop(key, None)


class StateOfAttempt(StateWithSession):
    """The `state` of a request that may be done again: `attempt`, and `last_attempt`."""

    def __init__(self, original: dict[str, Any], number: int, is_last: Callable[[], bool]) -> None:
        super().__init__(original, {})
        self._number = number
        self._is_last = is_last

    def __missing__(self, key: str) -> Any:
        if key == "attempt":
            return self._number
        if key == "last_attempt":
            return self._is_last()
        return super().__missing__(key)


def with_session(state: dict[str, Any], databases: dict[str, Any]) -> dict[str, Any]:
    """Return the state, with the sessions of these databases on it."""
    return StateWithSession(state, databases)
