"""What a transaction is to each database while a sandbox holds the real one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    Ask = Callable[[str], list[Any]]  # sends a statement, and returns its rows

LOCKS = re.compile(r"\bFOR\s+(?:UPDATE|SHARE|NO\s+KEY|KEY)\b", re.IGNORECASE)
SETS = re.compile(r"\s*SET\s+LOCAL\s+(SESSION\s+AUTHORIZATION|TIME\s+ZONE|[\w.\"]+)", re.IGNORECASE)
IN_WORDS = {
    "SESSION AUTHORIZATION": "session_authorization",
    "TIME ZONE": "timezone",
    "NAMES": "client_encoding",
    "SCHEMA": "search_path",
}
VALUE = r"(?:'([^']*)'|%\((\w+)\)s|\$(\d+)|(%s))(?:::\w+)?"  # written, or bound in a driver's way
SET_CONFIG = re.compile(rf"\bset_config\s*\(\s*{VALUE}\s*,", re.IGNORECASE)
IS_LOCAL = re.compile(
    rf"(?:'(?:[^']|'')*'|[^(),']|\([^()]*\))*,\s*(?:(true|false)\b|{VALUE})\s*\)", re.IGNORECASE
)


class Rules:
    """What all have in common: a database that is not known is left as it is."""

    begin: tuple[str, ...] = ()  # how the outer transaction begins
    begin_to_write: tuple[str, ...] = ()  # how it begins anew, when it has only read so far
    cancels = False  # a statement can be cancelled, and the transaction goes on
    read_only: tuple[str, str] | None = None  # how a savepoint is made one, and how that ends

    def is_begun(self, driver: Any) -> bool:  # noqa: ARG002
        """Tell whether a transaction that SQLAlchemy has begun is one, for a savepoint to be in."""
        return True

    def check(self, ask: Ask) -> None:
        """Look at what COMMIT would look at; raise what it would raise."""

    def commits_by_itself(self, sql: str) -> bool:  # noqa: ARG002
        """Tell whether the server would commit with this statement."""
        return False

    def refused_write(self, dbapi: Any) -> Exception | None:  # noqa: ARG002
        """Return the error of a write in what is read-only; None: the server says it."""
        return None

    def conflict(self, dbapi: Any) -> Exception:
        """Return the error of a COMMIT that has met another transaction."""
        return dbapi.OperationalError("a conflict with another transaction")  # type: ignore[no-any-return]

    def settings(self, sql: str, parameters: Any) -> list[str]:  # noqa: ARG002
        """Return the names of what a statement sets for its transaction."""
        return []

    def is_over(self, error: BaseException, driver: Any) -> bool:  # noqa: ARG002
        """Tell whether a failed statement has ended the whole transaction."""
        return False


class PostgreSQL(Rules):
    """SET CONSTRAINTS looks at once at what COMMIT would have looked at."""

    cancels = True
    read_only = ("SET TRANSACTION READ ONLY", "")
    # Afterwards each constraint is again as it was declared; the block is one round trip.
    CHECK = """DO $$ DECLARE names text; BEGIN
 SET CONSTRAINTS ALL IMMEDIATE;
 SET CONSTRAINTS ALL DEFERRED;
 SELECT string_agg(format('%I.%I', nspname, conname), ', ') INTO names
 FROM pg_constraint JOIN pg_namespace ON pg_namespace.oid = connamespace
 WHERE condeferrable AND NOT condeferred;
 IF names IS NOT NULL THEN EXECUTE 'SET CONSTRAINTS ' || names || ' IMMEDIATE'; END IF;
 END $$"""

    def check(self, ask: Ask) -> None:
        """Check the constraints that are deferred."""
        ask(self.CHECK)

    def conflict(self, dbapi: Any) -> Exception:
        """Return a serialization failure."""
        error = dbapi.OperationalError("could not serialize access, by conflict()")
        error.sqlstate = "40001"
        return error  # type: ignore[no-any-return]

    def settings(self, sql: str, parameters: Any) -> list[str]:
        """Return what SET LOCAL and `set_config` have set: RELEASE would keep it."""
        if found := SETS.match(sql):
            words = " ".join(found[1].upper().split())
            return [_quoted(IN_WORDS.get(words, found[1]))]
        calls = SET_CONFIG.finditer(sql)
        local = [each for each in calls if _is_local(sql, each.end(), parameters)]
        named = [_value(each, parameters) for each in local]
        return [_quoted(each) for each in named if isinstance(each, str)]


def _quoted(name: str) -> str:
    """Return the name of a setting as SET takes it, whatever words it is made of."""
    return ".".join(f'"{part}"' for part in name.replace('"', "").split("."))


def _is_local(sql: str, begin: int, parameters: Any) -> bool:
    """Tell whether a call of `set_config` is for the transaction only, by its last argument."""
    found = IS_LOCAL.match(sql, begin)
    if found is None:  # an expression: for most it is
        return True
    told = found[1] or _value(found, parameters, first=2)
    return str(told).lower() not in {"false", "f", "no", "off", "0"}


def _value(found: re.Match[str], parameters: Any, first: int = 1) -> Any:
    """Return the value that stands in the text, or is bound there; None: nobody can tell."""
    written, name, number, _ = found.groups()[first - 1 : first + 3]
    if written is not None:
        return written
    before = found.string.count("%s", 0, found.end())
    try:
        return parameters[name or int(number or before) - 1]
    except (LookupError, TypeError):  # many sets of parameters, or none
        return None


class MySQL(Rules):
    """There is nothing that only COMMIT looks at; schema changes commit."""

    begin = ("START TRANSACTION",)
    COMMITS = frozenset(
        {"ALTER", "ANALYZE", "CACHE", "CHANGE", "CHECK", "CREATE", "DROP", "FLUSH", "GRANT"}
        | {"INSTALL", "LOAD", "LOCK", "OPTIMIZE", "RENAME", "REPAIR", "RESET", "REVOKE"}
        | {"STOP", "TRUNCATE", "UNINSTALL", "UNLOCK"}
    )
    DEADLOCK = 1213
    READ_ONLY = 1792

    def commits_by_itself(self, sql: str) -> bool:
        """Tell it by the first word (MariaDB, "SQL statements that cause an implicit commit")."""
        words = sql.upper().split(maxsplit=2)
        return bool(words) and words[0] in self.COMMITS and words[1:2] != ["TEMPORARY"]

    def refused_write(self, dbapi: Any) -> Exception | None:
        """Return the server's own: in a transaction it cannot be told to refuse."""
        message = "Cannot execute statement in a READ ONLY transaction"
        return dbapi.OperationalError(self.READ_ONLY, message)  # type: ignore[no-any-return]

    def conflict(self, dbapi: Any) -> Exception:
        """Return a deadlock."""
        return dbapi.OperationalError(self.DEADLOCK, "Deadlock found, by conflict()")  # type: ignore[no-any-return]

    def is_over(self, error: BaseException, driver: Any) -> bool:  # noqa: ARG002
        """Tell a deadlock, which takes all of the transaction."""
        return bool(error.args) and error.args[0] == self.DEADLOCK


class SQLite(Rules):
    """Foreign keys that are deferred are looked for; the lock to write is taken when needed."""

    begin = ("BEGIN",)
    begin_to_write = ("ROLLBACK", "BEGIN IMMEDIATE")
    read_only = ("PRAGMA query_only=ON", "PRAGMA query_only=OFF")

    def is_begun(self, driver: Any) -> bool:
        """Tell whether the driver has sent BEGIN, which it does before the first write only."""
        return not self.is_over(BaseException(), driver)

    def check(self, ask: Ask) -> None:
        """Look for rows without a parent, if there are keys that may wait for one."""
        if not ask("SELECT 1 FROM sqlite_master WHERE sql LIKE '%DEFERR%' LIMIT 1"):
            return
        if ask("PRAGMA foreign_keys") == [(1,)] and ask("PRAGMA foreign_key_check"):
            import sqlite3

            raise sqlite3.IntegrityError("FOREIGN KEY constraint failed")

    def conflict(self, dbapi: Any) -> Exception:
        """Return the error of who cannot have the lock."""
        error = dbapi.OperationalError("database is locked, by conflict()")
        error.sqlite_errorcode = 5  # SQLITE_BUSY
        return error  # type: ignore[no-any-return]

    def is_over(self, error: BaseException, driver: Any) -> bool:  # noqa: ARG002
        """Tell what OR ROLLBACK, a full disk and an interrupted write have done."""
        found: Any = getattr(driver, "driver_connection", driver)
        return not getattr(found, "in_transaction", True)


RULES = {"postgresql": PostgreSQL(), "mysql": MySQL(), "sqlite": SQLite()}
NONE = Rules()


def rules_of(family: str) -> Rules:
    """Return the rules of a family of databases."""
    return RULES.get(family, NONE)


def is_sandboxed(connection: Connection) -> bool:
    """Tell whether a connection is one of a sandbox."""
    return _holds_another(connection.connection.dbapi_connection)


def real_of(driver: Any) -> Any:
    """Return the connection of the driver, which in a sandbox is the one that it holds."""
    return driver.dbscope_real if _holds_another(driver) else driver


def _holds_another(driver: Any) -> bool:
    """Tell it by the class: an adapter looks for each attribute that it has not at its driver."""
    kind: Any = driver.__class__
    return hasattr(kind, "dbscope_real")


def set_readonly(connection: Connection, readonly: bool) -> None:
    """Let the transactions of a connection of a sandbox write, or not."""
    driver: Any = connection.connection.dbapi_connection
    driver.characteristics["readonly"] = readonly
