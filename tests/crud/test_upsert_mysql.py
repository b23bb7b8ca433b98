"""What is another statement on MySQL and MariaDB."""

import asyncio
import enum
import importlib
from collections.abc import Callable, Iterator
from datetime import time
from typing import Any

import pytest
from sqlalchemy import URL, Enum, create_engine, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import BINARY, String
from sqlalchemy.util import greenlet_spawn

from dbscope import AsyncDatabase, ConfigurationError, Database
from tests.crud.shop import BothCRUD, pages
from tests.support.look import Onlooker
from tests.support.mysql import MySQLServer
from tests.worlds import Both


class Base(DeclarativeBase):
    """Tables as MySQL wants them: a text that is a key has a length."""


class Size(enum.Enum):
    """In another order than that of the alphabet."""

    small = 1
    medium = 2
    large = 3


class Product(Base):
    """`label` is called otherwise in the table."""

    __tablename__ = "crud_product"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column("stock_keeping_unit", String(20), unique=True)
    label: Mapped[str | None] = mapped_column("label_text", String(20))
    price: Mapped[float | None]
    data: Mapped[bytes | None] = mapped_column(BINARY(2))
    hour: Mapped[time | None]
    size: Mapped[Size | None]
    named: Mapped[Size | None] = mapped_column(Enum(Size, native_enum=False))
    changes: Mapped[int] = mapped_column(default=0, onupdate=7)


class User(Base):
    """It has two unique keys."""

    __tablename__ = "crud_user"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(20), unique=True)
    nick: Mapped[str] = mapped_column(String(20), index=True, unique=True)


Run = Callable[[Callable[[Both], Any]], None]


@pytest.fixture(scope="module")
def tables(mysql_server: MySQLServer) -> Iterator[URL]:
    """Make the tables, in a database of their own."""
    made = mysql_server.new_database("crud")
    engine = create_engine(made)
    Base.metadata.create_all(engine)
    engine.dispose()
    yield make_url(made)
    mysql_server.drop_database(made)


@pytest.fixture(params=["pymysql", "asyncmy"])
def run(request: pytest.FixtureRequest, tables: URL) -> Run:
    """Return what runs a body in a scope, on empty tables."""
    with Onlooker(tables) as look:
        for table in Base.metadata.tables:
            look.execute(f"TRUNCATE {table}")
    url = tables.set(drivername=f"mysql+{request.param}")
    importlib.import_module(request.param)  # not on the event loop, since it reads files
    return run_plainly(Database(url)) if request.param == "pymysql" else run_async(url)


def run_plainly(database: Database) -> Run:
    def run(body: Callable[[Both], Any]) -> None:
        try:
            with database.scope():
                body(Both(database))
        finally:
            database.dispose()

    return run


def run_async(url: URL) -> Run:
    async def carried(body: Callable[[Both], Any]) -> None:
        database = AsyncDatabase(url)
        try:
            async with database.scope():
                await greenlet_spawn(body, Both(database))
        finally:
            await database.dispose()

    return lambda body: asyncio.run(carried(body))


def test_a_row_is_stored_or_changed(run: Run) -> None:
    """As elsewhere; `onupdate` too, and only what was given."""

    def body(db: Both) -> None:
        products = BothCRUD(db, Product)
        new = products.upsert({"sku": "lamp", "label": "old", "price": 9}, on=["sku"])
        assert (new.id, new.changes) == (1, 0)
        same = products.upsert({"sku": "lamp", "label": "new"}, on=["sku"])
        assert same is new
        assert (same.label, same.price, same.changes) == ("new", 9, 7)
        assert products.upsert({"sku": "lamp"}, on=["sku"]) is same
        assert products.upsert({"id": None, "sku": "lamp"}, on=["sku"]) is same

    run(body)


def test_the_key_must_be_the_only_one(run: Run) -> None:
    """MySQL takes a row that is the same by any key for the one, and would change that."""

    def body(db: Both) -> None:
        users, products = BothCRUD(db, User), BothCRUD(db, Product)
        for crud, data, on in (
            (users, {"email": "a", "nick": "b"}, ["email"]),
            (users, {"email": "a", "nick": "b"}, ["email", "nick"]),
            (products, {"id": 1, "sku": "lamp"}, ["sku"]),
            (products, {"id": 1, "sku": "lamp"}, ["id"]),
            (products, {"sku": "lamp", "label": "a"}, ["label"]),
        ):
            with pytest.raises(ConfigurationError, match="a unique key of these columns and no"):
                crud.upsert(data, on=on)

    run(body)


@pytest.mark.parametrize("name", ["size", "named"])
def test_the_pages_of_names_follow_the_order_of_the_list(run: Run, name: str) -> None:
    """MySQL sorts an ENUM by the place of its names, and compares it with a name as text."""

    def body(db: Both) -> None:
        products = BothCRUD(db, Product)
        for number, size in enumerate([Size.small, None, Size.large, Size.medium, Size.small]):
            products.create({"sku": str(number), name: size})
        column = getattr(Product, name)
        for order in (column, column.desc()):
            whole = [row.id for row in products.list(order_by=order).items]
            found = [
                row.id for page in pages(products, order_by=order, limit=1) for row in page.items
            ]
            assert found == whole

    run(body)


@pytest.mark.parametrize("name", ["label", "price", "data", "hour"])
def test_the_pages_together_are_the_list(run: Run, name: str) -> None:
    """There is no NULLS LAST, and a time of the day is given as a duration."""
    samples = {"label": "a", "price": 0.123456789, "data": b"ab", "hour": time(1, 2, 3)}

    def body(db: Both) -> None:
        products = BothCRUD(db, Product)
        for number in range(5):
            products.create({"sku": str(number), name: samples[name] if number % 2 else None})
        column = getattr(Product, name)
        for order in (column, column.desc()):
            found = [
                row.id for page in pages(products, order_by=order, limit=1) for row in page.items
            ]
            assert found == [2, 4, 1, 3, 5]

    run(body)
