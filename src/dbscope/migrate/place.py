"""Where things are: the settings of Alembic, and the folder of each branch."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from dbscope import ConfigurationError, MigrationError
from dbscope.migrate.revisions import Revision, Status

INI = "alembic.ini"
TOML = "pyproject.toml"


def load(given: str | PathLike[str] | Config | None, **attributes: Any) -> Config:
    """Return a configuration of our own, with these attributes.

    Raises:
        ConfigurationError: there is none.
    """
    if isinstance(given, Config):
        config = copy.copy(given)
        config.attributes = {**given.attributes, **attributes}
    else:
        file, toml = _find() if given is None else _files(Path(given))
        config = Config(file, toml, attributes=attributes)
    config.messaging_opts = {"quiet": True}
    config.config_args = _Escaped(config.config_args)
    return config


class _Escaped(dict[str, str]):
    """Arguments for the file of settings: Alembic adds the folder, in which % is only a letter."""

    def __setitem__(self, name: str, value: str) -> None:
        super().__setitem__(name, value.replace("%", "%%"))


def _find() -> tuple[Path | None, Path | None]:
    here = Path.cwd()
    for folder in (here, *here.parents):
        ini, toml = folder / INI, folder / TOML
        if ini.exists() or has_section(toml):
            return (ini if ini.exists() else None), (toml if toml.exists() else None)
    raise ConfigurationError(
        f"There is no {INI}, and no {TOML} with [tool.alembic], in {here} or above. "
        "`dbscope init` writes it."
    )


def _files(path: Path) -> tuple[Path | None, Path | None]:
    if not path.exists():
        raise ConfigurationError(f"There is no {path}.")
    return (None, path) if path.suffix == ".toml" else (path, None)


def has_section(toml: Path) -> bool:
    """Tell whether this is a file with the section [tool.alembic]."""
    if not toml.exists():
        return False
    try:
        return "alembic" in tomllib.loads(toml.read_text(encoding="utf-8")).get("tool", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{toml} cannot be read: {error}.") from error


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


def _revisions(scripts: Iterable[Script]) -> tuple[Revision, ...]:
    revisions = map(revision_of, scripts)
    return tuple(sorted(revisions, key=lambda each: (each.branches, each.id)))


def _as_tuple(ids: str | Iterable[str] | None) -> tuple[str, ...]:
    if ids is None:
        return ()
    return (ids,) if isinstance(ids, str) else tuple(ids)
