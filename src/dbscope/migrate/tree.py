"""The files of revisions, as they are in their folders: what is known without the database."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from dbscope import AsyncDatabase, Database, MigrationError
from dbscope.migrate import branches, layout, settings
from dbscope.migrate.branches import revision_of
from dbscope.migrate.environment import OWNER
from dbscope.migrate.revisions import Revision
from dbscope.migrate.turn import turn


class Tree:
    """The revisions of one database.

    Args:
        db: whose they are.
        config: where they are; see `Migrations`.
    """

    def __init__(
        self, db: Database[Any] | AsyncDatabase[Any], config: str | PathLike[str] | Config | None
    ) -> None:
        self.db = db
        self.config = config

    def merge(
        self, message: str = "merge", branch: str = "schema", *, revisions: Sequence[str] = ()
    ) -> Revision:
        """Write a revision that joins the heads of one branch, which two people have made.

        Args:
            message: what it is about.
            branch: all of its heads are joined.
            revisions: or these.

        Raises:
            MigrationError: there is one head only.
        """
        with self._turn():
            script = self._script()
            branches.require(script, branch)
            heads = revisions or branches.heads_of(script, branch)
            if len(heads) <= 1:
                raise MigrationError(f"There is nothing to merge: {branch} has {len(heads)} head.")
            merged = command.merge(self._load(), list(heads), message)
            assert merged is not None
            return revision_of(merged)

    def history(self) -> tuple[Revision, ...]:
        """Return all revisions, newest first."""
        with self._turn():
            return tuple(map(revision_of, self._script().walk_revisions()))

    def heads(self) -> tuple[Revision, ...]:
        """Return the newest revision of each branch, by the files."""
        with self._turn():
            script = self._script()
            return tuple(map(revision_of, script.get_revisions(script.get_heads())))

    def branches(self) -> dict[str, tuple[Revision, ...]]:
        """Return the heads of each branch, by its label."""
        heads: dict[str, tuple[Revision, ...]] = {}
        for head in self.heads():
            for label in head.branches:
                heads[label] = (*heads.get(label, ()), head)
        return heads

    def sql(self, target: str = "heads", *, downgrade: bool = False) -> str:
        """Return the SQL of an upgrade, for somebody else to run; nothing is connected.

        Args:
            target: where to, from the beginning; or `from:to`, which a downgrade needs.
            downgrade: the other way.

        Raises:
            MigrationError: no such revision, or one that has to read (`session()`).
        """
        with self._turn():
            config = self._load()
            config.output_buffer = StringIO()
            change = command.downgrade if downgrade else command.upgrade
            change(config, target, sql=True)
            return config.output_buffer.getvalue()

    @staticmethod
    def init(
        folder: str | PathLike[str] = "migrations",
        *,
        database: str,
        metadata: str,
        root: str | PathLike[str] = ".",
    ) -> tuple[Path, ...]:
        """Write what `alembic init` would, in our shape, and return what was written.

        `env.py`, `script.py.mako`, the folders `schema/` and `data/`, and the settings: the section
        `[tool.alembic]` if there is a `pyproject.toml`, else an `alembic.ini`.

        Args:
            folder: of the migrations, from the root.
            database: where env.py finds it: "app.database:db".
            metadata: where env.py finds it: "app.models:Base.metadata".
            root: of the project; the settings are there.

        Raises:
            ConfigurationError: there are migrations already.
        """
        return layout.write(Path(root), Path(folder), database=database, metadata=metadata)

    def _load(self, **attributes: Any) -> Config:
        if settings.depends_on_where(self.config):
            attributes[OWNER] = self.db
        return settings.load(self.config, **attributes)

    def _turn(self) -> AbstractContextManager[None]:
        return turn(f"Migrations of {self.db}")

    def _script(self) -> ScriptDirectory:
        return ScriptDirectory.from_config(self._load())
