"""One row: created, found, changed, deleted. Nothing commits, but the scope does."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, computed_field
from pydantic.alias_generators import to_camel
from sqlalchemy.exc import IntegrityError

from dbscope import ScopeMissing
from dbscope.crud import NotFound
from tests.crud.shop import BothCRUD, Product, ProductCreate, ProductUpdate, Seat, Tag, products
from tests.worlds import Both, World, is_sqlite

in_scope = pytest.mark.worlds(places=["scope"])


def stored(shop: World) -> list[tuple[Any, ...]]:
    """Return what another client sees."""
    return shop.look.rows("SELECT sku, name, price FROM product ORDER BY id")


def test_what_is_done_is_there_when_the_place_is_left(shop: World) -> None:
    """In a scope, a request and a block alike; ids exist at once, and nothing commits before."""

    def body(db: Both) -> None:
        items = products(db)
        lamp = items.create(ProductCreate(sku="lamp", price=Decimal("9.50")))
        sofa = items.create(ProductCreate(sku="sofa"), name="Sofa")
        assert (lamp.id, sofa.id) == (1, 2)
        assert items.get(1) is lamp
        items.update(lamp, ProductUpdate(name="Lamp"))
        items.delete(sofa)
        assert items.get(2) is None
        assert stored(shop) == []

    shop.run(body)
    assert stored(shop) == [("lamp", "Lamp", Decimal("9.50"))]


@pytest.mark.parametrize("method", ["create", "get", "list", "count"])
@in_scope
def test_outside_a_scope_the_error_is_the_cores(shop: World, method: str) -> None:
    """ScopeMissing, which says what to do."""

    def story(db: Both) -> None:
        arguments: dict[str, Any] = {"create": [{"sku": "a"}], "get": [1]}
        with pytest.raises(ScopeMissing):
            getattr(products(db), method)(*arguments.get(method, []))

    shop.play(story)


@in_scope
def test_an_update_changes_the_fields_that_were_set(shop: World) -> None:
    """An unset field stays; a None that was given is NULL."""

    def body(db: Both) -> None:
        items = products(db)
        lamp = items.create(ProductCreate(sku="lamp", name="Lamp", price=Decimal(9)))
        items.update(lamp, ProductUpdate(name=None))
        items.update(items.create({"sku": "sofa", "name": "Sofa"}), {"price": None}, name="Bed")

    shop.run(body)
    assert stored(shop) == [("lamp", None, 9), ("sofa", "Bed", None)]


@in_scope
def test_what_the_program_adds_wins(shop: World) -> None:
    """Over what the client has sent, in both."""

    def body(db: Both) -> None:
        items = products(db)
        lamp = items.create(ProductCreate(sku="lamp", name="of the client"), name="ours")
        items.create({"sku": "sofa"}, name="ours")
        items.update(lamp, ProductUpdate(sku="new"), sku="lamp 2")

    shop.run(body)
    assert stored(shop) == [("lamp 2", "ours", None), ("sofa", "ours", None)]


@in_scope
def test_a_field_that_the_model_does_not_have_is_refused(shop: World) -> None:
    """The message names it and what there is; the row is as it was, and nothing was sent."""

    def body(db: Both) -> None:
        items = products(db)
        lamp = items.create({"sku": "lamp"})
        shop.statements.clear()
        for refused in (
            lambda: items.create({"sku": "a", "colour": "red"}),
            lambda: items.update(lamp, {"name": "Lamp", "colour": "red"}),
            lambda: items.update(lamp, {}, colour="red"),
            lambda: items.upsert({"sku": "a", "colour": "red"}, on=["sku"]),
        ):
            with pytest.raises(TypeError, match=r"Product has no colour; it has id, sku, price"):
                refused()
        assert lamp.name is None
        assert shop.statements == []

    shop.run(body)
    assert stored(shop) == [("lamp", None, None)]


class Loud(BaseModel):
    """It writes other names than it has, and more."""

    model_config = ConfigDict(alias_generator=to_camel, serialize_by_alias=True)
    sku: str
    label: str | None = None
    changes: int = 3

    @computed_field
    @property
    def shouted(self) -> str:
        return self.sku.upper()


class Homemade:
    """It has what the library needs of pydantic."""

    def model_dump(self, *, exclude_unset: bool) -> dict[str, Any]:
        return {"sku": "lamp"} if exclude_unset else {"sku": "lamp", "label": None, "changes": 3}


@pytest.mark.parametrize("data", [Loud(sku="lamp"), Homemade(), {"sku": "lamp", "changes": 3}])
@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
def test_fields_are_given_in_three_ways(shop: World, data: Any) -> None:
    """A pydantic model whatever it is set to write, what looks like one, and a mapping."""

    def body(db: Both) -> None:
        items = products(db)
        lamp = items.create(data)
        assert (lamp.sku, lamp.label, lamp.changes) == ("lamp", None, 3)
        items.update(lamp, {"label": "kept"})
        assert items.update(lamp, data).label == "kept"

    shop.run(body)


@pytest.mark.parametrize(
    "data",
    [None, [("sku", "a")], "sku", Loud, object()],
    ids=["None", "pairs", "text", "class", "object"],
)
@pytest.mark.worlds(drivers=lambda name: name == "sqlite3", places=["scope"])
def test_anything_else_is_refused(shop: World, data: Any) -> None:
    """A class, too: it has no values."""

    def body(db: Both) -> None:
        with pytest.raises(TypeError, match="a pydantic model or a mapping, not"):
            products(db).create(data)

    shop.run(body)


@in_scope
def test_what_the_database_makes_can_be_read_at_once(shop: World) -> None:
    """Without a statement hidden in an attribute, which async code could not wait for."""

    def body(db: Both) -> None:
        items = products(db)
        lamp = items.create({"sku": "lamp"})
        items.update(lamp, {"seen": Product.__table__.c.seen.server_default.arg})
        shop.statements.clear()
        assert (lamp.seen.year, lamp.changes, lamp.version) == (lamp.seen.year, 7, 2)
        assert shop.statements == []

    shop.run(body)


@in_scope
def test_a_row_that_is_not_there_is_none_or_not_found(shop: World) -> None:
    """By any key; NotFound is Python's LookupError, and says which kind of thing was wanted."""

    def body(db: Both) -> None:
        items, seats = products(db), BothCRUD(db, Seat)
        assert items.get(1) is None
        assert seats.get(("a", 1)) is None
        with pytest.raises(NotFound, match=r"There is no such product\.") as caught:
            items.get_or_404(1)
        assert isinstance(caught.value, LookupError)
        lamp, seat = items.create({"sku": "lamp"}), seats.create({"row": "a", "number": 1})
        assert items.get_or_404(lamp.id) is lamp
        assert seats.get_or_404(("a", 1)) is seat

    shop.run(body)


@in_scope
def test_get_takes_the_options_of_the_session(shop: World) -> None:
    """`with_for_update` reads the row again, and locks it where the database can."""

    def body(db: Both) -> None:
        items = products(db)
        lamp = items.create({"sku": "lamp"})
        shop.statements.clear()
        assert items.get_or_404(lamp.id, with_for_update=True) is lamp
        (statement,) = shop.statements
        assert ("FOR UPDATE" in statement) is not shop.is_sqlite

    shop.run(body)


@in_scope
def test_what_belongs_to_a_deleted_row_goes_with_it(shop: World) -> None:
    """The cascade may have to load it first, which async code waits for."""

    def first(db: Both) -> None:
        lamp = products(db).create({"sku": "lamp"})
        BothCRUD(db, Tag).create({"product_id": lamp.id})

    def second(db: Both) -> None:
        items = products(db)
        items.delete(items.get_or_404(1))
        assert BothCRUD(db, Tag).count() == 0

    shop.play(lambda db: [shop.inside(db, first), shop.inside(db, second)])
    assert stored(shop) == []


@in_scope
def test_a_row_of_an_earlier_scope_can_be_changed(shop: World) -> None:
    """It is not passed over in silence because the session is another."""

    def story(db: Both) -> None:
        lamp = shop.inside(db, lambda db: products(db).create({"sku": "lamp"}))
        shop.inside(db, lambda db: products(db).update(lamp, {"name": "Lamp"}))

    shop.play(story)
    assert stored(shop) == [("lamp", "Lamp", None)]


def test_an_error_in_a_block_leaves_what_is_around_it(shop: World) -> None:
    """The second lamp is refused at once, at its line; the sofa after it is stored."""

    def body(db: Both) -> None:
        items = products(db)
        items.create({"sku": "lamp"})
        with pytest.raises(IntegrityError), db.atomic():
            items.create({"sku": "lamp"})
        items.create({"sku": "sofa"})

    shop.run(body)
    assert [sku for sku, *_ in stored(shop)] == ["lamp", "sofa"]


@in_scope
def test_rows_are_counted_and_asked_for(shop: World) -> None:
    """All, or those that meet all of the conditions."""

    def body(db: Both) -> None:
        items = products(db)
        assert (items.exists(), items.count()) == (False, 0)
        for number in range(3):
            items.create({"sku": str(number), "price": number})
        assert (items.exists(), items.count()) == (True, 3)
        assert items.count(Product.price > 0, Product.sku != "1") == 1
        assert items.exists(Product.price > 0, Product.sku != "1")
        assert not items.exists(Product.price > 2)

    shop.run(body)
