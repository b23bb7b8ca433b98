"""One class for each meaning. The docstring is the message, and it says what to do."""

from __future__ import annotations

import inspect
from typing import ClassVar

from dbscope.masking import masked

POINTER = "python -m dbscope explain"  # what every message ends with; it works offline


class DBScopeError(Exception):
    """Something went wrong between the work and its transaction."""

    rule: ClassVar[str] = ""
    code: ClassVar[str] = "DBScopeError"  # its section in docs/errors.md

    def __init_subclass__(cls) -> None:
        cls.rule = inspect.cleandoc(cls.__doc__ or "")
        if cls.__module__ == __name__:  # others' subclasses are explained by what they derive from
            cls.code = cls.__name__

    def __init__(self, what: str = "") -> None:
        """Tell what happened, and where; the class adds what to do about it."""
        self.what = masked(what)
        super().__init__(self.what)

    def __str__(self) -> str:
        return f"{self._message}\n(More: {POINTER} {self.code})"

    @property
    def _message(self) -> str:
        """Return what happened, and what to do about it."""
        return f"{self.what} {self.rule}" if self.what else self.rule


class TransactionManagementError(DBScopeError):
    """This cannot be done to a transaction in this state."""


class TransactionBroken(TransactionManagementError):
    """An earlier statement of this transaction failed, so nothing more was sent.
    Let the error leave the block, or put the statement that may fail into a block of its own:
    `async with db.atomic(): ...`."""


class UnexpectedRollback(TransactionManagementError):
    """An error was swallowed inside this transaction, so it was rolled back instead of committed.
    Put the statement that may fail into a block of its own (`async with db.atomic(): ...`),
    or say that the rollback is meant: `db.set_rollback(True)` or `raise Rollback`."""


class TransactionOutcomeUnknown(TransactionManagementError):
    """COMMIT was sent, and its answer was lost: the work may be stored, or not.
    Do not repeat it blindly; look whether it is there. No hook was run."""


class TransactionEndedOutside(TransactionOutcomeUnknown):
    """The transaction was ended on the driver's connection, by a commit, rollback or the like that
    was not sent through the session: what was done before is stored, or not, as that has decided.
    Nothing more was sent, and no hook was run. Use `session.commit()` and `session.rollback()`."""


class PartialCommit(TransactionManagementError):
    """Several databases were written, and one of them failed at COMMIT after another was stored.
    Nothing can take that back: repair it by hand, or by a job that compares the two."""

    committed: tuple[str, ...] = ()
    rolled_back: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


class ImplicitCommit(TransactionManagementError):
    """MySQL and MariaDB commit before each CREATE, ALTER, DROP, TRUNCATE, LOCK and the like, and so
    ended this transaction: what was done before is stored, what comes after is refused, and no hook
    is run. Run such a statement first, or in a migration, or in a scope of its own."""


class DurableError(TransactionManagementError):
    """A durable block must be outermost, because what it promises is stored when it is left.
    Call it outside every other block, or open a `db.scope()` of its own for it."""


class TransactionRequired(TransactionManagementError):
    """This must run inside a transaction. Wrap the call: `async with db.atomic(): ...`."""


class AttributeMismatch(TransactionManagementError):
    """A block cannot join a transaction that was begun with other attributes.
    Give the attributes to the outermost block."""


class ConcurrentUse(TransactionManagementError):
    """A transaction serves one task at a time, and another task was in the middle of using it.
    Await the calls one after the other, or give each its own: `async with db.scope(): ...`."""


class NeverAwaited(TransactionManagementError):
    """So it was not done, and what was done with it is rolled back.
    Write `await` before a call, and `async with` before a block; in a `def` function use the plain
    database, `db.sync`."""


class ManualCommitForbidden(TransactionManagementError):
    """Inside `atomic` the block decides. Remove the call, or leave the block first;
    to undo part of the work use `db.savepoint()`, `db.set_rollback(True)` or `raise Rollback`."""


class BlocksOutOfOrder(TransactionManagementError):
    """Blocks must be left in the reverse order of entering, each before its scope ends.
    Use `async with`, and do not let two tasks open blocks in one scope."""


class ScopeMissing(DBScopeError):
    """There is no scope here, so no session.
    Open one: `async with db.scope(): ...`. For the requests of a web application `db.install(app)`
    does it."""


class ScopeClosed(DBScopeError):
    """The scope of this session has ended, and its work is committed or rolled back.
    Work that goes on after the request needs a scope of its own: `async with db.scope(): ...`."""


class TransactionTimeout(TransactionManagementError):
    """The block took longer than its `timeout`, so it was rolled back.
    Do less in it, do the slow part outside of it, or give it more time."""


class ClientTimeout(TransactionManagementError):
    """A transaction was open while the server waited for its client, for longer than `client_wait`
    allows, so it was rolled back. Read the body before the first statement; read what a stream
    sends in a scope of its own; wait for the next message of a websocket outside of the block. Or
    give the connection back before: `db.release()`. For what may take long, raise `client_wait`."""


class AttributeNotLoaded(DBScopeError):
    """An attribute that is not loaded was read, and in async code reading cannot wait for it.
    Load it before, where `await` is: `selectinload(...)` in the query, or
    `await session.refresh(obj, ["name"])`. A rollback makes objects forget what was loaded."""


class SynchronousOnlyOperation(DBScopeError):
    """Plain code waits for the database in its thread, and on an event loop that stops everything
    else; two requests that meet on one row would wait for ever. Call it from a `def` endpoint, by
    `await anyio.to_thread.run_sync(function)`, or use an `AsyncDatabase` (`db.async_`). Where
    nobody else is served, in a notebook for example: `Database(..., allow_async_unsafe=True)`."""


class PoolTimeout(DBScopeError):
    """Every connection of the pool was in use for as long as `pool_timeout` allows.
    Hold connections for a shorter time, open fewer at once, or raise `pool_size`."""


class LockTimeout(DBScopeError):
    """Somebody else has held the lock for longer than `timeout` allows; nothing was done.
    Try again later, or wait longer for it."""


class KeyReused(DBScopeError):
    """Another input was done under this key before, so nothing was done, and nothing is returned.
    A key belongs to one piece of work: give each its own."""


class DatabaseUnavailable(DBScopeError):
    """The database could not be reached, or went away. Nothing was committed; try again later."""

    nothing_was_stored = False  # it is known, so that doing the work again is safe


class ReadOnlyViolation(DBScopeError):
    """A read-only scope cannot write. Do the writing in an ordinary scope."""


class MigrationError(DBScopeError):
    """The schema is not the one that the application needs."""


class ConfigurationError(DBScopeError):
    """The database is not configured in a way that can work."""

    @property
    def _message(self) -> str:
        """Return what is wrong, which says it all."""
        return self.what or self.rule


class ProblemFound(DBScopeError):
    """Something costs more than it has to, and `db.watch.strict()` raises that."""


class Rollback(Exception):
    """Raise it to leave a block and roll it back quietly; the block swallows it.

    In a block that joined another (`savepoint=False`) it travels on to the block whose
    transaction or savepoint it is (`ActiveRecord::Rollback`, without its trap).
    """
