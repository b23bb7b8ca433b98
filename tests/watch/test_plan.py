"""How a SELECT would be done is asked without doing it, and without its values."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.util import await_only

from dbscope import ConfigurationError
from dbscope.watch.page.plans import plan
from tests.worlds import Both, World, insert, is_postgresql, is_sqlite

pytestmark = pytest.mark.worlds(places=["scope"])


def planned(world: World, db: Both, sql: str) -> list[str]:
    """Return the plan, as the page gets it."""
    watch: Any = world.database.watch
    return await_only(plan(watch, sql)) if db.is_async else asyncio.run(plan(watch, sql))


def refusal(world: World, db: Both, sql: str) -> str:
    """Return why there is no plan."""
    with pytest.raises(ConfigurationError) as refused:
        planned(world, db, sql)
    return refused.value.what


def test_a_select_is_explained_with_any_values(world: World) -> None:
    """The generic plan, where a server has one; one that plans by the values says so."""

    def body(db: Both) -> None:
        sql = "SELECT name FROM item WHERE id IN (?…) ORDER BY name LIMIT ?"
        if not (is_sqlite(world.driver) or is_postgresql(world.driver)):
            assert "plans by the values" in refusal(world, db, sql)
            assert "table item" in planned(world, db, "SELECT name FROM item")[0]
        else:
            assert "item" in "".join(planned(world, db, sql))
            assert "item" in "".join(planned(world, db, "SELECT name FROM item"))

    world.run(body)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO item (name) VALUES (?)",
        "WITH gone AS (DELETE FROM item RETURNING id) SELECT * FROM gone",
        "SELECT ?; DELETE FROM item",
        "EXPLAIN ANALYZE DELETE FROM item",
        "CALL everything()",
        "SELECT " + "?, " * 2000,
        "",
    ],
)
def test_nothing_else_is_explained(world: World, sql: str) -> None:
    """Not what writes, nor two at once, nor what was too long to be kept."""

    def body(db: Both) -> None:
        insert(db, "a")
        db.session.flush()
        assert refusal(world, db, sql)

    world.run(body)
    assert world.items() == ["a"]


def test_what_cannot_be_explained_leaves_the_connection_as_it_was(world: World) -> None:
    """The next one is answered: nothing is left behind of the one before."""

    def body(db: Both) -> None:
        for _ in range(2):
            assert "without values" in refusal(world, db, "SELECT nowhere FROM nothing")
            assert planned(world, db, "SELECT name FROM item")

    world.run(body)


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
def test_what_the_planner_calls_cannot_write(world: World) -> None:
    """A function that says it is immutable is called while it is planned."""
    lying = (
        "CREATE OR REPLACE FUNCTION lying() RETURNS bigint LANGUAGE plpgsql IMMUTABLE "
        "AS $$ BEGIN RETURN nextval('told'); END $$"
    )

    def body(db: Both) -> None:
        for made in ("DROP SEQUENCE IF EXISTS told", "CREATE SEQUENCE told", lying):
            db.execute(text(made))
        db.session.commit()
        assert "25006" in refusal(world, db, "SELECT name FROM item WHERE id = lying()")
        assert db.scalar(text("SELECT is_called FROM told")) is False
        for gone in ("FUNCTION lying()", "SEQUENCE told"):
            db.execute(text(f"DROP {gone}"))

    world.run(body)
