"""The pytest plugin: one fixture, for plain and async tests, whichever plugin runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from tests.support.processes import PYTEST

pytestmark = pytest.mark.timeout(180)

SHOP = """
from fastapi import FastAPI
from sqlalchemy import String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from dbscope import AsyncDatabase

class Base(DeclarativeBase): ...

class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)

db = AsyncDatabase("{url}")
app = FastAPI()
db.install(app)

@app.post("/items/{{name}}")
async def store(name: str) -> None:
    db.session.add(Item(name=name))

@app.get("/items")
async def names() -> list[str]:
    return list(await db.scalars(select(Item.name).order_by(Item.id)))
"""
CONFTEST = """
import httpx2, pytest
from starlette.testclient import TestClient
from shop import Base, app, db

db.sync.ensure_schema(Base.metadata)
db.sync.dispose()

@pytest.fixture
def client():
    return TestClient(app)
"""
PLAIN = """
import pytest, unittest
from starlette.testclient import TestClient
from shop import Item, app, db

@pytest.mark.parametrize("n", range(3))
@pytest.mark.usefixtures("db_sandbox")
def test_plainly(client, n):
    assert client.post("/items/cup").status_code == 200
    assert client.get("/items").json() == ["cup"]

def test_by_scopes(db_sandbox):
    with db_sandbox.sync.scope():
        db_sandbox.sync.session.add(Item(name="cup"))

class TestUnit(unittest.TestCase):
    def setUp(self):
        self.enterContext(db.sandbox())

    def test_one(self):
        assert TestClient(app).post("/items/cup").status_code == 200

    def test_two(self):
        assert TestClient(app).post("/items/cup").status_code == 200

class TestAsyncUnit(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        await self.enterAsyncContext(db.sandbox())

    async def test_one(self):
        async with db.scope():
            db.session.add(Item(name="cup"))

    test_two = test_one
"""
ASYNC = """
import httpx2, pytest
from sqlalchemy import select
from shop import Item, app, db
{mark}

@pytest.mark.parametrize("n", range(3))
async def test_with_a_client(db_sandbox, n):
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://t") as client:
        assert (await client.post("/items/cup")).status_code == 200
        assert (await client.get("/items")).json() == ["cup"]

async def test_with_scopes(db_sandbox):
    async with db.scope():
        db.session.add(Item(name="cup"))
    async with db.scope():
        assert [item.name for item in await db.scalars(select(Item))] == ["cup"]

@pytest.fixture
async def own_sandbox():
    async with db.sandbox():
        yield

async def test_with_a_fixture_of_ones_own(own_sandbox):
    async with db.scope():
        db.session.add(Item(name="cup"))

def test_nothing_is_left():
    with db.sync.scope():
        assert db.sync.scalar(Item.__table__.select()) is None
    db.sync.dispose()
"""

ANYIO = """
pytestmark = pytest.mark.anyio

@pytest.fixture(scope="{}")
def anyio_backend():
    return "asyncio"
"""


def run(folder: Path, *arguments: str) -> str:
    """Run pytest in a project of its own; return what it says."""
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{os.pathsep.join(sys.path)}"}
    done = subprocess.run(
        [*PYTEST, "-q", "-W", "error", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path, postgres_url: str) -> Path:
    """A project with a shop on PostgreSQL."""
    (tmp_path / "shop.py").write_text(SHOP.format(url=postgres_url))
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\ndbscope_databases = shop:db\n")
    return tmp_path


def test_plain_tests_and_unittest_have_a_sandbox(project: Path) -> None:
    """Each begins with empty tables, whatever the one before has stored."""
    (project / "test_shop.py").write_text(PLAIN)
    assert "8 passed" in run(project)


@pytest.mark.parametrize("loop", ["function", "module"])
def test_tests_of_anyio_have_a_sandbox(project: Path, loop: str) -> None:
    """With its backend for each test, or for all of a module."""
    (project / "test_shop.py").write_text(ASYNC.format(mark=ANYIO.format(loop)))
    assert "6 passed" in run(project)


def test_without_a_database_it_says_what_to_set(tmp_path: Path) -> None:
    """Where it is asked for; a project that does not use it hears nothing."""
    (tmp_path / "test_it.py").write_text("def test_it(db_sandbox): ...\ndef test_other(): ...\n")
    told = run(tmp_path)
    assert "db_sandbox does not know your database" in told
    assert "1 passed, 1 error" in told


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("shop.db:db", "there is no module 'shop.db' for pytest"),
        ("shops:db", "there is no module 'shops' for pytest"),
        ("shop:database", "has no 'database'"),
        ("shop:number", "1 is no database of dbscope"),
    ],
)
def test_a_name_that_is_no_database_is_told_with_the_remedy(
    tmp_path: Path, named: str, told: str
) -> None:
    """In one sentence, and without a traceback of ours."""
    (tmp_path / "shop.py").write_text("number = 1\n")
    (tmp_path / "pytest.ini").write_text(f"[pytest]\ndbscope_databases = {named}\n")
    (tmp_path / "test_it.py").write_text("def test_it(db_sandbox): ...\n")
    printed = run(tmp_path)
    assert f"dbscope_databases has '{named}', and " in printed
    assert told in printed
    assert "`db` in app.py is app:db" in printed
    assert "Traceback" not in printed
    assert "plugin.py" not in printed


def test_the_import_error_of_a_module_is_its_own(tmp_path: Path) -> None:
    """It is there, and something that it needs is not."""
    (tmp_path / "shop.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\ndbscope_databases = shop:db\n")
    (tmp_path / "test_it.py").write_text("def test_it(db_sandbox): ...\n")
    assert "No module named 'nothing_of_this_name'" in run(tmp_path)


WORKERS = """
import psycopg, pytest
from pathlib import Path

@pytest.fixture(scope="session")
def db_prepare():
    def prepare(url):
        with Path("{folder}/prepared").open("a") as told:
            told.write("once ")
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE item (name text)")
    return prepare

@pytest.mark.parametrize("n", range(4))
def test_it(postgres_database_url, n, worker_id):
    with psycopg.connect(postgres_database_url) as connection:
        assert connection.info.dbname.endswith(worker_id)
        connection.execute("INSERT INTO item VALUES ('a')")
        assert connection.execute("SELECT count(*) FROM item").fetchone() == (1,)
        connection.rollback()
"""


def test_each_worker_has_a_copy_of_what_was_prepared_once(
    tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a template; at the end neither is left."""
    monkeypatch.setenv("DBSCOPE_POSTGRES_URL", postgres.url(None))
    (tmp_path / "test_it.py").write_text(WORKERS.format(folder=tmp_path))
    told = run(tmp_path, "-p", "no:cacheprovider", "--numprocesses", "2")
    assert "4 passed" in told, told
    assert (tmp_path / "prepared").read_text() == "once "
    with postgres.connect() as connection:
        left = connection.execute("SELECT datname FROM pg_database WHERE datname ~ '_gw[0-9]+$'")
        assert left.fetchall() == []


def test_a_server_is_started_where_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the wheel, or by what the system has; it says which."""
    monkeypatch.delenv("DBSCOPE_POSTGRES_URL", raising=False)
    (tmp_path / "test_it.py").write_text(WORKERS.format(folder=tmp_path))
    told = run(tmp_path, "-p", "no:cacheprovider", "-k", "0", "--numprocesses", "1", "-rP")
    assert "1 passed" in told, told
