"""What a test says about transactions, and about what waits for their COMMIT."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, overload

from sqlalchemy import event

from dbscope.testing.inside import source_of, sources_of
from dbscope.unit import callsite
from dbscope.unit.current import open_scope

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from dbscope import AsyncDatabase, Database
    from dbscope.testing.inside import AnyDatabase
    from dbscope.unit.hooks import Hook
    from dbscope.unit.unit import Unit


@overload
def part_of_a_transaction(db: Database[Any]) -> AbstractContextManager[None]: ...
@overload
def part_of_a_transaction(db: AsyncDatabase[Any]) -> AbstractAsyncContextManager[None]: ...
def part_of_a_transaction(db: Any) -> Any:
    """Run code as part of a transaction that somebody else will end: it never comes to be.

    What needs a transaction (`transaction_required`, `savepoint`) has one, and what must not be in
    one (`durable`) is refused. At the end all is rolled back, and no hook of it runs.

    Args:
        db: the database; `with` for a `Database`, `async with` for an `AsyncDatabase`.

    Example:
        >>> async with part_of_a_transaction(db):
        ...     await reserve_stock(order)
    """
    return _async_part(db) if db.is_async else _part(db)


@contextmanager
def _part(db: Database[Any]) -> Generator[None]:
    if open_scope() is None:
        with db.scope(atomic=False), _part(db):
            yield
        return
    with db.atomic():
        yield
        db.set_rollback(True)


@asynccontextmanager
async def _async_part(db: AsyncDatabase[Any]) -> AsyncGenerator[None]:
    if open_scope() is None:
        async with db.scope(atomic=False), _async_part(db):
            yield
        return
    async with db.atomic():
        yield
        db.set_rollback(True)


@contextmanager
def assert_no_open_transactions(db: AnyDatabase) -> Generator[None]:
    """Fail if a connection that was taken inside is still out at the end.

    Args:
        db: the database; its companion counts, too.

    Raises:
        AssertionError: at the end; it names who has them.

    Example:
        >>> with assert_no_open_transactions(db):
        ...     client.get("/report")
    """
    out: dict[Any, str] = {}

    def on_checkout(connection: Any, record: Any, proxy: Any) -> None:  # noqa: ARG001
        out[record] = callsite.of_call()

    def on_checkin(connection: Any, record: Any) -> None:  # noqa: ARG001
        out.pop(record, None)

    pools = _pools_of(db)
    for pool in pools:
        event.listen(pool, "checkout", on_checkout)
        event.listen(pool, "checkin", on_checkin)
    try:
        yield
    finally:
        for pool in pools:
            event.remove(pool, "checkout", on_checkout)
            event.remove(pool, "checkin", on_checkin)
    if out:
        names = "\n".join(f"  {_who(record)}, taken at {where}" for record, where in out.items())
        raise AssertionError(f"Transactions are open at the end of the block:\n{names}")


def _pools_of(db: AnyDatabase) -> list[Any]:
    engines = {source_of(db).sync_engine: None}
    for source in sources_of(db):
        if source.engines.plain is not None:
            engines[source.engines.plain] = None
    return [engine.pool for engine in engines]


def _who(record: Any) -> str:
    unit: Unit | None = record.info.get("dbscope.unit")
    return "a connection" if unit is None else str(unit.scope)


@contextmanager
def capture_on_commit(db: AnyDatabase, run: bool = False) -> Generator[list[Callable[[], object]]]:
    """Capture the functions that are registered by `on_commit`, when their COMMIT has come.

    And at the end those of a transaction that is still open around the code. What was rolled back
    is not among them.

    Args:
        db: the database; its companion's are captured, too.
        run: run them as well, at their COMMIT, as always; False: they are only captured.

    Returns:
        The functions, in their order.

    Example:
        >>> with capture_on_commit(db) as hooks:
        ...     client.post("/orders")
        >>> assert len(hooks) == 1
    """
    captured: list[Callable[[], object]] = []

    def capture(due: list[Hook]) -> list[Hook]:
        captured.extend(hook.function for hook in due if hook.is_of_commit)
        return due if run else [hook for hook in due if not hook.is_of_commit]

    sources = sources_of(db)
    before = {id(hook) for source in sources for _, hook in _waiting(source)}
    for source in sources:
        source.captures = capture
    try:
        yield captured
    finally:
        for source in sources:
            source.captures = None
    for source in sources:
        for hooks, hook in _waiting(source):
            if id(hook) not in before:
                captured.append(hook.function)
                if not run:
                    hooks.on_commit.remove(hook)


def _waiting(source: Any) -> list[tuple[Any, Hook]]:
    """Return the hooks that wait for the COMMIT of the running code."""
    scope = open_scope()
    unit = None if scope is None else scope.units.get(source)
    blocks = [] if unit is None else unit.blocks
    return [(b.hooks, hook) for b in blocks if b.hooks is not None for hook in b.hooks.on_commit]
