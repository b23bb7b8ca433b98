"""The fixture `world`: a test that asks for it runs in every world."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from tests.support.look import LastingOnlooker, Onlooker
from tests.support.mysql import MySQLServer
from tests.support.postgres import PostgresServer
from tests.worlds import DRIVERS, PLACES, Base, World, make_world

PATIENCE = 40  # seconds: what the test before has left running may have to end first


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database with empty tables, for the driver that is asked for."""
    name = DRIVERS[request.param]
    if name.startswith("sqlite"):
        path = tmp_path / "test.db"
        path.write_bytes(request.getfixturevalue("sqlite_tables"))
        return f"{name}:///{path}"
    kind = "mysql" if name.startswith("mysql") else "postgres"
    tables: Onlooker = request.getfixturevalue(f"{kind}_tables")
    empty(tables)
    return tables.url.set(drivername=name).render_as_string(hide_password=False)


KEPT = ("child", "item")  # beside those of `tests.doors`, which are made once too
LASTING: set[str] = set()  # those that a folder of tests makes once, and empties by itself


def empty(tables: Onlooker) -> None:
    """Empty the tables, and drop those that a test before has left."""
    drop_others(tables)
    if tables.is_mysql:
        # Not by DELETE: what it leaves behind for a while still takes locks.
        for table in KEPT:
            tables.execute(f"TRUNCATE {table}")
    else:
        tables.execute("TRUNCATE item, child RESTART IDENTITY")


def drop_others(tables: Onlooker) -> None:
    """Drop the tables of single tests, so that no test's table is in the way of another's."""
    if tables.is_mysql:
        names = [name for (name,) in tables.rows("SHOW TABLES")]
        cascade = ""
        tables.execute("SET foreign_key_checks = 0")
    else:
        query = (
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = ?::regnamespace"
        )
        names = [name for (name,) in tables.rows(query, "public")]
        cascade = "CASCADE"
    for name in names:
        if name not in {*KEPT, *LASTING} and not name.startswith("door_"):
            tables.execute(f"DROP TABLE {name} {cascade}")


@pytest.fixture(scope="session")
def sqlite_tables(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a database with empty tables; made once, copied for each test."""
    path = tmp_path_factory.mktemp("tables") / "test.db"
    make_tables(f"sqlite:///{path}")
    return path.read_bytes()


@pytest.fixture(scope="session")
def postgres_tables(postgres: PostgresServer) -> Iterator[Onlooker]:
    """A database with tables; made once, emptied for each test."""
    url = postgres.new_database("worlds")
    make_tables(url)
    with Onlooker(url, PATIENCE) as onlooker:
        yield onlooker
    LastingOnlooker.close_all()


@pytest.fixture(scope="session")
def mysql_tables(mysql_server: MySQLServer) -> Iterator[Onlooker]:
    """The same on MariaDB or MySQL."""
    url = mysql_server.new_database("worlds")
    make_tables(url)
    with Onlooker(url, PATIENCE) as onlooker:
        yield onlooker


def make_tables(url: str) -> None:
    """Create the tables of the tests; SQLite in the mode that the library would choose."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    Base.metadata.create_all(engine)
    engine.dispose()


@pytest.fixture
def world(database_url: str, request: pytest.FixtureRequest) -> Iterator[World]:
    """Return one of the worlds; after the test nothing may be left behind in it."""
    driver, place = request.param
    made = make_world(driver, place, database_url)
    with made.look:
        yield made
        made.check_clean()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of `world` in all of them, or in those that `@pytest.mark.worlds` leaves."""
    if "world" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("worlds")
    wanted = marker.kwargs if marker else {}
    drivers = [d for d in DRIVERS if wanted.get("drivers", lambda d: True)(d)]
    places = wanted.get("places", PLACES)
    cells = [(driver, place) for driver in drivers for place in places]
    metafunc.parametrize(
        ("database_url", "world"),
        [(driver, (driver, place)) for driver, place in cells],
        indirect=True,
        ids=[f"{driver}-{place}".replace(" ", "-") for driver, place in cells],
    )
