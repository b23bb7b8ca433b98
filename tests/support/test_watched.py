"""With `--watched` the rules are told of databases that are watched."""

from typing import Any

from dbscope import AsyncDatabase, Database
from tests.support import watched


def test_a_database_is_watched_from_the_beginning_and_until_its_test_is_over() -> None:
    """In both its kinds; else the same rules would be told twice of what nobody watches."""
    for kind in (Database, AsyncDatabase):
        db: Any = object.__new__(kind)
        watched.watched(kind.__init__)(db, "sqlite://")
        assert db.watch.is_on
        assert (db.async_ if kind is Database else db.sync).watch.is_on
        watched.pytest_runtest_teardown()
        assert not db.watch.is_on
