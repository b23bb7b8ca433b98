"""The fixtures `shop` and `library`: a world with the tables of these tests."""

from collections.abc import Iterator

import pytest
from sqlalchemy import MetaData, create_engine, make_url

from tests.crud import library as books
from tests.crud import relations  # noqa: F401  (more tables of the same base)
from tests.crud.shop import Base
from tests.fixtures import LASTING
from tests.support.look import Onlooker
from tests.worlds import World

TABLES = ", ".join(Base.metadata.tables)
LIBRARY = list(books.Base.metadata.tables)
LASTING.update(Base.metadata.tables, LIBRARY)


def sql_of(metadata: MetaData, folder: str) -> str:
    """Return the SQL that makes the tables on SQLite."""
    url = f"sqlite:///{folder}/shop.db"
    make_tables(url, metadata)
    with Onlooker(url) as look:
        return ";".join(sql for (sql,) in look.rows("SELECT sql FROM sqlite_schema WHERE sql > ''"))


@pytest.fixture(scope="session")
def shop_on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The SQL that makes the tables of the shop."""
    return sql_of(Base.metadata, str(tmp_path_factory.mktemp("shop")))


@pytest.fixture(scope="session")
def library_on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The SQL that makes the tables of the library."""
    return sql_of(books.Base.metadata, str(tmp_path_factory.mktemp("library")))


@pytest.fixture(scope="session")
def shop_on_postgres(postgres_tables: Onlooker) -> Iterator[None]:
    """Make the tables, once."""
    make_tables(postgres_tables.url.render_as_string(hide_password=False), Base.metadata)
    postgres_tables.rows("SELECT now()")  # psycopg reads a file of time zones, the first time
    yield
    postgres_tables.execute(f"DROP TABLE {TABLES}")


@pytest.fixture(scope="session")
def library_on_postgres(postgres_tables: Onlooker) -> None:
    """Make the tables, once."""
    make_tables(postgres_tables.url.render_as_string(hide_password=False), books.Base.metadata)


@pytest.fixture(scope="session")
def library_on_mysql(mysql_tables: Onlooker) -> None:
    """Make the tables, once."""
    make_tables(mysql_tables.url.render_as_string(hide_password=False), books.Base.metadata)


def make_tables(url: str, metadata: MetaData) -> None:
    """Create the tables."""
    engine = create_engine(make_url(url))
    metadata.create_all(engine)
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


@pytest.fixture
def library(world: World, request: pytest.FixtureRequest) -> World:
    """Return a world with empty tables of the library, on any database."""
    if world.is_sqlite:
        for statement in request.getfixturevalue("library_on_sqlite").split(";"):
            world.look.execute(statement)
    elif world.look.is_mysql:
        request.getfixturevalue("library_on_mysql")
        world.look.execute("SET foreign_key_checks = 0")
        for table in LIBRARY:
            world.look.execute(f"TRUNCATE {table}")
    else:
        request.getfixturevalue("library_on_postgres")
        world.look.execute(f"TRUNCATE {', '.join(LIBRARY)} RESTART IDENTITY")
    return world
