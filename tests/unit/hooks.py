"""What the tests of hooks share."""

from collections.abc import Callable
from typing import Any


class Trouble(Exception):
    """Something that a hook or the application raises."""


class Log(list[Any]):
    """What has run, in order."""

    def note(self, what: Any) -> Callable[[], None]:
        """Return a hook that writes this down."""
        return lambda: self.append(what)


def fail() -> None:
    """Be a hook that fails."""
    raise Trouble("a hook failed")
