"""Atomic blocks: entering, leaving, nesting. Cases A, B and F of the rule book."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy import insert as core_insert
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.util import await_only, greenlet_spawn

from dbscope import (
    AsyncDatabase,
    BlocksOutOfOrder,
    ConcurrentUse,
    Database,
    DatabaseUnavailable,
    DBScopeError,
    DurableError,
    Rollback,
    ScopeMissing,
    TransactionBroken,
    TransactionManagementError,
    TransactionRequired,
    UnexpectedRollback,
)
from tests.worlds import SYNC, Both, Item, World, both_context, insert, waiting

BARE, CALLED = "bare", "with parentheses"


class Trouble(Exception):
    """Something that the application raises."""


class Halt(BaseException):
    """What a program is ended by: no `except Exception` sees it."""


def atomic_of(db: Both, how: str) -> Any:
    """Return the decorator, written in one of the two ways."""
    return db.real.atomic if how == BARE else db.real.atomic()


def nest(db: Both, outer: Any, inner: Any, number: int) -> None:
    """Store "outer", then "inner" in a block inside, whose error is swallowed."""
    outer_fails, inner_fails = CELLS[number]
    with outer:
        insert(db, f"outer {number}")
        with suppress(Trouble), inner:
            insert(db, f"inner {number}")
            if inner_fails:
                raise Trouble
        if outer_fails:
            raise Trouble


def swallow(db: Both, failing: Callable[[Both], Any]) -> IntegrityError:
    """Let a statement fail, and go on as if nothing had happened."""
    with pytest.raises(IntegrityError) as caught:
        failing(db)
    return caught.value


def twice(db: Both) -> None:
    """Store a name that is there already, by a statement."""
    db.execute(core_insert(Item).values(name="a"))


def twice_by_flush(db: Both) -> None:
    """Store a name that is there already, by a flush."""
    insert(db, "a")


# -- a single block --------------------------------------------------------------------------------


def test_what_ends_well_is_committed(world: World) -> None:
    """A1, A3: what was done is visible to another connection after the end."""
    world.run(lambda db: insert(db, "a"))
    assert world.items() == ["a"]


def test_an_exception_rolls_back_and_leaves_as_it_is(world: World) -> None:
    """A2, A3: no row, and the same exception object."""
    trouble = Trouble()

    def body(db: Both) -> None:
        insert(db, "a")
        raise trouble

    with pytest.raises(Trouble) as caught:
        world.run(body)
    assert caught.value is trouble
    assert world.items() == []


def test_what_ends_a_program_rolls_back_too(world: World) -> None:
    """A2, G15: KeyboardInterrupt and its kin are no `Exception`, and still no success."""

    def body(db: Both) -> None:
        insert(db, "a")
        raise Halt

    with pytest.raises(Halt):
        world.run(body)
    assert world.items() == []


@pytest.mark.parametrize("how", [BARE, CALLED])
def test_a_decorated_function_is_a_block(world: World, how: str) -> None:
    """A1: committed, and the return value is passed through."""

    def store(name: str) -> str:
        insert(db_of[0], name)
        return name.upper()

    db_of: list[Both] = []

    def body(db: Both) -> Any:
        db_of.append(db)
        return db.decorated(atomic_of(db, how), store)("a")

    assert world.run(body) == "A"
    assert world.items() == ["a"]


@pytest.mark.parametrize("how", [BARE, CALLED])
def test_a_decorated_function_that_raises_leaves_nothing(world: World, how: str) -> None:
    """A2: no row of its own, those around it stay; the same exception object."""
    trouble = Trouble()

    def body(db: Both) -> None:
        def store() -> None:
            insert(db, "inner")
            raise trouble

        insert(db, "outer")
        with pytest.raises(Trouble) as caught:
            db.decorated(atomic_of(db, how), store)()
        assert caught.value is trouble

    world.run(body)
    assert world.items() == ["outer"]


@pytest.mark.worlds(places=["scope"])
@pytest.mark.parametrize("fails", [False, True])
def test_outside_any_scope_a_block_opens_its_own(world: World, *, fails: bool) -> None:
    """A1, A2: a decorated function works anywhere; when it has returned, its work is stored."""

    def story(db: Both) -> None:
        def store() -> None:
            insert(db, "a")
            if fails:
                raise Trouble

        function = db.decorated(db.real.atomic, store)
        if fails:
            with pytest.raises(Trouble):
                function()
        else:
            function()
        assert world.items() == ([] if fails else ["a"])

    world.play(story)


@pytest.mark.worlds(places=["scope"])
def test_a_scope_decorates_too(world: World) -> None:
    """Each call has a scope of its own, so it can call itself."""
    sessions = set()

    def story(db: Both) -> None:
        def store(depth: int) -> int:
            sessions.add(id(db.real.session))
            return store_in_scope(depth - 1) + 1 if depth else 0

        store_in_scope = db.decorated(db.real.scope, store)
        assert store_in_scope(2) == 2

    world.play(story)
    assert len(sessions) == 3


def test_return_break_and_continue_commit(world: World) -> None:
    """A21: only an exception rolls back."""

    def by_return(db: Both) -> Item:
        with db.atomic():
            return insert(db, "return")

    def body(db: Both) -> None:
        by_return(db)
        for name in ("continue", "break"):
            with db.atomic():
                insert(db, name)
                if name == "break":
                    break
                continue

    world.run(body)
    assert world.items() == ["return", "continue", "break"]


def test_a_callable_object_can_be_decorated(world: World) -> None:
    """A15: https://code.djangoproject.com/ticket/20028."""

    class Plain:
        def __init__(self, db: Both) -> None:
            self.db = db

        def __call__(self, name: str) -> str:
            return insert(self.db, name).name

    class Async(Plain):
        async def __call__(self, name: str) -> str:
            return await greenlet_spawn(super().__call__, name)

    def body(db: Both) -> None:
        subject = Async(db) if db.is_async else Plain(db)
        assert waiting(db.real.atomic(subject))("a") == "a"

    world.run(body)
    assert world.items() == ["a"]


# -- what cannot be decorated ----------------------------------------------------------------------


def plain() -> None: ...


async def coroutine() -> None: ...


def generator() -> Any:
    yield


async def async_generator() -> Any:
    yield


@pytest.mark.parametrize("how", ["atomic", "atomic()", "scope", "scope()"])
@pytest.mark.parametrize("kind", [Database, AsyncDatabase])
@pytest.mark.parametrize("function", [generator, async_generator, "a name"])
def test_a_generator_cannot_be_decorated(kind: Any, how: str, function: Any) -> None:
    """A24: Django silently wraps only its creation."""
    db = kind("sqlite://")
    decorator = getattr(db, how.removesuffix("()"))
    with pytest.raises(TypeError, match="decorate"):
        (decorator() if how.endswith("()") else decorator)(function)


@pytest.mark.parametrize("how", ["atomic", "scope"])
def test_each_kind_decorates_its_own_kind_of_function(how: str) -> None:
    """The message names the companion that could."""
    with pytest.raises(TypeError, match=rf"db\.sync\.{how}"):
        getattr(AsyncDatabase("sqlite://"), how)(plain)
    with pytest.raises(TypeError, match=rf"db\.async_\.{how}"):
        getattr(Database("sqlite://"), how)(coroutine)


# -- nesting ---------------------------------------------------------------------------------------

CELLS = [(False, False), (False, True), (True, False), (True, True)]  # outer fails, inner fails


def test_a_nested_block_is_undone_alone(world: World) -> None:
    """A4: an inner failure takes only its own work, an outer one all."""

    def body(db: Both) -> None:
        for number in range(len(CELLS)):
            with suppress(Trouble):
                nest(db, db.atomic(), db.atomic(), number)

    world.run(body)
    assert world.items() == ["outer 0", "inner 0", "outer 1"]


def test_one_block_object_can_be_entered_again_inside_itself(world: World) -> None:
    """A6: nothing of an entered block is kept on the object."""

    def body(db: Both) -> None:
        block = db.real.atomic()
        for number in range(len(CELLS)):
            outer, inner = both_context(block), both_context(block)
            with suppress(Trouble):
                nest(db, outer, inner, number)

    world.run(body)
    assert world.items() == ["outer 0", "inner 0", "outer 1"]


def test_a_joined_block_shares_the_fate_of_the_one_around(world: World) -> None:
    """A5: where Django rolls back silently, a swallowed failure is UnexpectedRollback."""

    def body(db: Both) -> None:
        for number, (outer_fails, inner_fails) in enumerate(CELLS):
            expected: Any = Trouble if outer_fails else UnexpectedRollback if inner_fails else None
            with pytest.raises(expected) if expected else nullcontext() as caught:
                joined = db.atomic(savepoint=False)
                nest(db, db.atomic(), joined, number)
            if expected is UnexpectedRollback:
                assert isinstance(caught.value.__cause__, Trouble)

    world.run(body)
    assert world.items() == ["outer 0", "inner 0"]


def test_a_decorated_function_can_call_itself(world: World) -> None:
    """A6: each call is a block of its own; the innermost fails alone."""

    def body(db: Both) -> None:
        def store(depth: int) -> None:
            insert(db, str(depth))
            if depth == 0:
                raise Trouble
            try:
                decorated(depth - 1)
            except Trouble:
                assert depth == 1

        decorated = db.decorated(db.real.atomic, store)
        decorated(2)

    world.run(body)
    assert world.items() == ["2", "1"]


@pytest.mark.worlds(places=["scope"])
def test_two_calls_of_one_decorated_function_run_at_once(world: World) -> None:
    """A6: one of them fails, and the other one's work is stored."""

    def story(db: Both) -> None:
        together = world.barrier(2)

        def store(name: str) -> None:
            together()
            insert(db, name)
            if name == "bad":
                raise Trouble

        decorated = db.decorated(db.real.atomic, store)

        def bad() -> None:
            with pytest.raises(Trouble):
                decorated("bad")

        world.at_once(lambda: decorated("good"), bad)

    world.play(story)
    assert world.items() == ["good"]


def test_a_failure_is_seen_at_every_joined_level(world: World) -> None:
    """A10: the nearest savepoint or transaction rolls everything back."""
    seen = []

    def body(db: Both) -> None:
        insert(db, "before")
        with pytest.raises(UnexpectedRollback), db.atomic():
            insert(db, "a")
            with db.atomic(savepoint=False):
                insert(db, "b")
                with pytest.raises(Trouble), db.atomic(savepoint=False):
                    insert(db, "c")
                    raise Trouble
                seen.append(db.current_transaction().is_broken)
            seen.append(db.current_transaction().is_broken)

    world.run(body)
    assert seen == [True, True]
    assert world.items() == ["before"]


def test_a_joined_failure_stops_at_the_savepoint_around_it(world: World) -> None:
    """A10: what is outside of that savepoint is kept."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(Trouble), db.atomic():
            insert(db, "b")
            with db.atomic(savepoint=False):
                insert(db, "c")
                raise Trouble
        assert not db.current_transaction().is_broken

    world.run(body)
    assert world.items() == ["a"]


def test_in_a_broken_transaction_a_nested_block_joins(world: World) -> None:
    """A10, A13: a savepoint there would hide the failure."""

    def body(db: Both) -> None:
        insert(db, "a")
        swallow(db, twice)
        with pytest.raises(TransactionBroken), db.atomic():
            db.scalar(select(1))

    with pytest.raises(UnexpectedRollback):
        world.run(body)
    assert world.items() == []


# -- rolling back on purpose -----------------------------------------------------------------------


def test_set_rollback_is_silent(world: World) -> None:
    """A7: no row, no exception."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.set_rollback(True)

    world.run(body)
    assert world.items() == []


def test_set_rollback_is_for_one_block(world: World) -> None:
    """A7: what is around it is kept."""

    def body(db: Both) -> None:
        insert(db, "a")
        with db.atomic() as block:
            insert(db, "b")
            block.set_rollback(True)

    world.run(body)
    assert world.items() == ["a"]


def test_a_failure_undone_by_hand_can_be_forgotten(world: World) -> None:
    """A8: a savepoint of one's own, and `set_rollback(False)`."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.execute(text("SAVEPOINT mine"))
        with pytest.raises(IntegrityError), db.atomic(savepoint=False):
            twice(db)
        assert db.current_transaction().is_broken
        db.set_rollback(False)
        db.execute(text("ROLLBACK TO SAVEPOINT mine"))
        insert(db, "b")

    world.run(body)
    assert world.items() == ["a", "b"]


def test_rollback_in_a_joined_block_undoes_the_whole(world: World) -> None:
    """A22: without the trap of Rails, where both rows are stored."""

    def body(db: Both) -> None:
        insert(db, "a")
        with db.atomic():
            insert(db, "b")
            with db.atomic(savepoint=False):
                insert(db, "c")
                raise Rollback
        insert(db, "d")

    world.run(body)
    assert world.items() == ["a", "d"]


def test_rollback_in_a_joined_block_cannot_be_swallowed_halfway(world: World) -> None:
    """A22: whoever catches it in between changes nothing; it is still meant, so it is silent."""

    def body(db: Both) -> None:
        with db.atomic():
            insert(db, "a")
            with pytest.raises(Rollback), db.atomic(savepoint=False):
                raise Rollback

    world.run(body)
    assert world.items() == []


def test_rollback_undoes_the_block_it_is_raised_in(world: World) -> None:
    """A23: only the innermost of many savepoints is gone, and nothing is raised."""

    def body(db: Both) -> None:
        insert(db, "a")
        with db.atomic():
            insert(db, "b")
            with db.atomic():
                insert(db, "c")
                with db.savepoint():
                    insert(db, "d")
                    raise db.Rollback
            insert(db, "e")

    world.run(body)
    assert world.items() == ["a", "b", "c", "e"]


@pytest.mark.worlds(places=["scope", "block"])
def test_rollback_leaves_a_scope_quietly(world: World) -> None:
    """A23: a scope is a block too."""

    def body(db: Both) -> None:
        insert(db, "a")
        raise Rollback

    world.run(body)
    assert world.items() == []


# -- a failed statement ----------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_nothing_is_sent_in_a_broken_transaction(world: World, failing: Any) -> None:
    """A13: the error of the query that follows names the one that was swallowed."""
    world.look.execute("INSERT INTO item (id, name) VALUES (9, 'there before')")

    def body(db: Both) -> None:
        insert(db, "a")
        error = swallow(db, failing)
        sent = list(world.statements)
        for query in (lambda: db.execute(text("DELETE FROM item")), lambda: insert(db, "b")):
            with pytest.raises(TransactionBroken) as caught:
                query()
            assert caught.value.__cause__ is error
        db.session.expunge_all()
        assert [s for s in world.statements if s not in sent and s != "ROLLBACK"] == []

    with pytest.raises(UnexpectedRollback):
        world.run(body)
    assert world.items() == ["there before"]


@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_a_swallowed_error_is_no_success(world: World, failing: Any) -> None:
    """A13: PostgreSQL turns this COMMIT into a ROLLBACK, SQLite stores the half; here it fails."""

    def body(db: Both) -> None:
        insert(db, "a")
        swallow(db, failing)

    with pytest.raises(UnexpectedRollback) as caught:
        world.run(body)
    assert isinstance(caught.value.__cause__, IntegrityError)
    assert world.items() == []


@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_in_a_block_of_its_own_a_statement_may_fail(world: World, failing: Any) -> None:
    """A4, A13: that is what blocks are for."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(IntegrityError), db.atomic():
            failing(db)
        insert(db, "b")

    world.run(body)
    assert world.items() == ["a", "b"]


@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_a_swallowed_error_in_a_nested_block_loses_only_that(world: World, failing: Any) -> None:
    """A13: its caller learns it, and may go on."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(UnexpectedRollback), db.atomic():
            insert(db, "b")
            swallow(db, failing)
        insert(db, "c")

    world.run(body)
    assert world.items() == ["a", "c"]


@pytest.mark.worlds(places=["scope"])
@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_a_failure_breaks_a_transaction_but_not_autocommit(world: World, failing: Any) -> None:
    """A17: where each statement is its own transaction, only that one is lost."""

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            insert(db, "a")
            swallow(db, failing)
            db.session.expunge_all()
            insert(db, "b")
            with pytest.raises(UnexpectedRollback), db.atomic():
                swallow(db, failing)

    world.play(story)
    assert world.items() == ["a", "b"]


def hang_up(db: Both) -> None:
    """Close the driver's connection, behind everybody's back."""
    connection = db.session.connection()
    plain = getattr(connection, "sync_connection", connection)
    waiting(plain.connection.driver_connection.close)()


def test_a_lost_connection_ends_the_block_and_only_that(world: World) -> None:
    """A14: the query fails, the block is rolled back, the next unit has a fresh connection."""

    def closed(db: Both) -> None:
        insert(db, "a")
        hang_up(db)
        with pytest.raises((DBScopeError, DBAPIError)):
            insert(db, "b")
        raise Trouble

    def story(db: Both) -> None:
        with pytest.raises(Trouble):
            world.inside(db, closed)
        world.inside(db, lambda db: insert(db, "c"))

    world.play(story)
    assert world.items() == ["c"]


def test_a_lost_connection_is_lost_for_the_blocks_around(world: World) -> None:
    """A14: there is no transaction left that could go on, so nothing later is stored alone."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises((DBScopeError, DBAPIError)), db.atomic():
            hang_up(db)
            insert(db, "b")
        with pytest.raises(TransactionBroken):
            insert(db, "c")
        db.session.expunge_all()

    with pytest.raises(UnexpectedRollback):
        world.run(body)
    assert world.items() == []


def test_a_connection_lost_before_commit_is_no_unknown_outcome(world: World) -> None:
    """G5: the last flush did not get through, so COMMIT was never sent."""
    log: list[str] = []

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_rollback(lambda: log.append("rollback"))
        hang_up(db)
        db.session.add(Item(name="b"))

    with pytest.raises(DatabaseUnavailable) if world.place != "request" else nullcontext():
        world.run(body)
    assert (log, world.items()) == (["rollback"], [])
    assert world.database.stats()["outcomes_unknown"] == 0


def test_an_error_in_the_last_flush_leaves_as_it_is(world: World) -> None:
    """G1: whatever a listener raises before COMMIT, the work is rolled back and that is known."""

    def refuse(*args: Any) -> None:
        raise Trouble

    def body(db: Both) -> None:
        insert(db, "a")
        session = db.real.session
        event.listen(getattr(session, "sync_session", session), "before_flush", refuse)
        db.session.add(Item(name="b"))

    with pytest.raises(Trouble):
        world.run(body)
    assert world.items() == []


# -- the state, for people -------------------------------------------------------------------------


def test_a_block_tells_where_it_is_and_how_it_ended(world: World) -> None:
    """Django's `in_transaction`, Rails' `current_transaction`."""

    def body(db: Both) -> None:
        assert db.in_transaction()
        around = db.current_transaction()
        with db.atomic() as block:
            assert db.current_transaction() is block
            assert (block.depth, block.outcome) == (around.depth + 1, None)
            assert block.id != around.id
            assert "open" in repr(block)
        assert block.outcome == "committed"
        with pytest.raises(Trouble), db.atomic() as block:
            raise Trouble
        assert block.outcome == "rolled back"
        assert "rolled back" in repr(block)
        assert db.current_transaction() is around

    world.run(body)


@pytest.mark.worlds(places=["scope"])
def test_a_transaction_is_where_one_was_opened(world: World) -> None:
    """Not outside any scope, not in autocommit, but in a block there and in every other scope."""

    def story(db: Both) -> None:
        assert not db.in_transaction()
        with db.atomic():
            assert db.in_transaction()
        with db.scope(atomic=False):
            assert not db.in_transaction()
            with db.atomic():
                assert db.in_transaction()
            assert not db.in_transaction()
        with db.scope():
            assert db.in_transaction()
        assert db.current_transaction() is None

    world.play(story)


# -- misuse ----------------------------------------------------------------------------------------


def enter(block: Any) -> Any:
    """Enter a block without a `with`."""
    return await_only(block.__aenter__()) if hasattr(block, "__aenter__") else block.__enter__()


def leave(block: Any) -> Any:
    """Leave it normally."""
    if hasattr(block, "__aexit__"):
        return await_only(block.__aexit__(None, None, None))
    return block.__exit__(None, None, None)


def test_blocks_are_left_in_the_reverse_order(world: World) -> None:
    """Leaving the outer one first is refused, and nothing of that transaction is stored."""

    def body(db: Both) -> None:
        outer, inner = db.real.atomic(), db.real.atomic()
        enter(outer)
        insert(db, "a")
        enter(inner)
        insert(db, "b")
        with pytest.raises(BlocksOutOfOrder):
            leave(outer)
        leave(inner)

    with pytest.raises((BlocksOutOfOrder, UnexpectedRollback)):
        world.run(body)
    assert world.items() == []


@pytest.mark.worlds(places=["scope", "request"])
def test_a_scope_does_not_end_inside_a_block(world: World) -> None:
    """The block's work is rolled back, and the message names the place it was opened at."""

    def body(db: Both) -> None:
        enter(db.real.atomic())
        insert(db, "a")

    with pytest.raises(BlocksOutOfOrder, match=r"test_nesting\.py"):
        world.run(body)
    assert world.items() == []


@pytest.mark.worlds(places=["scope"], drivers=lambda driver: driver not in SYNC)
def test_two_tasks_do_not_open_blocks_in_one_scope_at_once(world: World) -> None:
    """G13: the second one gets ConcurrentUse before anything is sent, and the first goes on."""

    def story(db: Both) -> None:
        def slow() -> None:
            with db.atomic():
                db.execute(text(SLOW[world.is_sqlite]))
                insert(db, "a")

        def hasty() -> None:
            await_only(asyncio.sleep(0.03))
            with pytest.raises(ConcurrentUse), db.atomic():
                pytest.fail("it was let in")

        with db.scope():
            world.at_once(slow, hasty)

    world.play(story)
    assert world.items() == ["a"]


SLOW = {
    False: "SELECT pg_sleep(0.2)",
    True: "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000)"
    " SELECT count(*) FROM n",
}


# -- durable, required, savepoint: cases B ---------------------------------------------------------


@pytest.mark.worlds(places=["scope"])
def test_a_durable_block_is_committed_when_left(world: World) -> None:
    """B1, B2: alone, twice in a row, and with a plain block inside."""

    def story(db: Both) -> None:
        for name in ("a", "b"):
            with db.atomic(durable=True), db.atomic():
                insert(db, name)
            assert world.items()[-1] == name
        with db.scope(atomic=False), db.atomic(durable=True):
            insert(db, "c")

    world.play(story)
    assert world.items() == ["a", "b", "c"]


@pytest.mark.parametrize("outer", [{}, {"durable": True}])
@pytest.mark.worlds(places=["scope"])
def test_a_durable_block_must_be_outermost(world: World, outer: dict[str, bool]) -> None:
    """B3: the message names the place of the outer one."""

    def story(db: Both) -> None:
        with both_context(db.real.atomic(**outer)):
            insert(db, "a")
            inner = db.atomic(durable=True)
            with pytest.raises(DurableError, match=r"test_nesting\.py:\d+"), inner:
                pytest.fail("it was let in")

    world.play(story)
    assert world.items() == ["a"]


def test_a_scope_or_request_is_a_transaction_already(world: World) -> None:
    """B3: so a durable block, or function, is refused inside of it, and it goes on."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(DurableError, match=r"worlds\.py|POST /"), db.atomic(durable=True):
            pytest.fail("it was let in")
        with pytest.raises(DurableError, match="was called inside"):
            db.decorated(db.real.durable, lambda: pytest.fail("it was called"))()

    world.run(body)
    assert world.items() == ["a"]


@pytest.mark.worlds(places=["scope"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_durable_function_leaves_nothing_open(world: World, *, fails: bool) -> None:
    """B8: what it has begun and not ended is rolled back, and that is an error."""

    def story(db: Both) -> None:
        def forgetful() -> None:
            db.begin()
            insert(db, "a")
            if fails:
                raise Trouble

        with db.scope(atomic=False):
            with pytest.raises(TransactionManagementError, match="left a transaction open"):
                db.decorated(db.real.durable, forgetful)()
            insert(db, "b")

    world.play(story)
    assert world.items() == ["b"]


@pytest.mark.worlds(places=["scope"])
def test_a_durable_function_may_open_its_own_block(world: World) -> None:
    """B1, B8: and returns what it returns."""

    def story(db: Both) -> None:
        def store() -> str:
            with db.atomic():
                return insert(db, "a").name

        assert db.decorated(db.real.durable, store)() == "a"

    world.play(story)
    assert world.items() == ["a"]


def required_in_all_ways(db: Both) -> list[Callable[[], Any]]:
    """Return functions that say `transaction_required`, in each way that it can be said."""

    def by_manager() -> str:
        with db.real.transaction_required():
            return "done"

    def done() -> str:
        return "done"

    bare, called = db.real.transaction_required, db.real.transaction_required()
    return [by_manager, db.decorated(bare, done), db.decorated(called, done)]


def test_a_required_transaction_is_there(world: World) -> None:
    """B5: the function is called as it is."""
    world.run(lambda db: [each() for each in required_in_all_ways(db)])


@pytest.mark.worlds(places=["scope"])
def test_a_required_transaction_is_missing(world: World) -> None:
    """B5: outside any scope, and in autocommit."""

    def story(db: Both) -> None:
        for each in required_in_all_ways(db):
            with pytest.raises(TransactionRequired):
                each()
            with db.scope(atomic=False), pytest.raises(TransactionRequired):
                each()

    world.play(story)


@pytest.mark.worlds(places=["scope"])
def test_a_transaction_of_another_database_does_not_count(world: World) -> None:
    """B6: nor does one that was opened by the outer of two scopes."""
    other = Both(type(world.database)(world.url, name="other"))

    def story(db: Both) -> None:
        with other.atomic():
            assert other.in_transaction()
            for each in required_in_all_ways(db):
                with pytest.raises(TransactionRequired):
                    each()
        with db.scope(), db.scope(atomic=False), pytest.raises(TransactionRequired):
            required_in_all_ways(db)[0]()

    world.play(story)


@pytest.mark.worlds(places=["scope"])
def test_a_savepoint_needs_a_transaction(world: World) -> None:
    """B7: and is a context manager only."""

    def story(db: Both) -> None:
        with pytest.raises((TransactionRequired, ScopeMissing)), db.savepoint():
            pytest.fail("it was let in")
        with db.scope(atomic=False), pytest.raises(TransactionRequired), db.savepoint():
            pytest.fail("it was let in")
        with pytest.raises(TypeError, match="context manager"):
            db.real.savepoint()(plain)

    world.play(story)


# -- nothing is paid for what is not used: cases F -------------------------------------------------


def test_an_empty_transaction_sends_nothing(world: World) -> None:
    """F1: nor do empty blocks in it, nor a session that was only looked at."""

    def body(db: Both) -> None:
        assert db.session is not None
        with db.atomic(), db.atomic():
            pass
        with db.atomic(savepoint=False), db.savepoint():
            db.set_rollback(True)

    world.run(body)
    assert world.statements == []
    assert world.database.stats()["transactions"] == 0


def test_raising_before_the_first_statement_sends_nothing(world: World) -> None:
    """F1: there is nothing to roll back."""

    def body(db: Both) -> None:
        with pytest.raises(Trouble), db.atomic():
            raise Trouble
        raise Trouble

    with pytest.raises(Trouble):
        world.run(body)
    assert world.statements == []


def test_a_block_in_a_fresh_transaction_costs_nothing(world: World) -> None:
    """F1: its savepoint is left out, at every depth."""

    def body(db: Both) -> None:
        with db.atomic(), db.atomic(), db.savepoint():
            insert(db, "a")

    world.run(body)
    assert world.sent() == ["BEGIN", "INSERT", "COMMIT"]


def test_a_savepoint_is_sent_with_the_first_statement_inside(world: World) -> None:
    """F1, F3: never for an empty block."""

    def body(db: Both) -> None:
        insert(db, "a")
        with db.atomic():
            pass
        with pytest.raises(Trouble), db.atomic():
            raise Trouble
        with db.atomic(), db.atomic():
            insert(db, "b")

    world.run(body)
    nested = ["SAVEPOINT", "SAVEPOINT", "INSERT", "RELEASE", "RELEASE"]
    assert world.sent() == ["BEGIN", "INSERT", *nested, "COMMIT"]


def test_a_savepoint_that_was_rolled_back_is_released(world: World) -> None:
    """F1: a loop of failing blocks would pile them up; https://code.djangoproject.com/ticket/23074."""

    def body(db: Both) -> None:
        insert(db, "a")
        for _ in range(2):
            with pytest.raises(IntegrityError), db.atomic():
                twice(db)

    world.run(body)
    failing = ["SAVEPOINT", "INSERT", "ROLLBACK TO", "RELEASE"]
    assert world.sent() == ["BEGIN", "INSERT", *failing, *failing, "COMMIT"]


def test_a_block_whose_savepoint_was_left_out_restarts_the_transaction(world: World) -> None:
    """F1: when it fails, the transaction has done nothing else, so all of it is rolled back."""

    def body(db: Both) -> None:
        with pytest.raises(Trouble), db.atomic():
            insert(db, "a")
            raise Trouble
        insert(db, "b")

    world.run(body)
    assert world.items() == ["b"]
    assert world.sent() == ["BEGIN", "INSERT", "ROLLBACK", "BEGIN", "INSERT", "COMMIT"]


def test_what_is_pending_belongs_to_the_block_it_was_added_in(world: World) -> None:
    """F1: it is stored before the savepoint, so a failure inside does not lose it."""

    def body(db: Both) -> None:
        db.session.add(Item(name="a"))
        with pytest.raises(Trouble), db.atomic():
            db.session.add(Item(name="b"))
            raise Trouble

    world.run(body)
    assert world.items() == ["a"]


def test_an_object_that_was_only_read_is_kept_by_a_failing_block(world: World) -> None:
    """F1: after a commit nothing is open, and still the session holds objects of before."""

    def body(db: Both) -> None:
        item = insert(db, "a")
        with pytest.raises(Trouble), db.atomic():
            raise Trouble
        assert list(db.session.identity_map.values()) == [item]
        assert item.name == "a"

    world.run(body)


@pytest.mark.worlds(places=["scope", "request"])
def test_taking_the_connection_opens_what_was_put_off(world: World) -> None:
    """F3: who has the connection can send anything, so BEGIN and SAVEPOINT go first."""

    def body(db: Both) -> None:
        db.session.connection()
        assert world.sent() == ["BEGIN"]
        with db.atomic():
            db.session.connection()
            assert world.sent() == ["BEGIN", "SAVEPOINT"]

    world.run(body)
    assert world.sent() == ["BEGIN", "SAVEPOINT", "RELEASE", "COMMIT"]


def test_only_what_was_sent_is_counted(world: World) -> None:
    """F6: a transaction for which BEGIN was sent, and how it ended."""

    def story(db: Both) -> None:
        world.inside(db, lambda db: None)
        world.inside(db, lambda db: insert(db, "a"))
        with pytest.raises(IntegrityError):
            world.inside(db, lambda db: insert(db, "a"))
        counters = world.database.stats()
        told = [counters[name] for name in ("transactions", "commits", "rollbacks")]
        assert told == [2, 1, 1]

    world.play(story)


def read(db: Both) -> None:
    """Read only."""
    db.scalar(select(Item.name))


def read_in_block(db: Both) -> None:
    """Read where `atomic` says that something will be written."""
    with db.atomic():
        read(db)


SQLITE = pytest.mark.worlds(places=["request"], drivers=lambda d: d in {"aiosqlite", "sqlite3"})


@SQLITE
@pytest.mark.parametrize(
    ("method", "body", "begin"),
    [
        ("GET", read_in_block, "BEGIN IMMEDIATE"),
        ("GET", read, "BEGIN"),
        ("HEAD", read, "BEGIN"),
        ("GET", lambda db: insert(db, "a"), "BEGIN IMMEDIATE"),
        ("GET", lambda db: db.execute(text("DELETE FROM item")), "BEGIN IMMEDIATE"),
        ("POST", read, "BEGIN IMMEDIATE"),
        ("DELETE", read, "BEGIN IMMEDIATE"),
    ],
)
def test_a_request_that_will_write_says_so_at_once(
    world: World, method: str, body: Any, begin: str
) -> None:
    """F5: and one that reads never waits for a writer."""
    world.play(lambda db: world.in_request(db, body, method))
    assert world.statements[0] == begin


@pytest.mark.worlds(places=["scope"], drivers=lambda d: d in {"aiosqlite", "sqlite3"})
def test_a_job_or_a_block_of_its_own_will_write(world: World) -> None:
    """F5: whoever opens a scope or writes `atomic` means to write."""

    def story(db: Both) -> None:
        for opened in (db.scope(), db.atomic()):
            with opened:
                read(db)

    world.play(story)
    assert world.statements.count("BEGIN IMMEDIATE") == 2
