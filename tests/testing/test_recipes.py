"""Three ways in which applications are tested today: what has to be changed to keep the tests."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from tests.testing.test_plugin import run

pytestmark = pytest.mark.timeout(180)

MODELS = """
from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase): ...

class User(Base):
    __tablename__ = "user_account"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(50), unique=True)
"""
PLAIN_APP = """
from collections.abc import Generator
from typing import Annotated
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import select
from sqlalchemy.orm import Session
from dbscope import Database
from models import Base, User

database = Database("{url}")
app = FastAPI()
database.install(app)
SessionDep = Annotated[Session, Depends(database.get_session)]

def create_user(session: Session, email: str) -> User:
    user = User(email=email)
    session.add(user)
    session.commit()
    session.refresh(user)
    return user

@app.post("/users")
def register(session: SessionDep, email: str) -> int:
    if session.scalar(select(User).where(User.email == email)):
        raise HTTPException(409)
    return create_user(session, email).id

@app.patch("/users/{{id}}")
def rename(session: SessionDep, id: int, email: str) -> None:
    user = session.get_one(User, id)
    user.email = email
    session.commit()
"""
ASYNC_APP = """
from typing import Annotated
from fastapi import Depends, FastAPI
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from dbscope import AsyncDatabase
from models import Base, User

database = AsyncDatabase("{url}")
engine = database.engine
get_session = database.get_session
app = FastAPI()
database.install(app)

@app.post("/users")
async def register(session: Annotated[AsyncSession, Depends(get_session)], email: str) -> int:
    session.add(User(email=email))
    await session.commit()
    return 1

@app.get("/users")
async def emails(session: Annotated[AsyncSession, Depends(get_session)]) -> list[str]:
    return list(await session.scalars(select(User.email).order_by(User.id)))
"""

# full-stack-fastapi-template: one session for the whole run, the tables emptied at its end
TEMPLATE_BEFORE = """
import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session
from starlette.testclient import TestClient
from app import Base, User, app, create_user, database, engine

@pytest.fixture(scope="session", autouse=True)
def db():
    with Session(engine) as session:
        create_user(session, "admin@example.com")
        yield session
        session.execute(delete(User))
        session.commit()

@pytest.fixture(scope="module")
def client():
    with TestClient(app) as c:
        yield c
"""
TEMPLATE_AFTER = """
import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient
from app import Base, User, app, create_user, database

@pytest.fixture(scope="session", autouse=True)
def db():
    with database.sandbox(), Session(database.engine) as session:
        create_user(session, "admin@example.com")
        yield session

@pytest.fixture(scope="module")
def client():
    with TestClient(app) as c:
        yield c
"""
TEMPLATE_TESTS = """
from sqlalchemy import select
from app import User, create_user

def test_register(client, db):
    assert client.post("/users?email=a@example.com").status_code == 200
    assert db.scalar(select(User).where(User.email == "a@example.com"))

def test_register_twice(client, db):
    create_user(db, "b@example.com")
    assert client.post("/users?email=b@example.com").status_code == 409

def test_rename(client, db):
    user = create_user(db, "c@example.com")
    assert client.patch(f"/users/{user.id}?email=d@example.com").status_code == 200
    db.refresh(user)
    assert user.email == "d@example.com"

def test_admin(client, db):
    assert db.scalar(select(User).where(User.email == "admin@example.com"))
"""

# SQLAlchemy, "Joining a Session into an External Transaction"
EXTERNAL_BEFORE = """
import httpx2, pytest
from sqlalchemy.ext.asyncio import AsyncSession
from app import app, database, engine, get_session

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def session():
    async with engine.connect() as connection:
        transaction = await connection.begin()
        async with AsyncSession(
            bind=connection, join_transaction_mode="create_savepoint"
        ) as session:
            app.dependency_overrides[get_session] = lambda: session
            yield session
        await transaction.rollback()

@pytest.fixture
async def client(session):
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://t") as client:
        yield client
"""
EXTERNAL_AFTER = """
import httpx2, pytest
from app import app, database

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def session():
    async with database.sandbox(), database.sessionmaker() as session:
        yield session

@pytest.fixture
async def client(session):
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://t") as client:
        yield client
"""
EXTERNAL_TESTS = """
import pytest
from sqlalchemy import func, select
from app import User

pytestmark = pytest.mark.anyio

@pytest.mark.parametrize("n", range(2))
async def test_the_client_sees_what_the_session_has_stored(client, session, n):
    session.add(User(email="a@example.com"))
    await session.commit()
    assert (await client.get("/users")).json() == ["a@example.com"]

async def test_the_session_sees_what_the_client_has_stored(client, session):
    assert (await client.post("/users?email=b@example.com")).status_code == 200
    assert await session.scalar(select(func.count(User.id))) == 1
    await session.rollback()
    assert (await client.get("/users")).json() == ["b@example.com"]
"""

# Django's TestCase: each test in a transaction that is rolled back, objects made by its own hand
DJANGO_BEFORE = """
import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient
from app import app, database, engine

@pytest.fixture(autouse=True)
def transaction():
    with engine.connect() as connection, connection.begin() as transaction:
        database.sessionmaker.configure(bind=connection)
        with database.scope():
            yield
        transaction.rollback()
        database.sessionmaker.configure(bind=engine)

@pytest.fixture
def client():
    return TestClient(app)
"""
DJANGO_AFTER = """
import pytest
from starlette.testclient import TestClient
from app import app, database

@pytest.fixture(autouse=True)
def transaction():
    with database.sandbox(), database.scope(atomic=False):
        yield

@pytest.fixture
def client():
    return TestClient(app)
"""
DJANGO_TESTS = """
import pytest
from app import User, database

@pytest.mark.parametrize("n", range(2))
def test_what_the_test_has_made_is_there_for_the_client(client, n):
    database.session.add(User(email="a@example.com"))
    database.session.flush()
    assert client.post("/users?email=a@example.com").status_code == 409

def test_what_the_client_has_changed_is_there_for_the_test(client):
    user = User(email="a@example.com")
    database.session.add(user)
    database.session.flush()
    assert client.patch(f"/users/{user.id}?email=b@example.com").status_code == 200
    database.session.refresh(user)
    assert user.email == "b@example.com"

def test_atomic(client):
    with pytest.raises(RuntimeError), database.atomic():
        database.session.add(User(email="a@example.com"))
        raise RuntimeError
    assert client.post("/users?email=a@example.com").status_code == 200
"""
RECIPES = {
    "template": (PLAIN_APP, TEMPLATE_BEFORE, TEMPLATE_AFTER, TEMPLATE_TESTS, 4),
    "external": (ASYNC_APP, EXTERNAL_BEFORE, EXTERNAL_AFTER, EXTERNAL_TESTS, 3),
    "django": (PLAIN_APP, DJANGO_BEFORE, DJANGO_AFTER, DJANGO_TESTS, 4),
}


def changed(before: str, after: str) -> int:
    """Return how many lines are written anew, or taken out where none is."""
    found = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    return max(sum(line.startswith(sign) for line in found) for sign in "+-")


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_tests_of_an_application_stay_as_they_are(
    recipe: str, tmp_path: Path, postgres_url: str
) -> None:
    """Ten lines of `conftest.py` at most are another; the tests are green, and leave no row."""
    app, before, after, tests, passed = RECIPES[recipe]
    assert changed(before, after) <= 10
    tables = "\nfrom sqlalchemy import create_engine\n"
    tables += f"Base.metadata.create_all(create_engine({postgres_url!r}))\n"
    (tmp_path / "models.py").write_text(MODELS + tables)
    (tmp_path / "app.py").write_text(app.format(url=postgres_url))
    (tmp_path / "conftest.py").write_text(after)
    (tmp_path / "test_app.py").write_text(tests)
    (tmp_path / "test_rest.py").write_text(REST.format(url=postgres_url))
    told = run(tmp_path, "-p", "no:cacheprovider", "-W", "ignore::ResourceWarning", "test_app.py")
    assert f"{passed} passed" in told, told
    told = run(tmp_path, "--noconftest", "-p", "no:cacheprovider", "test_rest.py")
    assert "1 passed" in told, told


REST = """
import psycopg

def test_no_row_is_left():
    with psycopg.connect("{url}".replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT count(*) FROM user_account").fetchone() == (0,)
"""
