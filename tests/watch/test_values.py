"""No value is told, however a statement has it in its text."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from fastapi import HTTPException
from sqlalchemy import text

from dbscope.backends.literals import literals_of
from dbscope.watch import reasons
from dbscope.watch.sql import parse
from tests.worlds import MYSQL, Both, World, is_postgresql, is_sqlite

ANY = {
    "plain": "SELECT 'SECRET'",
    "doubled": "SELECT 'it''s SECRET'",
    "like a table": "SELECT 'all from SECRET' FROM item",
    "longer than what is kept": f"SELECT '{'SECRET' * 1000}'",
    "behind a comment": "/* it's */ SELECT 'SECRET'",
    "hexadecimal": "SELECT X'5EC2E7'",
}
OF_SERVERS: dict[str, dict[str, str]] = {
    "postgresql": {
        "escaped": r"SELECT E'it\'s SECRET'",
        "in dollars": "SELECT $$it's SECRET$$, 1",
        "in dollars with a name": "SELECT $a$it's $$ SECRET$a$",
        "behind a name": "SELECT 1 AS \"it's\", 'SECRET'",
    },
    "mysql": {
        "escaped": r"SELECT 'it\'s SECRET'",
        "in double quotes": 'SELECT "it\'s SECRET"',
        "behind a name": "SELECT 1 AS `it's`, 'SECRET'",
        "a number": "SELECT 0x5EC2E7",
    },
    "sqlite": {
        "no escape": r"SELECT '\', 'SECRET'",
        "behind a name": "SELECT 1 AS \"it's\", 'SECRET'",
        "a number": "SELECT 5.4e3210",
    },
}


def story(world: World, sql: str) -> Any:
    """Send a statement, and return the record."""

    def body(db: Both) -> None:
        with db.scope():
            db.execute(text(sql))

    watch = world.database.watch
    watch.start()
    try:
        world.play(body)
        return watch.recent(1)[0]
    finally:
        watch.stop()


def check(world: World, sql: str) -> None:
    """Assert that nothing of the value is left, and that the statement is known all the same."""
    (statement,) = story(world, sql).statements
    assert statement.sql.kind == "SELECT"
    assert statement.sql.table in {None, "item"}
    for part in ("SECRET", "5EC2E7", "3210", "5.4"):
        assert part not in statement.sql.text


@pytest.mark.worlds(places=["scope"])
@pytest.mark.parametrize("how", ANY)
def test_no_server_has_its_values_told(world: World, how: str) -> None:
    """What every server takes for a value."""
    check(world, ANY[how])


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
@pytest.mark.parametrize("how", OF_SERVERS["postgresql"])
def test_nor_what_is_a_value_to_postgresql(world: World, how: str) -> None:
    """Which has quotes of its own."""
    check(world, OF_SERVERS["postgresql"][how])


@pytest.mark.worlds(drivers=MYSQL.__contains__, places=["scope"])
@pytest.mark.parametrize("how", OF_SERVERS["mysql"])
def test_nor_what_is_a_value_to_mysql(world: World, how: str) -> None:
    """For which a backslash escapes, and double quotes are quotes."""
    check(world, OF_SERVERS["mysql"][how])


@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
@pytest.mark.parametrize("how", OF_SERVERS["sqlite"])
def test_nor_what_is_a_value_to_sqlite(world: World, how: str) -> None:
    """For which a backslash is a character like others."""
    check(world, OF_SERVERS["sqlite"][how])


@dataclass
class Mail:
    """A hook that says in its `repr` what it is about."""

    to: str

    def __call__(self) -> None:
        """Fail."""
        raise ValueError(self.to)


@pytest.mark.worlds(places=["scope"])
@pytest.mark.parametrize("made", [Mail, lambda to: partial(Mail(to))])
def test_a_hook_is_told_by_its_name(world: World, made: Any) -> None:
    """What it is given, and what it is, may be somebody's data."""

    def body(db: Both) -> None:
        with pytest.raises(ValueError, match="SECRET"), db.scope():
            db.execute(text("SELECT 1"))
            db.on_commit(made("SECRET"))

    world.database.watch.start()
    world.play(body)
    told = [str(record) for record in world.database.watch.recent()]
    world.database.watch.stop()
    assert any("the hook Mail failed: ValueError" in line for line in told)
    assert not any("SECRET" in line for line in told)


def test_names_and_comments_stay() -> None:
    """They are the statement, and not what it is about."""
    told = 'SELECT "a 1", t."b" /* 5 */ FROM "order" WHERE c = ?'
    assert parse(told.replace("?", "-5")).text == told
    assert parse(told).table == "order"
    mysql = "SELECT `a 1` FROM `order` WHERE c = ?"
    assert parse(mysql.replace("?", '"x"'), literals_of("mysql")).text == mysql


def test_what_a_client_is_told_is_kept_in_short() -> None:
    """It may be as long as what the client has sent, and hundreds of records have it."""
    nobody: Any = None
    told = reasons.describe(HTTPException(409, "x" * 100_000), nobody)
    assert told.startswith("HTTPException 409 'xxx")
    assert len(told) < 300
