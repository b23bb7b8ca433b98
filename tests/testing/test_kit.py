"""What the test kit says about statements, hooks and transactions; COMMITs that fail."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbscope import DurableError, TransactionOutcomeUnknown
from dbscope.testing import (
    assert_max_statements,
    assert_no_open_transactions,
    assert_statements,
    capture_on_commit,
    conflict,
    fail_commit,
    lose_commit_answer,
    part_of_a_transaction,
)
from tests.scopes.stage import handle_conflict
from tests.testing.conftest import NAMES, Booth
from tests.worlds import Both, insert

SANDBOXED = [True, False]


@pytest.fixture(params=SANDBOXED, ids=["sandboxed", "real"])
def kit(booth: Booth, request: pytest.FixtureRequest) -> Any:
    """The kit is for tests in a sandbox, and for those without."""
    if not request.param:
        yield booth
        return
    with booth.real.sandbox():
        yield booth


def test_more_statements_than_allowed_are_listed_with_their_lines(kit: Booth) -> None:
    """So that whoever reads the failure knows what to change."""

    def story(db: Both) -> None:
        with db.scope():
            for _ in range(3):
                list(db.scalars(NAMES))

    with pytest.raises(AssertionError) as caught, assert_max_statements(kit.real, 2):
        kit.run(story)
    told = str(caught.value)
    assert told.startswith("3 statements were sent, and at most 2 may be:")
    assert told.count("SELECT name FROM item") == 3
    assert told.count(".py:") == 3
    assert "(the same as 1.)" in told
    with assert_max_statements(kit.real, 3) as sent:
        kit.run(story)
    assert len(sent) == 3


def test_statements_are_counted_exactly(kit: Booth) -> None:
    """BEGIN, COMMIT and savepoints are none."""

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
            with db.atomic():
                insert(db, "b")

    with assert_statements(kit.real, 2):
        kit.run(story)
    with (
        pytest.raises(AssertionError, match="1 statement was sent, and 2 should"),
        assert_statements(kit.real, 2),
    ):
        kit.run(only_read)


def only_read(db: Both) -> None:
    """Send one statement."""
    with db.scope(atomic=False):
        db.execute(NAMES)


@pytest.mark.parametrize("run", [True, False])
def test_the_hooks_of_a_commit_are_captured(kit: Booth, run: bool) -> None:
    """Those that became due, and those of a transaction around the code; none of a rollback."""
    ran: list[str] = []

    def story(db: Both) -> list[Any]:
        with db.scope():
            db.on_commit(lambda: ran.append("before"))
            db.session.commit() if run else None
            with capture_on_commit(db.real, run=run) as hooks:
                with pytest.raises(RuntimeError), db.atomic():
                    db.on_commit(lambda: ran.append("never"))
                    raise RuntimeError
                db.on_rollback(lambda: None)
                db.on_commit(lambda: ran.append("open"))
            return list(hooks)

    assert len(kit.run(story)) == 1
    assert ran == (["before", "open"] if run else ["before"])

    def committed(db: Both) -> None:
        with db.scope():
            db.on_commit(lambda: ran.append("committed"))

    ran.clear()
    with capture_on_commit(kit.real, run=run) as hooks:
        kit.run(committed)
    assert len(hooks) == 1
    assert ran == (["committed"] if run else [])


def test_part_of_a_transaction_is_never_committed(kit: Booth) -> None:
    """What needs one has one; hooks do not run, and what is done is undone."""
    ran: list[str] = []

    def work(db: Both) -> None:
        db.decorated(db.real.transaction_required, lambda: insert(db, "a"))()
        db.on_commit(lambda: ran.append("never"))
        with pytest.raises(DurableError), db.atomic(durable=True):
            pass

    async def async_story() -> None:
        from sqlalchemy.util import greenlet_spawn

        async with part_of_a_transaction(kit.real):
            await greenlet_spawn(work, kit.db)

    if kit.stage.world.is_async:
        asyncio.run(async_story())
    else:
        with part_of_a_transaction(kit.real):
            work(kit.db)
    assert kit.names() == []
    assert ran == []


def test_a_transaction_that_is_left_open_is_named(kit: Booth) -> None:
    """By the scope that has it, and the line that has taken the connection."""

    def story(db: Both) -> None:
        with db.scope():
            with (
                pytest.raises(AssertionError, match=r"the scope opened at .*worlds\.py"),
                assert_no_open_transactions(db.real),
            ):
                list(db.scalars(NAMES))
            db.session.rollback()
            with assert_no_open_transactions(db.real):
                list(db.scalars(NAMES))
                db.session.commit()

    kit.run(story)


def test_a_commit_that_is_refused_stores_nothing(kit: Booth) -> None:
    """The answer is the application's own for a constraint; the next one is stored."""
    kit.stage.route(lambda: insert(kit.db, "a") and None)
    handle_conflict(kit.stage.app)
    client = kit.client()
    with fail_commit(kit.real):
        assert client.post("/").status_code == 409
        assert kit.names() == []
        assert client.post("/").status_code == 200
    assert kit.names() == ["a"]


def test_a_lost_answer_leaves_the_outcome_open(kit: Booth) -> None:
    """It is stored, and nobody is told that it is."""
    kit.stage.route(lambda: insert(kit.db, "a") and None)
    client = kit.client()
    with lose_commit_answer(kit.real), pytest.raises(TransactionOutcomeUnknown):
        client.post("/")
    assert kit.names() == ["a"]


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize(("times", "status"), [(2, [200]), (3, [500, 503])])
def test_a_conflict_is_done_again(kit: Booth, times: int, status: list[int]) -> None:
    """As often as the application says."""
    kit.stage.install = {"retry": 2}
    kit.stage.route(lambda: insert(kit.db, "a") and None)
    client = kit.client(raise_server_exceptions=False)
    with conflict(kit.real, times=times):
        assert client.post("/").status_code in status
    assert kit.names() == (["a"] if status == [200] else [])
