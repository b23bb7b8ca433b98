"""Code that commits by hand keeps working; inside an explicit block the block decides."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import insert as core_insert
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import close_all_sessions
from sqlalchemy.util import await_only

from dbscope import (
    ManualCommitForbidden,
    TransactionBroken,
    TransactionManagementError,
    TransactionOutcomeUnknown,
    UnexpectedRollback,
)
from tests.worlds import SYNC, Both, Child, Item, World, insert, needs_late_check, plain_engine

BARE = pytest.mark.worlds(places=["scope", "request"])  # where no explicit block is open


class Trouble(Exception):
    """Something that the application raises."""


def twice(db: Both) -> None:
    """Store a name that is there already, by a statement."""
    db.execute(core_insert(Item).values(name="a"))


def twice_by_flush(db: Both) -> None:
    """Store a name that is there already, by a flush."""
    insert(db, "a")


# -- commit ----------------------------------------------------------------------------------------


@BARE
def test_commit_stores_at_once(world: World) -> None:
    """Decision 14: and the next statement begins a new transaction, finished with the scope."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.session.commit()
        assert world.items() == ["a"]
        insert(db, "b")
        assert world.items() == ["a"]

    world.run(body)
    assert world.items() == ["a", "b"]
    assert world.sent() == ["BEGIN", "INSERT", "COMMIT"] * 2


@BARE
def test_what_was_committed_by_hand_stays_when_the_rest_fails(world: World) -> None:
    """Decision 14: exactly that, and nothing of what came after."""

    def body(db: Both) -> None:
        for name in ("a", "b"):
            db.session.add(Item(name=name))
            db.session.commit()
        insert(db, "c")
        raise Trouble

    with pytest.raises(Trouble):
        world.run(body)
    assert world.items() == ["a", "b"]


@BARE
def test_objects_stay_usable_after_commit(world: World) -> None:
    """The three lines of every tutorial: add, commit, refresh."""

    def body(db: Both) -> None:
        item = Item(name="a")
        db.session.add(item)
        db.session.commit()
        assert item.name == "a"
        db.session.refresh(item)
        assert item.id is not None

    world.run(body)
    assert world.items() == ["a"]


@BARE
def test_commit_without_work_sends_nothing(world: World) -> None:
    """Decision 14, F1: as in SQLAlchemy."""

    def body(db: Both) -> None:
        db.session.commit()
        db.session.rollback()
        db.session.commit()

    world.run(body)
    assert world.statements == []


@BARE
def test_each_commit_runs_the_hooks_so_far(world: World) -> None:
    """Decision 14: once; those registered later run at the next one, or at the end."""
    log: list[Any] = []

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_commit(lambda: log.append(world.items()))
        db.session.commit()
        assert log == [["a"]]
        db.session.commit()
        db.on_commit(lambda: log.append("second"))
        insert(db, "b")
        db.session.commit()
        db.on_commit(lambda: log.append("last"))
        assert log == [["a"], "second"]

    world.run(body)
    assert log == [["a"], "second", "last"]


@BARE
def test_a_hook_of_a_commit_by_hand_has_a_unit_of_its_own(world: World) -> None:
    """C15: there, too."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_commit(lambda: insert(db, "by a hook"))
        db.session.commit()
        assert world.items() == ["a", "by a hook"]
        insert(db, "b")

    world.run(body)
    assert world.items() == ["a", "by a hook", "b"]


@BARE
def test_a_failing_hook_of_a_commit_by_hand_is_raised_there(world: World) -> None:
    """C13: the work is stored, and the scope goes on."""
    log: list[int] = []

    def fail() -> None:
        raise Trouble

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_commit(fail)
        db.on_commit(lambda: log.append(2))
        with pytest.raises(Trouble):
            db.session.commit()
        insert(db, "b")

    world.run(body)
    assert (log, world.items()) == ([2], ["a", "b"])


@BARE
@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_commit_after_a_swallowed_error_is_no_success(world: World, failing: Any) -> None:
    """A13: UnexpectedRollback, and nothing of that transaction is stored; the next one is new."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(IntegrityError) as error:
            failing(db)
        with pytest.raises(UnexpectedRollback) as caught:
            db.session.commit()
        assert caught.value.__cause__ is error.value
        assert world.items() == []
        insert(db, "b")

    world.run(body)
    assert world.items() == ["b"]


@needs_late_check
@BARE
def test_a_commit_that_fails_has_rolled_back(world: World) -> None:
    """C25, G1: its own error, on_rollback hooks, and the next transaction is sound."""
    log: list[str] = []

    def body(db: Both) -> None:
        insert(db, "a")
        db.session.add(Child(item_id=999))
        db.on_commit(lambda: log.append("commit"))
        db.on_rollback(lambda: log.append("rollback"))
        with pytest.raises(IntegrityError):
            db.session.commit()
        assert log == ["rollback"]
        insert(db, "b")

    world.run(body)
    assert (log, world.items()) == (["rollback"], ["b"])


# -- rollback --------------------------------------------------------------------------------------


@BARE
def test_rollback_undoes_what_was_not_committed(world: World) -> None:
    """Decision 14: with its hooks; the scope goes on."""
    log: list[str] = []

    def body(db: Both) -> None:
        insert(db, "a")
        db.session.commit()
        insert(db, "b")
        db.on_commit(lambda: log.append("commit"))
        db.on_rollback(lambda: log.append("rollback"))
        db.session.rollback()
        assert log == ["rollback"]
        insert(db, "c")

    world.run(body)
    assert (log, world.items()) == (["rollback"], ["a", "c"])


@BARE
@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_after_rollback_an_error_is_forgotten(world: World, failing: Any) -> None:
    """A18: error, rollback, then queries are allowed again (Django #27504)."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(IntegrityError):
            failing(db)
        with pytest.raises(TransactionBroken):
            db.scalar(select(Item.name))
        db.session.rollback()
        assert db.scalar(select(Item.name)) is None
        insert(db, "b")

    world.run(body)
    assert world.items() == ["b"]


# -- begin and begin_nested ------------------------------------------------------------------------


@BARE
def test_begin_commits_or_rolls_back_its_own_block(world: World) -> None:
    """Decision 14: `with session.begin():`, as SQLAlchemy's documentation writes it."""
    log: list[str] = []

    def body(db: Both) -> None:
        with db.session.begin():
            insert(db, "a")
            db.on_commit(lambda: log.append("commit"))
        assert (log, world.items()) == (["commit"], ["a"])
        with pytest.raises(Trouble), db.session.begin():
            insert(db, "b")
            db.on_rollback(lambda: log.append("rollback"))
            raise Trouble
        assert log == ["commit", "rollback"]
        insert(db, "c")

    world.run(body)
    assert world.items() == ["a", "c"]


@BARE
def test_begin_cannot_begin_what_has_begun(world: World) -> None:
    """Decision 14: SQLAlchemy says so."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(InvalidRequestError, match="already begun"), db.session.begin():
            pytest.fail("it was let in")

    world.run(body)
    assert world.items() == ["a"]


@BARE
@pytest.mark.parametrize("failing", [twice, twice_by_flush])
def test_begin_nested_lets_a_statement_fail(world: World, failing: Any) -> None:
    """Decision 14: an IntegrityError inside loses only the savepoint."""

    def body(db: Both) -> None:
        insert(db, "a")
        with db.session.begin_nested():
            insert(db, "b")
        with pytest.raises(IntegrityError), db.session.begin_nested():
            failing(db)
        insert(db, "c")

    world.run(body)
    assert world.items() == ["a", "b", "c"]


@BARE
def test_a_swallowed_error_in_begin_nested_is_no_success(world: World) -> None:
    """A13: its release would lie, so it is UnexpectedRollback; what is around it is sound."""

    def body(db: Both) -> None:
        insert(db, "a")
        with pytest.raises(UnexpectedRollback), db.session.begin_nested():
            insert(db, "b")
            with pytest.raises(IntegrityError):
                twice(db)
        insert(db, "c")

    world.run(body)
    assert world.items() == ["a", "c"]


@BARE
def test_a_block_may_be_opened_inside_begin_nested(world: World) -> None:
    """Decision 14: both kinds of savepoint nest."""

    def body(db: Both) -> None:
        insert(db, "a")
        with db.session.begin_nested():
            insert(db, "b")
            with suppress(Trouble), db.atomic():
                insert(db, "c")
                raise Trouble
            with db.atomic():
                insert(db, "d")

    world.run(body)
    assert world.items() == ["a", "b", "d"]


@BARE
def test_commit_ends_open_savepoints_by_hand(world: World) -> None:
    """Decision 14: SQLAlchemy's commit releases them."""

    def body(db: Both) -> None:
        insert(db, "a")
        with suppress(InvalidRequestError), db.session.begin_nested():
            insert(db, "b")
            db.session.commit()
        insert(db, "c")

    world.run(body)
    assert world.items() == ["a", "b", "c"]


# -- not inside an explicit block ------------------------------------------------------------------

BY_HAND: list[Callable[[Both], Any]] = [
    lambda db: db.session.commit(),
    lambda db: db.session.rollback(),
    lambda db: db.session.close(),
    lambda db: db.begin(),
    lambda db: db.session.begin_nested().__enter__(),
]


def test_inside_a_block_the_block_decides(world: World) -> None:
    """A12: each is ManualCommitForbidden, and the block is still usable."""

    def body(db: Both) -> None:
        with db.atomic():
            insert(db, "a")
            for call in BY_HAND:
                with pytest.raises(ManualCommitForbidden, match="worlds"):
                    call(db)
            insert(db, "b")

    world.run(body)
    assert world.items() == ["a", "b"]


@BARE
def test_a_block_left_out_of_the_wire_is_a_block(world: World) -> None:
    """A12: nothing was sent for it, and still a commit would cut it in two."""

    def body(db: Both) -> None:
        with db.atomic(savepoint=False), pytest.raises(ManualCommitForbidden):
            db.session.commit()
        insert(db, "a")
        db.session.commit()

    world.run(body)
    assert world.items() == ["a"]


def test_a_strict_database_forbids_it_everywhere(world: World) -> None:
    """Decision 14: `manual_commit="forbid"`; the scope still commits."""
    world.database = type(world.database)(world.url, manual_commit="forbid")

    def body(db: Both) -> None:
        insert(db, "a")
        for call in BY_HAND:
            with pytest.raises(ManualCommitForbidden, match=r"default|worlds"):
                call(db)

    world.run(body)
    assert world.items() == ["a"]


@BARE
def test_close_rolls_back_and_begins_anew(world: World) -> None:
    """Decision 14: what was not committed is gone; what comes next ends with the scope."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.session.commit()
        insert(db, "b")
        db.session.close()
        assert db.stats()["pool_checked_out"] == 0
        insert(db, "c")

    world.run(body)
    assert world.items() == ["a", "c"]


# -- the limits ------------------------------------------------------------------------------------


def lose_the_answer(world: World) -> None:
    """Let the next COMMITs succeed, and their answers be lost."""
    dialect = plain_engine(world.database).dialect
    commit = dialect.do_commit

    def do_commit(connection: Any) -> None:
        commit(connection)
        raise ConnectionResetError("the answer was lost")

    dialect.do_commit = do_commit


@BARE
def test_a_lost_answer_is_an_unknown_outcome(world: World) -> None:
    """C27: of a commit by hand, too; no hook of either kind is run."""
    log: list[str] = []

    def body(db: Both) -> None:
        insert(db, "a")
        db.on_commit(lambda: log.append("commit"))
        db.on_rollback(lambda: log.append("rollback"))
        lose_the_answer(world)
        db.session.commit()

    with pytest.raises(TransactionOutcomeUnknown):
        world.run(body)
    assert (log, world.items()) == ([], ["a"])


@BARE
def test_a_lost_answer_in_begin_is_an_unknown_outcome(world: World) -> None:
    """C27: of `with session.begin():` as well."""
    log: list[str] = []

    def body(db: Both) -> None:
        lose_the_answer(world)
        with db.session.begin():
            insert(db, "a")
            db.on_commit(lambda: log.append("commit"))
            db.on_rollback(lambda: log.append("rollback"))

    with pytest.raises(TransactionOutcomeUnknown):
        world.run(body)
    assert (log, world.items()) == ([], ["a"])


@pytest.mark.worlds(places=["scope"])
def test_in_autocommit_a_block_does_not_end_what_begin_has_begun(world: World) -> None:
    """C17: the two would end one transaction twice, so the block is refused."""

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            with pytest.raises(Trouble), db.session.begin():
                insert(db, "a")
                with pytest.raises(TransactionManagementError), db.atomic():
                    pytest.fail("it was let in")
                raise Trouble
            insert(db, "b")

    world.play(story)
    assert world.items() == ["b"]


@needs_late_check
@BARE
def test_a_failed_commit_in_begin_has_rolled_back(world: World) -> None:
    """C25: the same for `with session.begin():`."""

    def body(db: Both) -> None:
        with pytest.raises(IntegrityError), db.session.begin():
            db.session.add(Child(item_id=999))
        insert(db, "a")

    world.run(body)
    assert world.items() == ["a"]


# -- the plain session of an async one, where nothing can be awaited -----------------------------

PLAIN_ENDS: dict[str, Callable[[Any], None]] = {
    "commit": lambda session: session.commit(),
    "rollback": lambda session: session.rollback(),
    "close": lambda session: session.close(),
    "reset": lambda session: session.reset(),
    "invalidate": lambda session: session.invalidate(),
    "all": lambda session: close_all_sessions(),
}


@pytest.mark.worlds(drivers=lambda each: each not in SYNC, places=["scope", "request"])
@pytest.mark.parametrize("end", PLAIN_ENDS)
def test_a_plain_end_in_async_code_is_refused_before_it_is_one(world: World, end: str) -> None:
    """Half of it would be done, and the connection be left in its transaction for ever."""

    def body(db: Both) -> None:
        insert(db, "a")

        async def in_async_code() -> None:
            PLAIN_ENDS[end](db.real.session.sync_session)

        with pytest.raises(TransactionManagementError, match="nothing can be awaited"):
            await_only(in_async_code())
        insert(db, "b")

    world.run(body)
    assert world.items() == ["a", "b"]
    world.check_clean()
