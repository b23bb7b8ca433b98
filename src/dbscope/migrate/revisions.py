"""What there is to tell about revisions: the files, and what the database has of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Revision:
    """One revision, as its file tells; `str()` of it is for people."""

    id: str
    message: str
    path: Path
    branches: tuple[str, ...]
    """The labels of the branches that it belongs to: `("schema",)`."""
    down: tuple[str, ...]
    """The revisions that it follows; none: the first of its branch; several: a merge."""
    depends_on: tuple[str, ...]
    """Revisions of other branches that must be there before it."""
    is_head: bool

    def __str__(self) -> str:
        labels = f" ({', '.join(self.branches)})" if self.branches else ""
        return f"{self.id}{labels} {self.message}"


@dataclass(frozen=True)
class Status:
    """Where a database is, against the files."""

    current: tuple[Revision, ...]
    """What the database is at: the newest revision of each branch that has a file."""
    heads: tuple[Revision, ...]
    """The newest revision of each branch, by the files."""
    pending: tuple[Revision, ...]
    """What is behind: the revisions that `upgrade()` would run, in this order."""
    unknown: tuple[str, ...]
    """What is ahead: ids in the database that have no file here; newer code wrote them."""
    differences: tuple[str, ...] | None = None
    """Of a database that has tables of the revisions but no version: what the models have and it
    has not; None: it is no such database."""

    @property
    def is_current(self) -> bool:
        """Tell whether it is neither behind nor ahead."""
        return not self.pending and not self.unknown
