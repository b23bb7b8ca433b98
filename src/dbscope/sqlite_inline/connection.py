"""The connections of `sqlite+inline`: where a statement runs, and how it waits.

What cannot take long runs on the event loop, the rest in a thread. Nothing on the loop waits for a
lock: writers of this process queue, and other processes are asked again after a pause.
"""

from __future__ import annotations

import re
import sqlite3
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from sqlalchemy.util import await_only

from dbscope.aio import concurrency
from dbscope.sqlite_inline import fairness, files, lifetime, lock_wait
from dbscope.sqlite_inline.answers import Answer, answer
from dbscope.sqlite_inline.calls import BUDGET, Calls, TooLong
from dbscope.sqlite_inline.classify import ENDS, TRANSACTIONAL, WRITES, Kind, Statements, is_small
from dbscope.sqlite_inline.closing import Closing
from dbscope.sqlite_inline.commits import Commits
from dbscope.sqlite_inline.cursor import Cursor, StreamCursor
from dbscope.sqlite_inline.pysqlite import cursor_of
from dbscope.sqlite_inline.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.sqlite_inline.queue import Queue

T = TypeVar("T")

BUSY_TIMEOUT = re.compile(r"\bPRAGMA\s+(?:\w+\.)?busy_timeout\b(?:\s*[=(]\s*(\d+))?", re.IGNORECASE)
LOCKING = re.compile(r"IMMEDIATE|EXCLUSIVE", re.IGNORECASE)


class InlineConnection(Closing):
    """A connection of `sqlite3`, which may be used in a greenlet of SQLAlchemy's.

    Args:
        connection: in autocommit: BEGIN is sent when the first statement comes.
        statements: what is known about the statements of its engine.
        writers: the queue of those who write to this file.
        timeout: the longest time to wait for a lock, in seconds.
        in_memory: where the main database is.
    """

    __slots__ = ("in_memory", "statements", "waits")

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        statements: Statements,
        writers: Queue[Any],
        timeout: float,
        in_memory: bool,
    ) -> None:
        self._connection = connection
        self.life = getattr(connection, "life", None) or lifetime.Lifetime()
        lifetime.owners.add(self)
        self.statements = statements
        self.writer = Writer(writers, connection)
        self.calls = Calls(connection, timeout, self.writer.who_else)
        self.commits = Commits(connection, writers, in_memory=in_memory)
        self.in_memory = in_memory
        self.set_autocommit(False)
        self._level = ""
        self.waits = False  # a turn of the loop for each statement that others wait for
        self._streams: WeakSet[StreamCursor] = WeakSet()

    # -- as the driver has it ----------------------------------------------------------------------

    def cursor(self, server_side: bool = False) -> Cursor | StreamCursor:
        """Return a new cursor."""
        return StreamCursor(self) if server_side else Cursor(self)

    def open_stream(self, cursor: StreamCursor) -> sqlite3.Cursor:
        """Return a cursor of the driver; it ends with the connection."""
        self._streams.add(cursor)
        return self._cursor()

    def execute(self, operation: str, parameters: Any = ()) -> Cursor:
        """Run a statement with a cursor of its own."""
        return Cursor(self).execute(operation, parameters)

    def executemany(self, operation: str, parameters: Any) -> Cursor:
        """Run a statement for each set of parameters, with a cursor of its own."""
        return Cursor(self).executemany(operation, parameters)

    def executescript(self, script: str) -> Cursor:
        """Run several statements, after a COMMIT, with a cursor of their own."""
        return Cursor(self).executescript(script)

    # -- statements --------------------------------------------------------------------------------

    def run(
        self, sql: str, parameters: Any, *, many: bool = False, stream: sqlite3.Cursor | None = None
    ) -> Answer:
        """Run a statement.

        Args:
            sql: the statement.
            parameters: of it; many: several sets of them.
            many: run it for each set.
            stream: run it with this cursor, in a thread, and leave the rows to be fetched.
        """
        self._get_ready()
        one = (parameters[0] if parameters else ()) if many else parameters
        kind = self.use(self.statements.kind_of, self._connection, sql, one)
        if self.pending and kind in TRANSACTIONAL:
            self.begin(immediate=kind in WRITES)
        if kind is Kind.READ and stream is None:
            return self._read(sql, parameters, many)
        if self.in_memory and kind is Kind.OTHER:
            sql = files.attach_on_disk(sql)
        call = partial(self._call, sql, parameters, many, stream)
        if kind in WRITES:
            may_stay = kind is Kind.SHORT and stream is None and is_small(parameters, many)
            return self._write(call, kind, may_stay=may_stay)
        if kind in ENDS:
            return self._run_end(call, kind, sql)
        if kind is Kind.CONTROL:
            return self._control(call)
        if kind is Kind.OTHER:
            return self._run_other(call, sql)
        return self.calls.patiently(partial(self.calls.in_thread, call))

    def run_script(self, script: str) -> None:
        """Commit, and run several statements in a thread, as `sqlite3` does."""
        self._get_ready()
        self.commit()
        run = partial(self.use, cursor_of(self._connection).executescript, script)
        with self.writer.turn(self.calls.timeout):
            self.calls.patiently(partial(self.calls.in_thread, run))
        self.statements.forget()
        self.commits.forget()

    def fetch(self, call: Callable[..., T], *args: Any) -> T:
        """Go on with a statement whose rows are fetched as they are asked for."""
        self._get_ready()
        fetch = partial(self.use, call, *args)
        return self.calls.patiently(partial(self.calls.in_thread, fetch))

    def _get_ready(self) -> None:
        now = fairness.current
        turn = now.turns_for_others() if self.waits else now.turns()
        # SQLAlchemy wants each call of an async engine to await something, so that code which runs
        # here runs with other drivers, too; our own sessions need not be told.
        if turn is fairness.ONE or not concurrency.carriers().is_carried():
            await_only(turn)
        self.calls.wait_for_others()

    def _call(
        self, sql: str, parameters: Any, many: bool, stream: sqlite3.Cursor | None = None
    ) -> Answer:
        return self.use(answer, stream or self._cursor(), sql, parameters, many, stream is None)

    def _cursor(self) -> sqlite3.Cursor:
        return cursor_of(self._connection)  # with its row factory

    def _read(self, sql: str, parameters: Any, many: bool) -> Answer:
        slow = self.statements.slow
        if sql not in slow:
            try:
                return self.calls.briefly(self._call, sql, parameters, many)
            except TooLong:
                slow.add(sql)
            except sqlite3.OperationalError as error:
                if not lock_wait.is_busy(error):
                    raise
        call = partial(timed, partial(self._call, sql, parameters, many))
        answer, seconds = self.calls.patiently(partial(self.calls.in_thread, call))
        if seconds < BUDGET / 2:
            slow.discard(sql)
        return answer

    def _write(self, call: Callable[[], Answer], kind: Kind, *, may_stay: bool) -> Answer:
        with self.writer.turn(self.calls.timeout):
            is_alone = not self.in_transaction  # so COMMIT is a part of it
            if is_alone:
                self.commits.begin()
            try:
                if may_stay and (not is_alone or self.commits.are_short()):
                    return self.calls.patiently(call)
                self.commits.heavy = True
                return self.calls.patiently(partial(self.calls.in_thread, call))
            finally:
                if kind is Kind.SCHEMA:
                    self.statements.forget()
                if is_alone and not self.life.is_over:
                    self.commits.done()

    def _control(self, call: Callable[[], Answer]) -> Answer:
        """Run what costs nothing; unless RELEASE ends a transaction that a savepoint has begun."""
        may_commit = self.autocommit and self.writer.is_writing
        with self.writer:
            if may_commit and not self.commits.are_short():
                return self.calls.to_the_end(call)
            return self.calls.patiently(call)

    def _run_other(self, call: Callable[[], Answer], sql: str) -> Answer:
        self.commits.forget()
        timeout = BUSY_TIMEOUT.search(sql)
        if timeout is None:
            return self.calls.patiently(partial(self.calls.in_thread, call))
        # SQLite's own way to wait would block the loop, so it never knows of it.
        if timeout[1]:
            self.calls.timeout = int(timeout[1]) / 1000
        return self._call(f"SELECT {self.calls.timeout * 1000:.0f} AS timeout", (), many=False)

    # -- transactions ------------------------------------------------------------------------------

    def begin_later(self) -> None:
        """Begin with the first statement, when it is known whether it writes.

        Unless somebody has sent BEGIN already, as SQLAlchemy's own recipe does.
        """
        self.pending = not (self.autocommit or self.in_transaction)

    def begin(self, *, immediate: bool) -> None:
        """Send BEGIN.

        Args:
            immediate: with the lock to write; else it is taken when something is written.

        Raises:
            OperationalError: the lock was not given in time.
        """
        level = "EXCLUSIVE" if self._level == "EXCLUSIVE" else "IMMEDIATE"
        self._begin(f"BEGIN {level}" if immediate else "BEGIN", immediate=immediate)

    def _begin(self, sql: str, *, immediate: bool) -> None:
        with self.writer.turn(self.calls.timeout) if immediate else self.writer:
            self.calls.patiently(partial(self._call, sql, (), many=False))
        self.pending = False
        self.commits.begin()

    def _run_end(self, call: Callable[[], Answer], kind: Kind, sql: str) -> Answer:
        """Run what somebody has sent to begin or end a transaction by hand."""
        if kind is Kind.BEGIN and not self.in_transaction:
            self._begin(sql, immediate=LOCKING.search(sql) is not None)
        elif kind is not Kind.BEGIN and self.in_transaction:
            (self.commit if kind is Kind.COMMIT else self.rollback)()
        else:
            return call()  # which is an error
        return Answer([], None, -1, None)

    def commit(self) -> None:
        """Store what was written; nobody who is cancelled here leaves it half done.

        Raises:
            Error: it could not be stored; the transaction is still open.
        """
        self.pending = False
        self.calls.wait_for_others()
        self.calls.deadline = inf
        with self.writer:
            if self.use(self._has_something):
                self.calls.patiently(self._commit)
                if self.writer.is_writing:
                    self.commits.done()

    def _has_something(self) -> bool:
        return self.in_transaction

    def _commit(self) -> None:
        commit = partial(self.use, self._connection.commit)
        if not self.writer.is_writing or self.commits.are_short():
            commit()
        else:
            self.calls.to_the_end(commit)

    def rollback(self) -> None:
        """Undo what was written; without a transaction there is nothing to do."""
        self.pending = False
        self.calls.wait_for_others()
        with self.writer:
            self.calls.deadline = inf
            if self.in_transaction and not self.life.is_over:
                rollback = partial(self.use, self._connection.rollback)
                self.calls.to_the_end(rollback) if self.commits.heavy else rollback()


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """Call, and tell how many seconds that took."""
    begun = monotonic()
    return call(), monotonic() - begun
