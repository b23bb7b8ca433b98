"""What a piece of work costs on the wire, counted by a proxy between the driver and PostgreSQL."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, text

from tests.support.proxy import Proxy
from tests.worlds import Both, Item, World, insert, is_postgresql, is_sqlite, needs_plain_reads

EVERYWHERE = pytest.mark.worlds(places=["scope"])
ON_POSTGRESQL = pytest.mark.worlds(drivers=is_postgresql, places=["scope"])


def read(db: Both) -> None:
    """Read by primary key."""
    assert db.get_by_pk(Item, 1).name


def read_modify_write(db: Both) -> None:
    """Read, change, and write."""
    db.get_by_pk(Item, 1).name += "!"
    db.session.flush()


def nested(db: Both) -> None:
    """Read inside two blocks that have nothing to undo."""
    with db.atomic(), db.atomic():
        read(db)


WORK: dict[str, tuple[dict[str, Any], Callable[[Both], None], int]] = {
    "a read in a transaction": ({}, read, 3),
    "a read in autocommit": ({"atomic": False}, read, 1),
    "a read-only read": ({"readonly": True}, read, 1),
    "a read-modify-write": ({}, read_modify_write, 4),
    "nothing": ({}, lambda db: db.session and None, 0),
    "nested blocks": ({}, nested, 3),
    "nested blocks in autocommit": ({"atomic": False}, nested, 3),
    "a read-only block": ({"readonly": True}, nested, 3),
}


@pytest.mark.parametrize(("scope", "work", "trips"), WORK.values(), ids=WORK.keys())
@ON_POSTGRESQL
def test_the_round_trips_of_a_piece_of_work(
    world: World, proxy: Proxy, scope: Any, work: Callable[[Both], None], trips: int
) -> None:
    """Counted at last, when the driver has prepared the statements (psycopg: the fifth time)."""
    world.database = type(world.database)(proxy.through(world.url))

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
        for _ in range(12):
            proxy.reset_counts()
            with db.scope(**scope):
                work(db)

    world.play(story)
    assert proxy.connections == 0
    assert proxy.round_trips == trips, proxy.sql


@EVERYWHERE
@needs_plain_reads
@pytest.mark.parametrize(("scope", "work", "trips"), WORK.values(), ids=WORK.keys())
def test_the_statements_of_a_piece_of_work(
    world: World, scope: Any, work: Callable[[Both], None], trips: int
) -> None:
    """The same where the statements are counted: on SQLite, by its own trace."""

    def story(db: Both) -> None:
        with db.scope():
            insert(db, "a")
        with db.scope(**scope):
            db.scalar(select(Item.name))  # connected
        world.statements.clear()
        with db.scope(**scope):
            work(db)

    world.play(story)
    assert len([each for each in world.sent() if each != "PRAGMA"]) == trips


@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
def test_a_text_that_reads_is_a_read(world: World) -> None:
    """It needs no transaction, and a PRAGMA needs none either."""

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            db.execute(text("SELECT 1"))
            db.execute(text("PRAGMA user_version"))

    world.play(story)
    assert world.sent() == ["SELECT", "PRAGMA"]
