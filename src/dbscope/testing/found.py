"""What a run of tests has found: each problem once, and whether it is new."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dbscope.watch import lines
from dbscope.watch.problems import IDLE, Problem
from dbscope.watch.strict import allowed_by

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Key = tuple[str, str, str]  # its kind, what it is about, and the file


@dataclass(frozen=True, slots=True)
class Found:
    """A problem, and where it was seen.

    Args:
        problem: where it was worst.
        test: the first in which it was seen.
        state: new, known (in the baseline), or allowed.
        reason: for which it is allowed.
    """

    problem: Problem
    test: str
    state: str
    reason: str | None = None

    def told(self) -> dict[str, Any]:
        """Return what another process can read."""
        return asdict(self)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """Return what another process has told."""
        problem = Problem(**told["problem"])
        return cls(problem, told["test"], told["state"], told["reason"])

    def __str__(self) -> str:
        return f"{self.problem} ({self.test})"


def key_of(problem: Problem) -> Key:
    """Return what stays the same when lines move, and when it is another time."""
    file = (problem.line or problem.at or "").rpartition(":")[0]
    return problem.kind, "" if problem.kind == IDLE else problem.what, file


def below(root: Path, line: str | None) -> str | None:
    """Return a line by the name of its file below a folder, wherever the run was started."""
    if line is None:
        return None
    file, _, number = line.rpartition(":")
    path = Path(lines.ROOT, file)
    return f"{path.relative_to(root).as_posix()}:{number}" if path.is_relative_to(root) else line


class Problems:
    """All that were found, with their files as they are called below the root of the project.

    Args:
        root: that.
        allow: what is allowed everywhere, and why.
        is_known: tells what is in the baseline; None: there is none.
    """

    def __init__(
        self, root: Path, allow: Mapping[str, str], is_known: Callable[[Problem], bool] | None
    ) -> None:
        self._root = root
        self._allow = allow
        self._is_known = is_known
        self._found: dict[Any, Found] = {}

    def state(self, problem: Problem, here: Mapping[str, str]) -> str:
        """Tell whether a problem is new, known or allowed.

        Args:
            problem: it.
            here: what is allowed in this test only, with the reasons.
        """
        placed = self._placed(problem)
        if self._reason(placed, here) is not None:
            return "allowed"
        return "known" if self._is_known is not None and self._is_known(placed) else "new"

    def add(self, problem: Problem, test: str, here: Mapping[str, str]) -> None:
        """Note a problem."""
        placed, state = self._placed(problem), self.state(problem, here)
        self.take(Found(placed, test, state, self._reason(placed, here)))

    def _reason(self, problem: Problem, here: Mapping[str, str]) -> str | None:
        return allowed_by({**self._allow, **here}, problem)

    def _placed(self, problem: Problem) -> Problem:
        line, at = below(self._root, problem.line), below(self._root, problem.at)
        return replace(problem, line=line, at=at)

    def take(self, found: Found) -> None:
        """Note a problem that was found: of one that comes again, where it is worst."""
        place = found.problem.place, found.state
        known = self._found.get(place)
        if known is None:
            self._found[place] = found
        elif known.problem.times < found.problem.times:
            self._found[place] = replace(known, problem=found.problem)

    def all(self) -> list[Found]:
        """Return all, in an order that is the same for the next run."""
        return sorted(self._found.values(), key=lambda each: (key_of(each.problem), str(each)))

    def new(self) -> list[Found]:
        """Return those that nobody knows of."""
        return [each for each in self.all() if each.state == "new"]
