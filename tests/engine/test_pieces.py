"""A long list of parameters is run in pieces: preparing it would block the event loop."""

from typing import Any

import pytest
from sqlalchemy import bindparam, delete, event, insert, select, text, update
from sqlalchemy.exc import IntegrityError, StatementError

from dbscope import UnexpectedRollback
from dbscope.engine import batches
from tests.worlds import Both, Item, World, plain_engine

pytestmark = pytest.mark.worlds(drivers=lambda driver: driver == "inline", places=["scope"])

MANY = 2 * batches.PIECE + 1
ROWS = [{"id": number, "name": f"{number}"} for number in range(MANY)]


def sent(world: World, db: Both) -> list[int]:
    """Return a list that is told how many sets of parameters are sent at once, if several."""
    counts: list[int] = []

    @event.listens_for(plain_engine(db.real), "before_cursor_execute")
    def on_statement(conn: Any, cursor: Any, sql: str, parameters: Any, *rest: Any) -> None:
        if isinstance(parameters, list):
            counts.append(len(parameters))

    return counts


@pytest.mark.parametrize(
    "statement",
    [insert(Item), insert(Item.__table__), text("INSERT INTO item (id, name) VALUES (:id, :name)")],
    ids=["orm", "core", "text"],
)
def test_a_long_list_is_run_in_pieces(world: World, statement: Any) -> None:
    """All of it is stored, and the number of rows is that of all pieces."""

    def body(db: Both) -> None:
        counts = sent(world, db)
        result = db.session.execute(statement, ROWS)
        assert getattr(result, "rowcount", MANY) == MANY
        assert counts == [batches.PIECE] * 2

    world.run(body)
    assert len(world.items()) == MANY


def test_changes_are_run_in_pieces_too(world: World) -> None:
    """UPDATE and DELETE, with a set of parameters for each row."""

    def body(db: Both) -> None:
        db.session.execute(insert(Item), ROWS)
        counts = sent(world, db)
        db.session.execute(
            update(Item), [{"id": row["id"], "name": f"x{row['id']}"} for row in ROWS]
        )
        by_id = delete(Item.__table__).where(Item.id == bindparam("key"))
        result = db.session.execute(by_id, [{"key": number} for number in range(MANY - 1)])
        assert result.rowcount == MANY - 1
        assert counts == [batches.PIECE] * 4

    world.run(body)
    assert world.items() == [f"x{MANY - 1}"]


def test_what_fails_in_a_piece_fails_as_a_whole(world: World) -> None:
    """The pieces before it are rolled back with it."""

    def body(db: Both) -> None:
        with pytest.raises(IntegrityError), db.atomic():
            db.session.execute(insert(Item), [*ROWS, ROWS[0]])
        assert db.scalar(select(Item.id).limit(1)) is None

    world.run(body)
    assert world.items() == []


def test_rows_that_are_returned_come_in_one_result(world: World) -> None:
    """So these are not in pieces of ours; SQLAlchemy has some of its own."""

    def body(db: Both) -> None:
        result = db.session.execute(insert(Item).returning(Item.id), ROWS)
        assert len(result.all()) == MANY

    world.run(body)


def test_a_statement_that_is_its_own_transaction_stays_one(world: World) -> None:
    """In autocommit all of it is stored, or nothing."""

    def story(db: Both) -> None:
        with db.scope(atomic=False), pytest.raises(IntegrityError):
            db.session.execute(insert(Item), [*ROWS, ROWS[0]])

    world.play(story)
    assert world.items() == []


def test_a_piece_that_is_refused_undoes_those_before_it(world: World) -> None:
    """SQLAlchemy refuses a row without its key before it is sent, when others are stored."""

    def body(db: Both) -> None:
        with pytest.raises(StatementError):
            db.session.execute(insert(Item.__table__), [*ROWS, {"id": MANY}])

    with pytest.raises(UnexpectedRollback):
        world.run(body)
    assert world.items() == []
