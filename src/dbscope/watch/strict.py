"""Problems that are raised where they are found: for tests."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, Protocol, Self

from dbscope.errors import ProblemFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dbscope.watch.problems import Finder, Problem


class Startable(Protocol):
    """A watch."""

    @property
    def is_on(self) -> bool:
        """Whether it records."""
        ...

    @property
    def finder(self) -> Finder:
        """Who looks for problems, while it records."""
        ...

    def start(self, *args: Any, **kwargs: Any) -> None:
        """Record."""

    def stop(self) -> None:
        """Record no longer."""


def allowed_by(allow: Mapping[str, str], problem: Problem) -> str | None:
    """Return the reason for which a problem is allowed; None if it is not.

    Args:
        allow: reasons by patterns of `A.bs`, of a statement, or of `file.py:12`.
        problem: it.
    """
    names = [name for name in (problem.what, problem.line, problem.at) if name]
    found = (why for each, why in allow.items() if any(fnmatch(name, each) for name in names))
    return next(found, None)


class Strict:
    """While it lasts, a problem is raised where it is found: for tests.

    Args:
        watch: it is on meanwhile.
        allow: what is allowed, and why: patterns of `A.bs`, of a statement, or of `file.py:12`.
    """

    def __init__(self, watch: Startable, allow: Mapping[str, str]) -> None:
        self._watch = watch
        self._allow = allow
        self._was_on = True
        self._finder: Finder
        self._around: Callable[[Problem], None] | None = None
        self._found: list[Problem] = []

    def found(self, problem: Problem) -> None:
        """Raise the problem, unless it is allowed."""
        if not self.allows(problem):
            self._found.append(problem)
            raise ProblemFound(str(problem))

    def allows(self, problem: Problem) -> bool:
        """Tell whether it is allowed."""
        return allowed_by(self._allow, problem) is not None

    def __enter__(self) -> Self:
        self._was_on = self._watch.is_on
        self._watch.start(share=False)
        self._finder = self._watch.finder
        self._around, self._finder.strict = self._finder.strict, self.found
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._finder.strict = self._around  # though the watch may have been stopped meanwhile
        if not self._was_on:
            self._watch.stop()
        if kind is None and self._found:  # somebody has swallowed it
            raise ProblemFound(str(self._found[0]))
