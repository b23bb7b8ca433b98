"""The branches of revisions: the folder, the heads and the order of each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError

from dbscope import AsyncDatabase, Database, MigrationError
from dbscope.migrate.revisions import Revision, Status

AnyDatabase = Database[Any] | AsyncDatabase[Any]


def has_branches(script: ScriptDirectory) -> bool:
    """Tell whether each branch has its folder; a tree that was there before may have none."""
    return len(script.version_locations) > 1


def position(script: ScriptDirectory, branch: str) -> dict[str, Any]:
    """Return what Alembic must be told to put a revision at the end of a branch.

    Raises:
        MigrationError: there is no such branch.
    """
    if not has_branches(script):
        return {"head": "head", "branch_label": None, "version_path": None}
    if branch in require(script, branch):
        return {"head": f"{branch}@head", "branch_label": None, "version_path": None}
    return {
        "head": "base",
        "branch_label": branch,
        "version_path": str(Path(script.dir).absolute() / branch),
    }


def require(script: ScriptDirectory, branch: str) -> set[str]:
    """Return the labels of the branches that have a revision; a tree without branches takes any.

    Raises:
        MigrationError: this is none of them, and has no folder either.
    """
    labels = {label for each in script.walk_revisions() for label in each.branch_labels}
    there = labels | {Path(folder).name for folder in script.version_locations}
    if has_branches(script) and branch not in there:
        raise MigrationError(f"There is no branch {branch!r}, but {' and '.join(sorted(there))}.")
    return labels


def put(directive: Any, script: ScriptDirectory, branch: str) -> None:
    """Put a revision that Alembic is about to write into a branch, if there are branches."""
    if has_branches(script):
        for name, value in position(script, branch).items():
            setattr(directive, name, value)


def revision_of(script: Script) -> Revision:
    """Return what the file of a revision tells."""
    return Revision(
        id=script.revision,
        message=script.doc,
        path=Path(script.path),
        branches=tuple(sorted(script.branch_labels)),
        down=_as_tuple(script.down_revision),
        depends_on=_as_tuple(script.dependencies),
        is_head=script.is_head,
    )


def status_of(script: ScriptDirectory, stored: Iterable[str]) -> Status:
    """Return where a database is.

    Args:
        script: the files.
        stored: what the version table says. It has no row for what another row depends on.
    """
    known = {each.revision for each in script.walk_revisions()}
    at = tuple(each for each in stored if each in known)
    pending = list(script.iterate_revisions("heads", at, implicit_base=True))
    return Status(
        current=_revisions(script.get_all_current(at)),
        heads=_revisions(script.get_revisions(script.get_heads())),
        pending=tuple(map(revision_of, reversed(pending))),
        unknown=tuple(sorted(each for each in stored if each not in known)),
    )


def heads_of(script: ScriptDirectory, branch: str) -> tuple[str, ...]:
    """Return the ids of the heads of a branch; where there are no branches, of the tree."""
    heads = script.get_revisions(script.get_heads())
    is_all = not has_branches(script)
    return tuple(each.revision for each in heads if is_all or branch in each.branch_labels)


def to_run(script: ScriptDirectory, target: str, status: Status) -> bool:
    """Tell whether an upgrade to a target may run anything; what is no target is for Alembic."""
    if status.pending:
        return True
    try:
        script.get_revisions(target)
    except CommandError:
        return True
    return False


def below(script: ScriptDirectory, target: str, status: Status) -> str:
    """Return the target of a downgrade by steps as Alembic understands it at a merge, too.

    Args:
        script: the files.
        target: `schema@-1`; whatever else it is, is returned as it is.
        status: where the database is.

    Raises:
        MigrationError: the steps lead past a merge, behind which there are several ways; or no
            revision was run.
    """
    steps = re.fullmatch(r"(?:(\w+)@)?-(\d+)", target)
    if steps is None:
        return target
    if not status.current:
        raise MigrationError(f"{target}: no revision was run, so none can be taken back.")
    branch, left = steps[1], int(steps[2])
    at = [each for each in status.current if branch is None or branch in each.branches]
    current = at[0] if len(at) == 1 else None
    while current is not None and left > 0:
        left -= 1
        if len(current.down) > 1:
            if left == 0:
                return current.down[0]
            raise MigrationError(
                f"{target} leads past {current}, a merge: there are several ways on, by "
                f"{' and '.join(current.down)}. Name the revision to go back to."
            )
        found = script.get_revision(current.down[0]) if current.down else None
        current = revision_of(found) if found else None
    return target


def _revisions(scripts: Iterable[Script]) -> tuple[Revision, ...]:
    revisions = map(revision_of, scripts)
    return tuple(sorted(revisions, key=lambda each: (each.branches, each.id)))


def _as_tuple(ids: str | Iterable[str] | None) -> tuple[str, ...]:
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, str) else tuple(ids)
