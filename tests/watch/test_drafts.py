"""What is known of a scope while it goes on."""

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.util import greenlet_spawn

from dbscope import AsyncDatabase, Database
from dbscope.errors import ProblemFound
from dbscope.watch.drafts import MOST, Draft
from dbscope.watch.sql import KNOWN


@pytest.fixture
def db() -> Iterator[Database]:
    """Return a database that is watched."""
    db = Database("sqlite://")
    db.watch.start(share=False)
    yield db
    db.watch.stop()
    db.dispose()


def test_a_draft_has_in_itself_all_that_is_read_of_it(db: Database) -> None:
    """What Python has to look for in classes costs each statement more than all the rest."""
    with db.scope():
        db.execute(text("SELECT 1"))
        (draft,) = db.watch.recorder.drafts.values()
        assert list(vars(draft)) == list(Draft.__annotations__)


async def streamed(db: AsyncDatabase) -> None:
    """Read by SQLAlchemy's own greenlet, in which nothing is above the session."""
    rows = await db.session.stream(text("SELECT 1"))
    assert [tuple(row) async for row in rows] == [(1,)]


async def spawned(db: AsyncDatabase) -> None:
    """Call the plain session in a greenlet, with nothing above it."""
    result = await greenlet_spawn(db.session.sync_session.execute, text("SELECT 1"))
    assert result.scalar() == 1


@pytest.mark.anyio
@pytest.mark.parametrize("read", [streamed, spawned])
@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite"])
async def test_what_is_all_of_a_greenlet_is_recorded_with_its_line(
    tmp_path: Path, driver: str, read: Callable[[AsyncDatabase], Awaitable[None]]
) -> None:
    """The stack ends with the session there; the line is that of who awaits the greenlet."""
    db = AsyncDatabase(f"{driver}:///{tmp_path}/a.db")
    db.watch.start(share=False)
    async with db.scope():
        await read(db)
    (statement,) = db.watch.recent(1)[0].statements
    assert statement.line is not None
    assert statement.line.split(":")[0].endswith("test_drafts.py")
    db.watch.stop()
    await db.dispose()


def test_all_that_is_sent_in_one_line_is_sent_at_one_place(db: Database) -> None:
    """However many calls there are in it: places are compared by what they are, and not by name."""
    read = text("SELECT :n")
    with db.scope():
        db.execute(read, {"n": 1}), db.execute(read, {"n": 1}), db.execute(read, {"n": 1})
        (draft,) = db.watch.recorder.drafts.values()
        assert len({id(sent.line) for sent in draft.statements}) == 1
    (problem,) = db.watch.problems()
    assert (problem.kind, problem.times) == ("duplicate read", 3)


def test_only_so_many_statements_are_remembered_by_their_text(db: Database) -> None:
    """An application that writes values into its statements has ever new ones."""
    with db.scope():
        for number in range(KNOWN + 10):
            db.execute(text(f"SELECT {number}"))
    assert len(db._source.watching.statements) <= KNOWN
    assert db.watch.recent(1)[0].statements[0].sql.text == "SELECT ?"


def test_what_comes_again_is_found_among_however_many(db: Database) -> None:
    """And of those that are looked at later, only so many are kept."""
    read = text("SELECT :n")
    with db.scope():
        for number in (*range(2 * MOST), 1, 1):
            db.execute(read, {"n": number})
        (draft,) = db.watch.recorder.drafts.values()
        assert len(draft.seen.unread) <= MOST
    (problem,) = db.watch.problems()
    assert (problem.kind, problem.times) == ("duplicate read", 3)


def test_values_that_cannot_be_compared_are_told_by_what_they_look_like(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver may take lists; what is in them is compared all the same."""
    monkeypatch.setitem(sqlite3.adapters, (list, sqlite3.PrepareProtocol), str)
    read = text("SELECT :n")
    with db.scope():
        for number in (1, 2, 1, 1):
            db.execute(read, {"n": [number]})
    (problem,) = db.watch.problems()
    assert (problem.kind, problem.times) == ("duplicate read", 3)


class Unspeakable(list[int]):
    """A value that can be stored, neither compared at once nor told."""

    def __repr__(self) -> str:
        raise RuntimeError


def test_what_cannot_be_noted_is_not_taken_for_what_goes_on(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch complains, once; each statement has its end, and what comes later is seen."""
    monkeypatch.setitem(sqlite3.adapters, (Unspeakable, sqlite3.PrepareProtocol), lambda _: "x")
    monkeypatch.setattr(db._source.events.listeners.direct.finder, "strict", lambda _: None)
    with db.scope():
        db.execute(text("SELECT :n"), {"n": Unspeakable()})
        (draft,) = db.watch.recorder.drafts.values()
        assert draft.current is None
        for number in (1, 1, 1):
            db.execute(text("SELECT :n"), {"n": number})
    record = db.watch.recent(1)[0]
    assert len(record.statements) == 4
    assert [problem.times for problem in record.problems] == [3]


def test_what_a_problem_has_stopped_does_not_go_on(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was never sent."""

    def stop(problem: Any) -> None:
        raise ProblemFound(problem)

    monkeypatch.setattr(db._source.events.listeners.direct.finder, "strict", stop)
    with db.scope():
        with pytest.raises(ProblemFound):
            for _ in range(10):
                db.execute(text("SELECT :n"), {"n": 1})
        (draft,) = db.watch.recorder.drafts.values()
        assert draft.current is None
        db.set_rollback(True)


def test_what_ends_after_its_record_was_made_is_not_noted_in_it(db: Database) -> None:
    """What is shared with the record would say more than its outcome does."""
    recorder = db.watch.recorder
    with db.scope():
        db.execute(text("CREATE TABLE t (n INTEGER)"))
        (unit,) = recorder.drafts
        context = SimpleNamespace(compiled=None, cursor=SimpleNamespace(rowcount=1))
        noted = recorder.begin(unit, "INSERT INTO t VALUES (1)", (), context)
    recorder.end(noted, context, None)
    assert [what for what, _ in db.watch.recent(1)[0].stored] == ["CREATE TABLE t"]
