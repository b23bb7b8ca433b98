"""`Migrations`: what the lifespan and the command hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from time import time
from typing import Any, Literal

import anyio.to_thread
from alembic import command
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection

from dbscope import AsyncDatabase, ConfigurationError, Database, MigrationError
from dbscope.migrate import adopt as adoption
from dbscope.migrate import branches, connect
from dbscope.migrate.branches import revision_of
from dbscope.migrate.connect import Patience
from dbscope.migrate.environment import CONNECTION, DONE
from dbscope.migrate.revisions import Revision, Status
from dbscope.migrate.tree import Tree

Mode = Literal["upgrade", "check", "off"]


class Migrations(Tree):
    """The migrations of one database; all but `at_start` are plain functions, for commands.

    Args:
        db: either kind of database; only its own driver need be installed.
        config: an `alembic.ini`, a `pyproject.toml` with `[tool.alembic]`, or Alembic's `Config`;
            None: the nearest of these files, from the working directory upwards.
        lock_timeout: seconds to wait for another process that is migrating.
        ddl_timeout: seconds that a statement of a revision waits for a lock of others.
        alone: on a Galera cluster, whose nodes share no locks: nobody migrates by another node.

    Example:
        >>> migrations = Migrations(db)
        >>> await migrations.at_start("upgrade")
    """

    def __init__(
        self,
        db: Database[Any] | AsyncDatabase[Any],
        config: str | PathLike[str] | Config | None = None,
        *,
        lock_timeout: float = 60.0,
        ddl_timeout: float = 10.0,
        alone: bool = False,
    ) -> None:
        super().__init__(db, config)
        self.alone = alone
        self.ran: dict[str, float] = {}  # by this process: revision, seconds since 1970
        self._patience = Patience(
            connect.seconds("lock_timeout", lock_timeout),
            connect.seconds("ddl_timeout", ddl_timeout),
        )

    # -- with the database ---------------------------------------------------------------------

    async def at_start(self, mode: Mode = "upgrade") -> None:
        """Bring the database up to date before the application serves, or refuse to serve.

        Args:
            mode: "upgrade" it, "check" it and change nothing, or "off".

        Raises:
            MigrationError: a revision failed; or the database is ahead, or behind when checking.
            DatabaseUnavailable: it cannot be reached.
            ConfigurationError: no such mode, or no configuration of Alembic.
        """
        if mode not in ("upgrade", "check", "off"):
            raise ConfigurationError(f"There is no mode {mode!r}: 'upgrade', 'check' or 'off'.")
        if mode != "off":
            work: Callable[[], object] = self.upgrade if mode == "upgrade" else self.check
            await anyio.to_thread.run_sync(work)

    def upgrade(self, target: str = "heads", *, adopt: bool = False) -> tuple[Revision, ...]:
        """Upgrade to the target under the lock, and return what was run; no lock if it is there.

        Args:
            target: `heads`, `schema@head`, `data@+1`, a revision; as in Alembic.
            adopt: a database without a version that has all that the models have is stamped.

        Raises:
            MigrationError: a revision failed, there is no such target, the database is ahead, or
                has tables but no version, or another process migrated for longer than
                `lock_timeout`.
        """
        with self._turn():
            status = self._status()
            self._refuse_if_ahead(status)
            if not branches.to_run(self._script(), target, status):
                return ()
        if adopt and status.differences == ():
            self.stamp("heads")
            return ()
        return self._change(command.upgrade, lambda _: target, self._refuse_if_unversioned)

    def downgrade(self, target: str) -> tuple[Revision, ...]:
        """Downgrade to the target under the lock, and return what was run.

        Args:
            target: `schema@-1`, `data@base`, `base`, a revision; as in Alembic.

        Raises:
            MigrationError: see `upgrade`.
        """
        return self._change(
            command.downgrade, lambda status: branches.below(self._script(), target, status)
        )

    def stamp(self, target: str = "heads", *, purge: bool = False) -> None:
        """Write to the version table that the database is at the target; run nothing.

        Args:
            target: as for `upgrade`.
            purge: forget what the table says first, ids without a file included.
        """
        self._change(command.stamp, lambda _: target, purge=purge)

    def check(self) -> None:
        """Raise MigrationError if the database is behind or ahead."""
        status = self.status()
        self._refuse_if_ahead(status)
        self._refuse_if_unversioned(status)
        if status.pending:
            behind = ", ".join(map(str, status.pending))
            raise MigrationError(f"{self.db} is behind: {behind}. Run `dbscope upgrade`.")

    def status(self) -> Status:
        """Return where the database is; nothing is locked or changed."""
        with self._turn():
            return self._status()

    def revision(
        self,
        message: str,
        branch: str = "schema",
        *,
        autogenerate: bool = False,
        depends_on: Sequence[str] | None = None,
    ) -> Revision | None:
        """Write the file of a new revision into the folder of its branch.

        The first one of a branch makes its label. A tree without branches stays without.

        Args:
            message: what it does; the name of the file has it too.
            branch: "schema" or "data".
            autogenerate: write what the models have and the database, which must be up to date,
                has not; if there is nothing, no file is written and None returned.
            depends_on: revisions of other branches that must be there before it; None: for "data"
                the heads of "schema", whose tables it is written for.

        Raises:
            MigrationError: the database is not up to date, no such branch, it has several heads, …
        """
        if autogenerate:
            self.check()
        with self._turn():
            script = self._script()
            if depends_on is None and branch == "data" and branches.has_branches(script):
                depends_on = branches.heads_of(script, "schema")
            where = branches.position(script, branch)

            def write(connection: Connection | None) -> Any:
                config = self._load(**{CONNECTION: connection})
                return command.revision(
                    config,
                    message,
                    autogenerate=autogenerate,
                    depends_on=list(depends_on or ()) or None,  # type: ignore[arg-type]
                    **where,
                )

            written = connect.look(self.db, write) if autogenerate else write(None)
            return revision_of(written) if isinstance(written, Script) else None

    # -- inside --------------------------------------------------------------------------------

    def _change(
        self,
        change: Callable[..., None],
        target: Callable[[Status], str],
        refuse: Callable[[Status], None] = lambda _: None,
        **options: Any,
    ) -> tuple[Revision, ...]:
        done: list[Script] = []

        def work(connection: Connection) -> None:
            status = self._read(connection)  # another process may have changed it meanwhile
            if not options.get("purge"):
                self._refuse_if_ahead(status)
            refuse(status)
            connection.rollback()
            change(self._load(**{CONNECTION: connection, DONE: done}), target(status), **options)

        with self._turn():
            connect.alone(self.db, work, replace(self._patience, alone=self.alone))
            self._note([each.revision for each in done], change)
            return tuple(map(revision_of, done))

    def _note(self, done: list[str], change: Callable[..., None]) -> None:
        """Let the page of the watch know when it was, in this process and in others."""
        ran = dict.fromkeys(done, time()) if change is command.upgrade else {}
        undone = None if change is command.stamp else done
        kept = {} if undone is None else self.ran
        self.ran = {each: at for each, at in kept.items() if each not in done} | ran
        self.db.watch.everybody().note_revisions(ran, undone)

    def _status(self) -> Status:
        return connect.look(self.db, self._read)

    def _read(self, connection: Connection) -> Status:
        config = self._load(**{CONNECTION: connection})
        script = ScriptDirectory.from_config(config)
        found: list[Status] = []

        def keep(heads: tuple[str, ...], migration: MigrationContext) -> list[Any]:
            found.append(adoption.compared(branches.status_of(script, heads), migration))
            return []

        with EnvironmentContext(config, script, fn=keep, dont_mutate=True):
            script.run_env()
        return found[0] if found else branches.status_of(script, ())

    def _refuse_if_ahead(self, status: Status) -> None:
        if status.unknown:
            raise MigrationError(
                f"{self.db} is ahead: it is at {', '.join(status.unknown)}, of which there is no "
                "file here. Newer code has migrated it, or another application; deploy that, or "
                "downgrade with it first."
            )

    def _refuse_if_unversioned(self, status: Status) -> None:
        if refusal := adoption.refusal(self.db, status):
            raise refusal
