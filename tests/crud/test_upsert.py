"""Upsert: one statement stores a row, or changes the one that is there."""

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dbscope import ConfigurationError
from tests.crud.shop import BothCRUD, Product, ProductCreate, Seat, products
from tests.worlds import Both, World, is_sqlite

in_scope = pytest.mark.worlds(places=["scope"])
on_sqlite3 = pytest.mark.worlds(drivers=lambda name: name == "sqlite3", places=["scope"])


def stored(shop: World) -> list[tuple[Any, ...]]:
    """Return what another client sees."""
    return shop.look.rows("SELECT sku, name, price, label_text FROM product ORDER BY id")


def test_a_row_is_stored_or_changed(shop: World) -> None:
    """Everywhere; the changed one is the object that the session has, with what is stored now."""

    def body(db: Both) -> None:
        items = products(db)
        new = items.upsert(ProductCreate(sku="lamp", price=Decimal(9)), on=["sku"], label="old")
        same = items.upsert({"sku": "lamp", "label": "new"}, on="sku")
        assert same is new
        assert (same.id, same.label, same.price) == (1, "new", 9)
        assert items.get(1) is same

    shop.run(body)
    assert stored(shop) == [("lamp", None, 9, "new")]


@in_scope
def test_only_fields_that_were_set_are_changed(shop: World) -> None:
    """All defaults are stored with a new row; those of a model that were not set change nothing."""

    def body(db: Both) -> None:
        items = products(db)
        items.create({"sku": "lamp", "name": "Lamp", "price": 9})
        items.upsert(ProductCreate(sku="lamp", price=None), on=["sku"])

    shop.run(body)
    assert stored(shop) == [("lamp", "Lamp", None, None)]


@in_scope
def test_a_key_that_is_none_is_made_by_the_database(shop: World) -> None:
    """As when it is created: a model that has an id has none yet."""

    def body(db: Both) -> None:
        items = products(db)
        new = items.upsert({"id": None, "sku": "lamp"}, on=["sku"])
        same = items.upsert({"id": None, "sku": "lamp", "name": "Lamp"}, on=["sku"])
        assert same is new
        assert (same.id, same.name) == (1, "Lamp")

    shop.run(body)


@in_scope
def test_it_is_one_statement(shop: World) -> None:
    """So nobody can come between; what was to be flushed goes before it."""

    def body(db: Both) -> None:
        items = products(db)
        items.create({"sku": "lamp"})
        db.session.add(Product(sku="sofa", name="Sofa"))
        shop.statements.clear()
        items.upsert({"sku": "sofa", "price": 5}, on=["sku"])
        assert shop.sent() == ["INSERT", "INSERT"]

    shop.run(body)
    assert stored(shop) == [("lamp", None, None, None), ("sofa", "Sofa", 5, None)]


@in_scope
def test_what_an_update_does_besides_is_done(shop: World) -> None:
    """`onupdate`, and the version goes up, so whoever has read the row before is refused."""

    def body(db: Both) -> None:
        items = products(db)
        lamp = items.upsert({"sku": "lamp"}, on=["sku"])
        assert (lamp.changes, lamp.version) == (0, 1)
        items.upsert({"sku": "lamp", "name": "Lamp"}, on=["sku"])
        assert (lamp.changes, lamp.version) == (7, 2)
        items.update(lamp, {"name": "lamp"})
        assert lamp.version == 3

    shop.run(body)


@in_scope
def test_nothing_to_change_is_no_change(shop: World) -> None:
    """The row that is there is returned, as it is."""

    def body(db: Both) -> None:
        items = products(db)
        lamp = items.create({"sku": "lamp", "name": "Lamp"})
        assert items.upsert({"sku": "lamp"}, on=["sku"]) is lamp
        assert (lamp.changes, lamp.version, lamp.name) == (0, 1, "Lamp")

    shop.run(body)


@in_scope
def test_several_columns_can_be_unique_together(shop: World) -> None:
    """The primary key, say."""

    def body(db: Both) -> None:
        seats, key = BothCRUD(db, Seat), {"row": "a", "number": 1}
        seat = seats.upsert(key, on=("row", "number"))
        assert seats.upsert({**key, "guest": "Ada"}, on=("row", "number")) is seat
        assert (seat.guest, seats.count()) == ("Ada", 1)

    shop.run(body)


@in_scope
def test_another_unique_key_is_not_the_one(shop: World) -> None:
    """The row with the same id is not changed; the error is the database's, and a block ends it."""

    def body(db: Both) -> None:
        items = products(db)
        items.create({"id": 1, "sku": "lamp"})
        with pytest.raises(IntegrityError), db.atomic():
            items.upsert({"id": 1, "sku": "sofa"}, on=["sku"])
        assert items.get(1).sku == "lamp"

    shop.run(body)


@pytest.mark.worlds(drivers=lambda name: not is_sqlite(name), places=["scope"])
def test_the_row_may_be_newer_than_this_transaction(shop: World) -> None:
    """Another client stores it after ours has begun; it is changed all the same."""

    def body(db: Both) -> None:
        items = products(db)
        assert items.count() == 0
        shop.look.execute("INSERT INTO product (sku, changes, version) VALUES ('lamp', 0, 1)")
        assert items.upsert({"sku": "lamp", "name": "Lamp"}, on=["sku"]).version == 2

    shop.run(body)
    assert stored(shop) == [("lamp", "Lamp", None, None)]


@pytest.mark.parametrize(
    ("data", "on", "words"),
    [
        ({"sku": "a"}, [], r"the values that are unique: on=\(\.\.\.\)"),
        ({"name": "a"}, ["sku"], "the values that are unique: sku"),
        ({"sku": None}, ["sku"], "the values that are unique: sku"),
        ({"sku": "a"}, ["skew"], "Product.skew is not one"),
        ({"sku": "a", "tags": []}, ["sku"], "Product.tags is not one"),
    ],
    ids=str,
)
@on_sqlite3
def test_what_cannot_be_is_refused(shop: World, data: Any, on: Any, words: str) -> None:
    """Before anything is sent."""

    def body(db: Both) -> None:
        with pytest.raises(TypeError, match=words):
            products(db).upsert(data, on=on)

    shop.run(body)
    assert shop.statements == []


class Base(DeclarativeBase):
    """Tables that nobody makes."""


class Furniture(Base):
    __tablename__ = "furniture"
    id: Mapped[int] = mapped_column(primary_key=True)


class Sofa(Furniture):
    __tablename__ = "sofa"
    id: Mapped[int] = mapped_column(ForeignKey("furniture.id"), primary_key=True)


@on_sqlite3
def test_a_model_that_inherits_is_refused(shop: World) -> None:
    """Its columns are in two tables, and one statement fills one."""

    def body(db: Both) -> None:
        with pytest.raises(ConfigurationError, match="inheritance"):
            BothCRUD(db, Sofa).upsert({"id": 1}, on=["id"])

    shop.run(body)
