"""A connection of a sandbox as a driver would give it: its transactions are savepoints on the line.

SQLAlchemy's pool hands it out, so all that is above, sessions, units, `engine.connect()` by hand,
begins, commits and rolls back as always.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from dbscope.backends import sql_text
from dbscope.backends.sandbox import LOCKS
from dbscope.engine.sql_text import QUICK
from dbscope.errors import ImplicitCommit, ScopeClosed, TransactionManagementError
from dbscope.testing.cursor import SandboxCursor
from dbscope.testing.line import me
from dbscope.unit import callsite
from dbscope.unit.current import open_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.engine.sandboxed import Sandboxes
    from dbscope.testing.line import Line

AUTOCOMMIT = "AUTOCOMMIT"
REPEATABLE = frozenset({"REPEATABLE READ", "SERIALIZABLE", "SNAPSHOT"})
# What belongs to this connection; all else is the driver's.
CHARACTERISTICS = ("isolation_level", "readonly", "deferrable")


class SandboxConnection:
    """What the pool of a sandboxed engine gives.

    Args:
        sandboxes: of the database.
        line: that it is on.
    """

    def __init__(self, sandboxes: Sandboxes, line: Line) -> None:
        self.sandboxes = sandboxes
        self.line = line
        self.is_closed = False
        self.savepoint: str | None = None
        self.has_written = False
        self.has_failed = False
        self.is_busy = False
        self.unread: set[object] = set()  # cursors whose rows are not all here
        self.fault: BaseException | None = None
        self.characteristics: dict[str, Any] = {}
        self.settings: list[str] = []
        self.scope = open_scope()
        self.where = callsite.of_call()
        self._me = me()

    @property
    def dbscope_real(self) -> Any:
        """The connection that the sandbox holds."""
        return self.line.real

    @property
    def driver_connection(self) -> Any:
        """The driver's own."""
        self.check_open()
        return getattr(self.line.real, "driver_connection", self.line.real)

    def __getattr__(self, name: str) -> Any:
        """Give what else a connection of the driver has; what may wait, waits at its home."""
        self.check_open()
        member = getattr(self.line.real, name)
        return partial(self._at_home, member) if callable(member) else member

    def _at_home(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.line.home.call(partial(method, *args, **kwargs))

    @property
    def is_autocommit(self) -> bool:
        """Tell whether each statement is its own transaction."""
        return self.characteristics.get("isolation_level") == AUTOCOMMIT

    @property
    def readonly(self) -> bool:
        """Tell whether its transactions cannot write."""
        return bool(self.characteristics.get("readonly"))

    def is_inside(self, holder: SandboxConnection) -> bool:
        """Tell whether the other one cannot end before this one has."""
        if self._me == holder._me:
            return True
        scope = self.scope
        return (
            holder.scope is not None
            and scope is not None
            and any(each is holder.scope for each in scope.with_ancestors())
        )

    # -- statements ----------------------------------------------------------------------------

    def cursor(self, *args: Any, **kwargs: Any) -> SandboxCursor:
        """Return a cursor; the driver's is made when it is used."""
        return SandboxCursor(self, partial(self._cursor, args, kwargs), bool(args or kwargs))

    def _cursor(self, args: Any, kwargs: Any) -> Any:
        return self.line.real.cursor(*args, **kwargs)

    def begin_later(self) -> None:
        """Begin with the first statement, as all do here (`sqlite+inline`)."""

    def send(self, sql: str, call: Callable[[], Any], parameters: Any) -> Any:
        """Send a statement, in a savepoint.

        Raises:
            TransactionManagementError: another transaction has the line.
            ImplicitCommit: the server would commit with it.
        """
        family = self.line.keeper.family
        if (found := sql_text.ending(sql, family)) is not None:
            return self._by_text(found)
        self._check(sql)
        self._me, self.scope = me(), open_scope() or self.scope
        reads = is_read(sql, family)
        self.line.take(self)
        try:
            if not self.is_autocommit and not self.readonly:
                is_kept = self.characteristics.get("isolation_level") in REPEATABLE
                self.has_written = self.has_written or not reads or is_kept
            self.settings += self.line.rules.settings(sql, parameters)
            send = self._alone if self.is_autocommit else self._inside
            return self.line.home.call(partial(send, call, reads=reads))
        except BaseException as error:
            self._failed(error)
            raise
        finally:
            if self.is_autocommit:
                self.line.give_back(self)
            else:
                self.line.rest(self)

    def _check(self, sql: str) -> None:
        self.check_open()
        if self.line.rules.commits_by_itself(sql):
            verb = sql.split(maxsplit=1)[0].upper()
            raise ImplicitCommit(
                f"{verb} was not sent: the server commits with it, and the sandbox would be over:"
            )
        if self.readonly and not is_read(sql, self.line.keeper.family):
            refused = self.line.rules.refused_write(self.line.engine.dialect.loaded_dbapi)
            if refused is not None:
                raise refused

    def check_open(self) -> None:
        """Raise if its sandbox has ended; what has read only goes on in the next one."""
        if self.fault is not None:
            raise self.fault
        if self.line.fault is not None:
            raise TransactionManagementError(
                f"The sandbox has lost its transaction, by {self.line.fault!r}."
            ) from self.line.fault
        if self.is_closed or not self.sandboxes.opened:
            raise ScopeClosed(f"{self} is of a sandbox that has ended; end its session before.")
        if not self.line.sandboxes:
            self.line = self.sandboxes.line()
        if self.line.proxy is None:
            self.line.home.call(self.line.open)

    def _failed(self, error: BaseException) -> None:
        self.has_failed = True
        if self.line.rules.is_over(error, self.line.real):
            self.line.fault = error

    def _inside(self, call: Callable[[], Any], *, reads: bool) -> Any:
        line = self.line
        line.open()
        if not reads and not self.readonly and line.begin_to_write():
            self.savepoint = None
        if self.savepoint is None:
            self.savepoint = line.savepoint()
            self.has_failed = False
            if self.readonly and line.rules.read_only is not None:
                line.ask(line.rules.read_only[0])
        return call()

    def _alone(self, call: Callable[[], Any], *, reads: bool) -> Any:
        line = self.line
        line.open()
        if not reads:
            line.begin_to_write()
        savepoint = line.savepoint()
        try:
            result = call()
            if not reads:
                line.rules.check(line.ask)
        except BaseException:
            if not line.rules.is_over(BaseException(), line.real):
                line.undo(savepoint)
            raise
        line.release(savepoint, is_clean=reads)
        return result

    def _by_text(self, statement: str) -> None:
        """Do what BEGIN, COMMIT or ROLLBACK asks for, as text."""
        if statement in {"COMMIT", "END"}:
            self.commit()
        elif statement in {"ROLLBACK", "ABORT"}:
            self.rollback()

    # -- the end of a transaction --------------------------------------------------------------

    def end_of_savepoint(self) -> list[str]:
        """Return what ends the savepoint, and keeps what was done."""
        return [*self._end_of_read_only(), f"RELEASE SAVEPOINT {self.savepoint}"]

    def _end_of_read_only(self) -> list[str]:
        read_only = self.line.rules.read_only if self.readonly else None
        return [read_only[1]] if read_only is not None and read_only[1] else []

    def commit(self) -> None:
        """End the transaction as COMMIT would: constraints are looked at, and the work is kept.

        Raises:
            Error: of the driver, as COMMIT would raise it; the transaction is still open.
        """
        if self.savepoint is not None:
            self.check_open()
            self.line.take(self)
            try:
                self.line.home.call(self._commit)
            except BaseException as error:
                self._failed(error)
                raise
        self._ended()

    def _commit(self) -> None:
        line, savepoint = self.line, self.savepoint
        if savepoint is None:
            return
        if self.has_written and not self.readonly:
            line.rules.check(line.ask)
        has_done = self.has_written or self.unread or self.has_failed or self.settings
        if not (has_done or self.readonly):
            line.release(savepoint, is_clean=True)
            return
        for statement in self.end_of_savepoint():
            line.ask(statement)
        for name in dict.fromkeys(self.settings):
            line.ask(f"SET LOCAL {name} TO DEFAULT")

    def rollback(self) -> None:
        """Undo what was done in the transaction."""
        lost = self.fault is not None or self.line.fault is not None or not self.line.sandboxes
        if self.savepoint is not None and not lost:
            self.line.take(self)
            self.line.home.call(self._rollback)
        self.fault = None
        self._ended()

    def _rollback(self) -> None:
        if self.savepoint is None:
            return
        self.line.undo(self.savepoint)
        for statement in self._end_of_read_only():
            self.line.ask(statement)

    def _ended(self) -> None:
        self.savepoint = None
        self.has_written = self.has_failed = False
        self.settings, self.unread = [], set()
        self.line.give_back(self)

    def note_end(self) -> None:
        """Note that its sandbox has ended, and what was not committed in it with it."""
        if self.has_written:
            self.fault = ScopeClosed(
                f"What {self} has done and not committed was rolled back at the end of the sandbox."
            )
        self.savepoint = None
        self.has_written = False

    def close(self) -> None:
        """Give the line back."""
        if not self.is_closed:
            self.rollback()
            self.is_closed = True

    terminate = close

    def characteristic(self, name: str, default: Any) -> Any:
        """Return what was set for its transactions."""
        return self.characteristics.get(name, default)

    def __str__(self) -> str:
        return str(self.scope) if self.scope is not None else f"the connection used at {self.where}"


def is_read(sql: str, family: str) -> bool:
    """Tell whether a statement only reads, and locks nothing."""
    quick = QUICK.match(sql)
    writes = sql_text.text_writes(sql, family) if quick is None else quick[1] is None
    return not writes and LOCKS.search(sql) is None
