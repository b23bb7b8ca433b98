"""The tables of `once` beside those of a world or a stage, whose fixtures these are."""

import pytest
from sqlalchemy import URL, MetaData, create_engine

from dbscope.once import metadata
from tests.scopes.conftest import made_stage, pytest_generate_tests, stage
from tests.scopes.stage import Stage
from tests.support.look import Onlooker
from tests.worlds import World

__all__ = ["made_stage", "pytest_generate_tests", "stage"]

PLAIN = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}


def make_tables(url: URL, metadata: MetaData = metadata) -> None:
    """Make the table, by an engine that nobody else has."""
    engine = create_engine(url.set(drivername=PLAIN[url.get_backend_name()]))
    metadata.create_all(engine)
    engine.dispose()


def keys(look: Onlooker) -> list[str]:
    """Return the keys that are stored, as another client sees them."""
    column = "`key`" if look.is_mysql else "key"
    return [key for (key,) in look.rows(f"SELECT {column} FROM dbscope_once ORDER BY {column}")]


@pytest.fixture
def once(request: pytest.FixtureRequest) -> None:
    """Have the table in the database of the world or stage that the test has."""
    if "world" in request.fixturenames:
        world: World = request.getfixturevalue("world")
        make_tables(world.look.url)
    elif "stage" in request.fixturenames:
        made: Stage = request.getfixturevalue("made_stage")
        make_tables(made.world.look.url)
