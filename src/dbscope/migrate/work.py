"""What happens around one revision: its session, its foreign keys, and who is to blame."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any

from alembic import op
from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from dbscope import MigrationError
from dbscope.backends.migrating import rollback, still_held
from dbscope.backends.registry import migrating_of
from dbscope.migrate.ends import Ends
from dbscope.migrate.faults import said
from dbscope.migrate.traces import Traces

KEY = "dbscope"
NOT_HERE = "session() is for upgrade() and downgrade() of a revision, and none is running."


def session() -> Session:
    """Return the session of the revision that is running, in the transaction of the revision.

    It is flushed when the revision ends, and committed together with it: its `commit()` is only a
    flush, and its `rollback()` is refused. To undo a part: `with session().begin_nested(): ...`.

    Raises:
        MigrationError: no revision is running, or it is only written as SQL.

    Example:
        >>> def upgrade() -> None:
        ...     session().add(Plan(name="free"))
    """
    try:
        migration = op.get_context()
    except (NameError, AttributeError):  # before the first command, and after one
        raise MigrationError(NOT_HERE) from None
    work: Work | None = migration.opts.get(KEY)
    if work is None:
        raise MigrationError(
            "session() needs a database. To be written as SQL, a revision may only use "
            "`op.execute(...)` and its like; and env.py must call `dbscope.migrate.run()`."
        )
    if work.running is None:  # Alembic goes on giving the context of a command that has failed
        raise MigrationError(NOT_HERE)
    return work.session


class Work:
    """The revisions that one command runs."""

    def __init__(self, connection: Connection, done: list[Any]) -> None:
        self.connection = connection
        self.done = done
        self.running: MigrationInfo | None = None
        self._is_ours = not connection.in_transaction()
        foreign_keys = migrating_of(connection.dialect).foreign_keys
        self._foreign_keys = foreign_keys(connection) if self._is_ours else None
        self._session: Session | None = None
        self._ends = Ends(connection)
        self._traces: Traces | None = None

    @property
    def session(self) -> Session:
        """The session of the revision that is running."""
        if self._session is None:
            # The transaction is the revision's: a commit of the session is only a flush.
            mode: Any = "rollback_only"
            self._session = Session(
                self.connection, join_transaction_mode=mode, expire_on_commit=False
            )
        return self._session

    @contextmanager
    def watched(self, migration: MigrationContext) -> Generator[None, None, None]:
        """Prepare each revision that runs inside, and say which one has failed.

        Raises:
            MigrationError: one has failed.
        """
        steps = migration.opts["fn"]

        def each(*args: Any) -> Generator[Any, None, None]:
            return self._each(steps(*args))

        # Alembic has no hook before the transaction of a revision.
        vars(migration)["_migrations_fn"] = each
        self._traces = Traces(self.connection, can_undo=bool(migration.impl.transactional_ddl))
        vars(migration)["autocommit_block"] = self._autocommit(migration.autocommit_block)
        try:
            with ExitStack() as stack:
                stack.enter_context(self._ends.listening())
                stack.enter_context(self._traces.listening())
                if self._foreign_keys:
                    stack.enter_context(self._foreign_keys.kept())
                yield
        except Exception as error:
            if self.running is None:
                raise
            cause = self._ends.refused or error
            raise MigrationError(self._blame(migration, self.running, cause)) from cause
        finally:
            self.running = None
            self._close()

    def _autocommit(self, block: Any) -> Any:
        """Return Alembic's block, which alone may end the transaction."""

        @contextmanager
        def autocommit_block() -> Generator[None, None, None]:
            assert self._traces is not None
            self._flush()
            with self._ends.allowed(), block(), self._traces.autocommit():
                yield
                self._flush()

        return autocommit_block

    def _each(self, steps: Iterable[Any]) -> Generator[Any, None, None]:
        for step in steps:
            self.running = None if step.info.is_stamp else step.info
            if self.running is not None:
                step.migration_fn = self._ends.watched(step.migration_fn)
                if self._is_ours:
                    self._prepare(self.running)
                if self._is_ours and self._foreign_keys is not None:
                    step.migration_fn = self._foreign_keys.guarded(step.migration_fn, self._close)
            yield step
            self.done.extend(step.info.up_revisions)
        self.running = None

    # -- before and after each -----------------------------------------------------------------

    def _prepare(self, step: MigrationInfo) -> None:
        still_held(self.connection)
        if self._traces is not None:
            self._traces.begin()
        self.connection.commit()  # the look at the version table has begun a transaction
        if self._foreign_keys is not None:
            self._foreign_keys.prepare(enforced=_labels(step) == {"data"})

    def finish(self, **_: Any) -> None:
        """End a revision, inside its transaction; Alembic calls it (`on_version_apply`)."""
        self._ends.check()
        self._flush()
        self._close()
        if self._foreign_keys is not None:
            self._foreign_keys.check()
        if self._traces is not None and (invalid := self._traces.invalid()):
            raise ValueError(f"it leaves an invalid index: {', '.join(invalid)}")
        still_held(self.connection)

    def _flush(self) -> None:
        if self._session is not None:
            self._session.commit()  # it joins the next transaction then

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    # -- who is to blame -----------------------------------------------------------------------

    def _blame(self, migration: MigrationContext, step: MigrationInfo, error: Exception) -> str:
        script: Any = step.up_revision
        way = "Revision" if step.is_upgrade else "The downgrade of revision"
        where = f"{_short(script.path)}{_line(script.path, error)}"
        message = f"{way} {script.revision} ({script.doc}) in {where} failed: "
        words = said(error)
        message += f"{words} {self._stored(migration)}"
        return message + self._left(str(script.revision), words)

    def _left(self, revision: str, words: str) -> str:
        if self._traces is None:
            return ""
        try:
            left = self._traces.describe(revision, words)
            self.connection.rollback()
        except Exception:  # the connection is lost, which was said already
            return ""
        return left

    def _stored(self, migration: MigrationContext) -> str:
        try:
            rollback(self.connection)
            heads = migration.get_current_heads()
            self.connection.rollback()
        except Exception as error:
            return f"What is stored now could not be read: {said(error)}"
        return f"Stored now: {', '.join(sorted(heads)) or 'no revision'}."


def _labels(step: MigrationInfo) -> set[str]:
    script = step.up_revision
    return set(script.branch_labels) if script is not None else set()


def _line(path: str, error: Exception) -> str:
    lines = [
        line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == path
    ]
    return f":{lines[-1]}" if lines else ""


def _short(path: str) -> str:
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
