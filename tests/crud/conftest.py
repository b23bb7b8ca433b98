"""The fixture `shop`: a world with the tables of these tests."""

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, make_url

from tests.crud.shop import Base
from tests.support.look import Onlooker
from tests.worlds import World

TABLES = ", ".join(Base.metadata.tables)


@pytest.fixture(scope="session")
def shop_on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The SQL that makes the tables."""
    url = f"sqlite:///{tmp_path_factory.mktemp('shop')}/shop.db"
    make_shop(url)
    with Onlooker(url) as look:
        return ";".join(sql for (sql,) in look.rows("SELECT sql FROM sqlite_schema WHERE sql > ''"))


@pytest.fixture(scope="session")
def shop_on_postgres(postgres_tables: Onlooker) -> Iterator[None]:
    """Make the tables, once."""
    make_shop(postgres_tables.url.render_as_string(hide_password=False))
    postgres_tables.rows("SELECT now()")  # psycopg reads a file of time zones, the first time
    yield
    postgres_tables.execute(f"DROP TABLE {TABLES}")


def make_shop(url: str) -> None:
    """Create the tables."""
    engine = create_engine(make_url(url))
    Base.metadata.create_all(engine)
    engine.dispose()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Say what the tests of `shop` need."""
    if "shop" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.needs("the tables of the shop"))


@pytest.fixture
def shop(world: World, request: pytest.FixtureRequest) -> World:
    """Return a world with empty tables of these tests."""
    if world.is_sqlite:
        for statement in request.getfixturevalue("shop_on_sqlite").split(";"):
            world.look.execute(statement)
    else:
        request.getfixturevalue("shop_on_postgres")
        world.look.execute(f"TRUNCATE {TABLES} RESTART IDENTITY")
    return world
