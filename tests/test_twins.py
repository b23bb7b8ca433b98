"""What must stay alike, and what must stay apart: the two databases, the names, the imports."""

import ast
import importlib
import inspect
import re
import statistics
import sys
import threading
import typing
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any
from unittest import mock

import asyncmy.connection
import asyncpg
import pymysql
import pymysql.cursors
import pytest
from fastapi import APIRouter
from sqlalchemy import Column, MetaData, String, Table, Text
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
from sqlalchemy.engine import NestedTransaction
from sqlalchemy.engine.cursor import BufferedRowCursorFetchStrategy
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.ext.asyncio import AsyncSessionTransaction
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

import dbscope
from dbscope import AsyncDatabase, Database
from dbscope.sqlite_inline.pool import LoopPool

SOURCE = Path(dbscope.__file__).parent

# Each has the companion of the other kind, and async code gives nothing else a name of its own.
OF_ONE_KIND = {"sync", "dispose_own", "async_"}

# The names of the public face at this stage; see docs for what each is.
MEMBERS = """
    engine sessionmaker backend session get_session scoped_session scope atomic savepoint
    on_commit on_rollback before_commit background set_rollback doom keep Rollback in_transaction
    current_transaction transaction_required durable non_atomic_requests atomic_requests
    readonly lock with_lock advisory_lock release run gather sandbox is_retryable retry_requests
    once idempotent execute scalar scalars get_by_pk ensure_schema ping dispose stats install
    lifespan events backend
"""
NAMES = """
    AsyncDatabase Database DBSessionMiddleware default_commit_veto Rollback DBScopeError
    TransactionManagementError TransactionBroken UnexpectedRollback TransactionOutcomeUnknown
    DurableError TransactionRequired AttributeMismatch ConcurrentUse ManualCommitForbidden
    BlocksOutOfOrder PartialCommit TransactionTimeout ScopeMissing ScopeClosed AttributeNotLoaded
    PoolTimeout DatabaseUnavailable ReadOnlyViolation MigrationError ConfigurationError
    KeyReused TransactionEndedOutside LockTimeout ClientTimeout unsafe_methods callsite masked
"""


# -- the twins -------------------------------------------------------------------------------------


def members(kind: type) -> set[str]:
    """Return the public names of a class."""
    return {name for name in dir(kind) if not name.startswith("_")} - OF_ONE_KIND


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    """Return names, kinds and defaults; annotations differ by nature."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def function_of(kind: type, name: str) -> Any:
    """Return what a member is made of; None for what is no function."""
    member = inspect.unwrap(inspect.getattr_static(kind, name))
    return member if inspect.isfunction(member) else None


def test_both_databases_have_the_same_members() -> None:
    """The plain name is the synchronous one; whoever knows one knows the other."""
    assert members(AsyncDatabase) == members(Database)
    assert set(MEMBERS.split()) <= members(Database)


@pytest.mark.parametrize("name", ["__init__", *sorted(members(Database))])
def test_a_member_takes_the_same_in_both(name: str) -> None:
    """Names, order, kinds and defaults of its parameters; and it is the same kind of thing."""
    kinds = {type(inspect.getattr_static(kind, name)) for kind in (AsyncDatabase, Database)}
    assert len(kinds) == 1
    plain, async_ = function_of(Database, name), function_of(AsyncDatabase, name)
    if plain is None:
        return
    ours, theirs = parameters(plain), parameters(async_)
    if name == "__init__":  # a session class is of one kind or the other
        ours, theirs = ([p[:2] for p in both] for both in (ours, theirs))
    assert ours == theirs


@pytest.mark.parametrize("kind", [Database, AsyncDatabase])
def test_every_member_is_documented(kind: type) -> None:
    """By a sentence, which ends like one."""
    for name in members(kind) - {"is_async", "Rollback"}:
        doc = inspect.getdoc(inspect.getattr_static(kind, name))
        assert doc, name
        assert doc.partition("\n\n")[0].endswith("."), name


def test_companions_are_each_others(tmp_path: Path) -> None:
    """`db.sync.async_ is db`, and both mean the same database."""
    async_, plain = AsyncDatabase(f"sqlite:///{tmp_path}/a.db"), Database("sqlite:///b.db")
    assert async_.sync.async_ is async_
    assert plain.async_.sync is plain
    assert async_.sync.url == async_.url
    assert (type(async_.sync), type(plain.async_)) == (Database, AsyncDatabase)


# -- the names -------------------------------------------------------------------------------------


def test_the_public_names_are_what_they_are_said_to_be() -> None:
    """`__all__` is what is there, sorted as ruff does; nothing of this stage is missing."""
    public = {
        name
        for name, value in vars(dbscope).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert set(dbscope.__all__) == public
    assert len(set(dbscope.__all__)) == len(dbscope.__all__)
    assert set(NAMES.split()) <= public


def test_init_only_imports_and_lists() -> None:
    """Whoever looks for code looks elsewhere."""
    body = ast.parse((SOURCE / "__init__.py").read_text()).body[1:]
    assert {type(node) for node in body} == {ast.ImportFrom, ast.Assign}


# -- the house -------------------------------------------------------------------------------------

# May import, of ours; what is built on the public face may import no more than that.
PUBLIC = set(NAMES.split())
ALLOWED = {
    "arguments": {"errors"},
    "unit": {"unit", "watch", "arguments", "errors"},  # of the watch, the facts it tells
    "aio": {"aio"},
    "sqlite_inline": {"sqlite_inline", "aio", "errors"},
    "backends": {"backends", "sqlite_inline", "aio", "unit", "errors", "watch"},
    "engine": {"engine", "backends", "aio", "unit", "arguments", "errors", "masking", "extras"}
    | {"watch"},
    "scopes": {"scopes", "engine", "aio", "unit", "arguments", "errors", "backends", "watch"},
    "watch": {"watch", "unit", "arguments", "errors", "masking"},
    "observe": {"observe", "watch", "unit", "extras", "__version__", *PUBLIC},
    "once": {"once", "scopes", "engine", "aio", "unit", "arguments", "errors", "backends"}
    | {"watch", "AsyncDatabase", "Database"},
    "outbox": {"outbox", "once", "scopes", "aio", "unit", "errors"},
    "errors": {"masking"},
    "masking": set(),
    "extras": {"errors", "backends"},
    "explain": {"errors"},
    "crud": {"crud", "backends", *PUBLIC},  # which statement a database has
    "testing": {"testing", "aio", "engine", "backends", "unit", "errors", "watch"}
    | {"__version__", *PUBLIC},
    "migrate": {"migrate", "aio", "backends", "extras", *PUBLIC},
    "jobs": {"jobs", "extras", *PUBLIC},
    "cli": {
        "cli",
        "migrate",
        "once",
        "outbox",
        "backends",
        "extras",
        "explain",
        "watch",
        "__version__",
        *PUBLIC,
    },
}


@cache
def modules() -> list[tuple[str, ast.Module]]:
    """Return the modules of the library, as paths below its folder."""
    files = sorted(SOURCE.rglob("*.py"))
    return [(str(path.relative_to(SOURCE)), ast.parse(path.read_text())) for path in files]


def imports_of_ours(tree: ast.AST) -> set[str]:
    """Return the parts of the house that are imported, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    ours = [name.split(".") for name in names if name.startswith("dbscope.")]
    return {parts[1] for parts in ours}


NAMES_OF_DATABASES = re.compile(
    r"postgres|mysql|mariadb|sqlite|psycopg|asyncpg|asyncmy|inline|galera|bouncer|duckdb|firebird",
    re.IGNORECASE,
)


def spoken(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Give what a module names, and its texts; what stands alone documents what is above it."""
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in documents:
                yield node.lineno, text
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.ClassDef(name=name) | ast.alias(name=name):
                yield getattr(node, "lineno", 0), name
            case ast.ImportFrom(module=str(name)):
                yield node.lineno, name
            case ast.keyword(arg=str(name)):
                yield node.value.lineno, name
            case _:
                pass


def test_only_backends_and_sqlite_inline_name_a_database_or_a_driver() -> None:
    """What differs between databases is asked of the backend, and is told in its package."""
    found = [
        f"{path}:{line}: {text[:60]!r}"
        for path, tree in modules()
        if path.partition("/")[0] not in {"backends", "sqlite_inline"}
        for line, text in spoken(tree)
        if NAMES_OF_DATABASES.search(text)
    ]
    assert found == []


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_go_one_way(part: str) -> None:
    """From where work comes in to what happens to it, never back."""
    for path, tree in modules():
        if path.partition("/")[0].removesuffix(".py") == part:
            assert imports_of_ours(tree) <= ALLOWED[part], path


def imported(nodes: list[ast.stmt], known: set[str], *, types: bool) -> Iterator[str]:
    """Give the modules of ours that these statements import, at once or when they are called.

    Args:
        nodes: the statements.
        known: the modules.
        types: also those that are imported only for who checks types.
    """
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif types or not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from imported(getattr(node, "body", []), known, types=types)
            yield from imported(getattr(node, "orelse", []), known, types=types)


def imports(*, types: bool) -> dict[str, set[str]]:
    """Return which modules each module imports; for `types` see `imported`."""
    named = {
        f"dbscope/{path}".removesuffix(".py").replace("/", "."): tree for path, tree in modules()
    }
    named = {name.removesuffix(".__init__"): tree for name, tree in named.items()}
    return {
        name: {
            each
            for each in imported(tree.body, set(named), types=types)
            if each in named and each != name
        }
        for name, tree in named.items()
    }


def test_no_imports_go_in_a_circle() -> None:
    """Neither at once nor later: what needs each other is one module, or is told by a third."""
    TopologicalSorter(imports(types=False)).prepare()  # raises CycleError, which names the circle


# The parts of a unit know each other by their types, so it is one here. What is told has units.
TOLD = {f"dbscope.watch.{name}" for name in ("event", "events", "scope_events", "wait_events")}


def whole(name: str) -> str:
    """Return the name of a module, or the unit that it is a part of."""
    return "dbscope.unit" if name.startswith("dbscope.unit.") else name


def test_no_types_go_in_a_circle() -> None:
    """Who reads one module reads those that it needs first, its types included."""
    graph: dict[str, set[str]] = {}
    for name, needs in imports(types=True).items():
        known = {whole(each) for each in needs} - {whole(name)}
        graph.setdefault(whole(name), set()).update(
            known - {"dbscope.unit"} if name in TOLD else known
        )
    TopologicalSorter(graph).prepare()


def test_the_unit_never_awaits() -> None:
    """What decides is told once, as plain functions; it knows no framework and no event loop."""
    asynchronous = ast.AsyncFunctionDef | ast.Await | ast.AsyncWith | ast.AsyncFor
    strange = {"asyncio", "anyio", "starlette", "fastapi", "greenlet"}
    for path, tree in modules():
        if not path.startswith("unit/"):
            continue
        for node in ast.walk(tree):
            assert not isinstance(node, asynchronous), f"{path}:{node.lineno}"
            if isinstance(node, ast.Import):
                assert not strange & {alias.name.split(".")[0] for alias in node.names}, path
            if isinstance(node, ast.ImportFrom):
                taken = {(node.module or "").split(".")[0]} & strange
                names = {alias.name for alias in node.names}
                assert not taken or names == {"CancelledError"}, path


def test_only_scopes_set_the_current_scope() -> None:
    """Everybody else reads it."""
    setting = set()
    for path, tree in modules():
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name("current"), attr="set" | "reset")):
                    setting.add(path.partition("/")[0])
    assert setting == {"scopes"}


def test_every_module_says_what_it_is() -> None:
    """By a docstring."""
    for path, tree in modules():
        assert ast.get_docstring(tree), path


def test_a_module_is_no_longer_than_a_person_reads_at_a_time() -> None:
    """300 lines; who has more to say makes a room of it."""
    lines = {path: len((SOURCE / path).read_text().splitlines()) for path, _ in modules()}
    assert {path for path, number in lines.items() if number > 300} == set()


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without its docstring."""
    first = function.body[0]
    told = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(function) else 0
    return (function.end_lineno or 0) - function.lineno + 1 - told


def test_functions_are_short() -> None:
    """Half of them have at most 8 lines, and one in twenty has more than 35."""
    lengths = [
        length(node)
        for _, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    cuts = statistics.quantiles(lengths, n=20)
    assert (cuts[9] <= 8, cuts[18] <= 35) == (True, True), cuts


# -- what we use of others that is not public ------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Session, "_execute_internal"),
        (Session, "_is_clean"),
        (Session, "_bulk_save_mappings"),
        (AsyncSessionTransaction, "_sync_transaction"),
    ],
)
def test_private_names_of_sqlalchemy_are_there(owner: type, name: str) -> None:
    """A release that takes one away must fail here, not in somebody's request."""
    assert callable(getattr(owner, name))


def test_a_statement_knows_what_it_returns() -> None:
    """`_returning` is empty unless rows are asked for, which are not put together from pieces."""
    table = Table("a", MetaData(), Column("b"))
    assert (table.insert()._returning, len(table.insert().returning(table)._returning)) == ((), 1)


def test_a_transaction_knows_its_connections() -> None:
    """The root of a session's transactions, whose first connection is where a unit begins."""
    session = Session()
    assert session._transaction is None
    session.begin()
    assert session._transaction is session.get_transaction()
    assert session._transaction is not None
    assert session._transaction._connections == {}
    assert list(inspect.signature(SessionTransaction._connection_for_bind).parameters) == [
        "self",
        "bind",
        "execution_options",
    ]


def test_a_lock_knows_its_owner_and_python_the_frames_of_its_threads() -> None:
    """Used where a thread must not wait for itself, and to see whether a call still goes on."""
    lock = threading.RLock()
    with lock:
        assert lock._is_owned()  # type: ignore[attr-defined]
    assert threading.get_ident() in sys._current_frames()


def test_a_statement_knows_whether_its_rows_are_read_in_pieces() -> None:
    """Of MySQL, whose driver tells the state of the transaction only behind the last row."""
    assert DefaultExecutionContext._is_server_side is False


def test_the_rows_of_one_can_be_read_one_by_one_and_to_their_end() -> None:
    """Of MySQL: a buffer takes the one that is read ahead, and the driver reads the rest."""
    assert "_rowbuffer" in BufferedRowCursorFetchStrategy.__slots__
    for driver in (pymysql.connections, asyncmy.connection):
        assert callable(driver.MySQLResult._finish_unbuffered_query)
    dialect: Any = MySQLDialect_pymysql()  # type: ignore[no-untyped-call]
    assert dialect.supports_server_side_cursors
    assert issubclass(dialect._sscursor, pymysql.cursors.SSCursor)


def test_a_type_knows_what_it_is_on_other_databases() -> None:
    """`with_variant` keeps them by the names of the databases; a revision writes them, too."""
    assert set(String().with_variant(Text(), "sqlite")._variant_mapping) == {"sqlite"}


def test_a_session_knows_that_it_is_flushing() -> None:
    """`_flushing` tells our flush from the one inside it."""
    assert Session()._flushing is False


def test_a_savepoint_knows_its_name() -> None:
    """ROLLBACK TO keeps the savepoint, so its name is needed once more, for RELEASE."""
    assert "_savepoint" in NestedTransaction.__slots__
    assert QueuePool(lambda: None, max_overflow=3)._max_overflow == 3  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("kind", [QueuePool, AsyncAdaptedQueuePool, LoopPool])
def test_a_pool_takes_back_what_was_taken_out_of_its_queue(kind: type[QueuePool]) -> None:
    """Before a fork: idle records are taken out, ended and put back, more than fit are closed."""
    connections: list[Any] = [mock.Mock(), mock.Mock()]
    pool = kind(iter(connections).__next__, pool_size=1, max_overflow=1)
    first, second = pool.connect(), pool.connect()
    first.close()
    record = pool._pool.get_nowait()
    second.close()
    assert (pool.checkedin(), pool.overflow()) == (1, 1)
    pool._do_return_conn(record)
    assert (pool.checkedin(), pool.overflow()) == (1, 0)


def test_one_method_is_behind_every_way_to_execute() -> None:
    """In SQLAlchemy's Session: whatever sends a statement passes the unit's check."""
    for name in ("execute", "scalar", "scalars"):
        assert "_execute_internal" in inspect.getsource(getattr(Session, name))


def test_the_drivers_have_what_a_session_is_reset_by() -> None:
    """A command that neither driver of MySQL has a name for, and who listens by asyncpg."""
    for kind in (pymysql.Connection, asyncmy.connection.Connection):
        assert callable(kind._execute_command)
        assert callable(kind._read_ok_packet)
    assert "_listeners" in asyncpg.Connection.__slots__
    assert "_con" in asyncpg.pool.PoolConnectionProxy.__slots__


def test_an_included_router_tells_which_route_it_is() -> None:
    """FastAPI keeps it as it is; before, its routes were copied, and had nothing to tell."""
    for route in including().routes:
        if hasattr(route, "original_router"):
            assert list(inspect.signature(route._match).parameters) == ["scope"]


def including() -> APIRouter:
    """Return a router that includes another one."""
    router = APIRouter()
    router.include_router(APIRouter(), prefix="/inner")
    return router


def private_names_used() -> set[str]:
    """Return the private attributes that the library takes from objects other than its own."""
    used: set[str] = set()
    defined: set[str] = set()
    for _, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and is_private(node.attr):
                target = used if isinstance(node.ctx, ast.Load) else defined
                target.add(node.attr)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                defined.add(node.name)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                defined.add(node.value)  # __slots__
    return used - defined


def is_private(name: str) -> bool:
    """Tell a private name from `__class__` and its kin."""
    return name.startswith("_") and not name.startswith("__")


def test_no_other_private_name_is_used_unnoticed() -> None:
    """Who needs one more adds it here, with a test that it exists."""
    known = {"_flushing", "_is_clean", "_sync_transaction", "_execute_internal", "_savepoint"}
    known |= {"_max_overflow", "_pool", "_do_return_conn", "_transaction", "_connections"}
    known |= {"_is_server_side", "_rowbuffer", "_variant_mapping", "_match"}
    known |= {"_lazy_loaded_from", "_refresh_state"}  # tests/watch/test_problems.py fails without
    of_healing = {  # tests/watch/test_healing.py fails without
        "_columntoproperty",
        "_distinct",
        "_effective_processors",
        "_fetch_clause",
        "_fetchall_impl",
        "_generate_cache_key",
        "_group_by_clauses",
        "_having_criteria",
        "_identity_token",
        "_index_for_key",
        "_limit_clause",
        "_metadata",
        "_offset_clause",
        "_populate_existing",
        "_primary_key_propkeys",
    }
    of_drivers = {"_execute", "_tx", "_thread", "_running", "_connection", "_conn", "_top_xact"}
    of_drivers |= {"_transport", "_sock", "_result", "_deprecate_eof", "_stream_broken"}
    of_drivers |= {"_STOP_RUNNING_SENTINEL", "_prepared", "_invalidate_schema_cache"}
    of_drivers |= {"_execute_command", "_read_ok_packet", "_listeners", "_finish_unbuffered_query"}
    of_python = {"_getframe", "_current_frames", "_is_owned", "_asdict"}
    assert private_names_used() <= known | of_healing | of_drivers | of_python


def test_the_drivers_still_have_what_we_look_at() -> None:
    """asyncpg's hidden top transaction, aiosqlite's queue and thread, asyncmy's last result."""
    asyncmy = importlib.import_module("asyncmy.connection")
    for name in ("_transport", "_result", "_deprecate_eof", "_stream_broken"):
        assert hasattr(asyncmy.Connection, name), name
    pymysql = importlib.import_module("pymysql.connections")
    assert hasattr(pymysql.Connection, "_sock")
    asyncpg = importlib.import_module("asyncpg.connection")
    assert "_top_xact" in asyncpg.Connection.__slots__
    aiosqlite = importlib.import_module("aiosqlite.core")
    source = inspect.getsource(aiosqlite.Connection.__init__)
    for name in ("_tx", "_thread", "_running", "_connection"):
        assert f"self.{name}" in source, name
    worker = inspect.getsource(aiosqlite._connection_worker_thread)
    assert "result is _STOP_RUNNING_SENTINEL" in worker
    assert callable(aiosqlite.set_result)
    assert callable(aiosqlite.set_exception)
    psycopg = importlib.import_module("psycopg.connection")
    assert "_prepared" in inspect.getsource(psycopg.BaseConnection.__init__)
    adapter = importlib.import_module("sqlalchemy.dialects.postgresql.asyncpg")
    assert callable(adapter.dialect._invalidate_schema_cache)
    assert inspect.iscoroutinefunction(aiosqlite.Connection._execute)


def test_annotations_can_be_read() -> None:
    """FastAPI reads them at run time: nothing is behind TYPE_CHECKING that it would need."""
    for kind in (Database, AsyncDatabase):
        assert typing.get_type_hints(kind.get_session)
