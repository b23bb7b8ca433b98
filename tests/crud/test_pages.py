"""Lists, a page at a time: by offset, or by cursor without gaps."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func
from sqlalchemy.orm import joinedload, selectinload

from dbscope import ConfigurationError
from dbscope.crud import BadCursor, BadRequest
from tests.crud.shop import BothCRUD, Product, Sample, Seat, Size, Tag, pages, products
from tests.worlds import Both, World

in_scope = pytest.mark.worlds(places=["scope"])
on_sqlite3 = pytest.mark.worlds(drivers=lambda name: name == "sqlite3", places=["scope"])

# Ties and NULLs, in no order.
NAMES = ["b", None, "a", "b", "c", None, "a", "b", None, "c", "b"]


def fill(items: BothCRUD) -> None:
    """Store products with those names, and prices that have ties of their own."""
    for number, name in enumerate(NAMES):
        items.create({"sku": f"{number:02}", "name": name, "price": number % 3 or None})


def walk(crud: BothCRUD, *filters: Any, **wanted: Any) -> list[Any]:
    """Return the rows of all pages."""
    return [row for page in pages(crud, *filters, **wanted) for row in page.items]


def in_order(rows: list[Any], *orders: str) -> list[Any]:
    """Return the rows ordered as a list is: NULL last in either direction, ties by the key."""
    rows = sorted(rows, key=lambda row: row.id)
    for order in reversed(orders):
        name = order.removeprefix("-")
        there = [row for row in rows if getattr(row, name) is not None]
        there.sort(key=lambda row: getattr(row, name), reverse=name != order)
        rows = there + [row for row in rows if getattr(row, name) is None]
    return rows


@pytest.mark.parametrize("sort", ["name", "-name", "name,-price", "-price,name", "sku", ""])
@in_scope
def test_the_pages_together_are_the_list(shop: World, sort: str) -> None:
    """In order, none twice and none left out, whatever is NULL or the same, at any size."""

    def body(db: Both) -> None:
        items = products(db)
        fill(items)
        everything = items.list(order_by=sort)
        assert everything.next is None
        assert everything.items == in_order(everything.items, *filter(None, sort.split(",")))
        assert len(everything.items) == len(NAMES)
        for limit in range(1, len(NAMES) + 1):
            assert walk(items, order_by=sort, limit=limit) == everything.items

    shop.run(body)


@pytest.mark.parametrize("sort", ["name", "-name"])
@in_scope
def test_rows_that_come_and_go_between_pages_disturb_no_others(shop: World, sort: str) -> None:
    """Those that were there and stay are listed once each, and so are new ones further on."""

    def body(db: Both) -> None:
        items = products(db)
        fill(items)
        there = items.list(order_by=sort).items
        seen, new, gone = [], [], []
        for page in pages(items, order_by=sort, limit=2):
            seen += page.items
            name = page.items[-1].name  # before, behind and as the end of this page
            for other in (None, "a", name, "c"):
                row = items.create({"sku": f"new {len(new)}", "name": other})
                new.append(row) if len(new) < 12 else items.delete(row)
            if len(gone) < 3:  # also the very row that the cursor was made of
                gone.append(page.items[-1])
                items.delete(gone[-1])
        assert [row for row in seen if row in there] == there
        assert len(set(seen)) == len(seen)
        assert set(seen) & set(new)

    shop.run(body)


@pytest.mark.parametrize("descending", [False, True])
@in_scope
def test_a_key_of_two_columns_ends_every_order(shop: World, descending: bool) -> None:
    """So the order is complete there, too."""

    def body(db: Both) -> None:
        seats = BothCRUD(db, Seat)
        for row in "ba":
            for number in (2, 1, 3):
                seats.create({"row": row, "number": number, "guest": "x" if number < 3 else None})
        order = Seat.guest.desc() if descending else Seat.guest
        found = [(seat.row, seat.number) for seat in walk(seats, order_by=order, limit=1)]
        assert found == [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("a", 3), ("b", 3)]

    shop.run(body)


ZONE = datetime(2026, 1, 1, 12, tzinfo=UTC)
SAMPLES: dict[str, tuple[Any, Any]] = {
    "whole": (-1, 2**31 - 1),
    "number": (0.1, 1e300),
    "single": (0.1, 0.123456789),
    "exact": (Decimal("-0.5"), Decimal("1.25")),
    "truth": (False, True),
    "text": ("", "ÿ '\"\\"),
    "data": (b"\x00", b"\xff"),
    "day": (date(1970, 1, 1), date(2026, 1, 1)),
    "hour": (time(0), time(23, 59, 59, 999999)),
    "moment": (ZONE, ZONE + timedelta(microseconds=1)),
    "utc": (ZONE, ZONE + timedelta(microseconds=1)),
    "span": (timedelta(microseconds=1), timedelta(days=400)),
    "uid": (UUID(int=1), UUID(int=2**128 - 1)),
    "size": (Size.large, Size.small),
}


@pytest.mark.parametrize("name", SAMPLES)
@in_scope
def test_a_list_goes_on_behind_a_value_of_any_type(shop: World, name: str) -> None:
    """What the cursor carries is what is stored, to the last digit."""

    def body(db: Both) -> None:
        samples = BothCRUD(db, Sample)
        for value in (*SAMPLES[name], None) * 2:
            samples.create({name: value})
        column = getattr(Sample, name)
        for order, ids in ((column, [1, 4, 2, 5, 3, 6]), (column.desc(), [2, 5, 1, 4, 3, 6])):
            assert [row.id for row in samples.list(order_by=order).items] == ids
            assert [row.id for row in walk(samples, order_by=order, limit=1)] == ids

    shop.run(body)


@pytest.mark.parametrize("order", [Product.seen, Product.seen.desc()], ids=["up", "down"])
@in_scope
def test_times_that_the_database_has_made_are_compared_as_they_are(shop: World, order: Any) -> None:
    """SQLite writes them without microseconds, and SQLAlchemy with: as text they differ."""

    def body(db: Both) -> None:
        items = products(db)
        fill(items)
        assert len(walk(items, order_by=order, limit=2)) == len(NAMES)

    shop.run(body)


@in_scope
def test_a_list_is_ordered_by_expressions_too(shop: World) -> None:
    """Two that differ in a value only are two, and a cursor of one is none of the other."""

    def body(db: Both) -> None:
        items = products(db)
        for sku in ("aXb", "bXa", "Aya", "bxb"):
            items.create({"sku": sku})
        lower = func.lower(Product.sku)
        third, first = func.substr(Product.sku, 3, 1), func.substr(Product.sku, 1, 1)
        assert [row.sku for row in walk(items, order_by=lower.desc(), limit=1)] == [
            "bxb", "bXa", "Aya", "aXb",
        ]  # fmt: skip
        order = (third, first.desc())
        assert [row.sku for row in walk(items, Product.sku != "Aya", order_by=order, limit=1)] == [
            "bXa", "bxb", "aXb",
        ]  # fmt: skip
        cursor = items.list(order_by=third, limit=1).next
        with pytest.raises(BadCursor):
            items.list(order_by=first, after=cursor)

    shop.run(body)


@in_scope
def test_a_page_has_what_was_asked_for(shop: World) -> None:
    """Filters, an offset, the total of all pages; the total is a statement of its own."""

    def body(db: Both) -> None:
        items = products(db)
        fill(items)
        shop.statements.clear()
        page = items.list(Product.name == "b", order_by=Product.id, limit=2, offset=1)
        assert ([row.sku for row in page.items], page.total) == (["03", "07"], None)
        assert len(shop.statements) == 1
        page = items.list(Product.name == "b", limit=3, after=page.next, total=True)
        assert ([row.sku for row in page.items], page.next, page.total) == (["10"], None, 4)
        assert len(shop.statements) == 3

    shop.run(body)


@in_scope
def test_a_page_behind_the_last_row_is_empty(shop: World) -> None:
    """It is no error, and it is the last."""

    def body(db: Both) -> None:
        items = products(db)
        assert items.list(total=True) == type(items.list())([], None, 0)
        fill(items)
        page = items.list(offset=2**63 - 1)
        assert (page.items, page.next) == ([], None)

    shop.run(body)


@pytest.mark.parametrize("load", [selectinload, joinedload])
@in_scope
def test_what_belongs_to_the_rows_is_loaded_with_them(
    shop: World, load: Callable[..., Any]
) -> None:
    """In any of SQLAlchemy's ways, and the limit is one of rows of the list."""

    def body(db: Both) -> None:
        items, tags = products(db), BothCRUD(db, Tag)
        fill(items)
        for number in (1, 1, 1, 2, 3, 3):
            tags.create({"product_id": number})
        db.session.expunge_all()
        page = items.list(limit=2, options=[load(Product.tags)])
        assert [len(row.tags) for row in page.items] == [3, 1]
        page = items.list(limit=2, options=[load(Product.tags)], after=page.next)
        assert [len(row.tags) for row in page.items] == [2, 0]

    shop.run(body)


@pytest.mark.parametrize(
    "wanted",
    [
        {"limit": 0},
        {"limit": -1},
        {"limit": 101},
        {"limit": 2**80},
        {"offset": -1},
        {"offset": 2**63},
        {"offset": 1, "after": "x"},
    ],
    ids=str,
)
@on_sqlite3
def test_a_page_that_cannot_be_is_refused(shop: World, wanted: dict[str, Any]) -> None:
    """Before anything is sent, with the numbers that can be."""

    def body(db: Both) -> None:
        words = (
            "not both" if "after" in wanted else f"The {next(iter(wanted))} of a page must be from"
        )
        with pytest.raises(BadRequest, match=words):
            products(db).list(**wanted)

    shop.run(body)
    assert shop.statements == []


@on_sqlite3
def test_a_class_says_how_large_a_page_may_be(shop: World) -> None:
    """It is `max_limit`."""

    def body(db: Both) -> None:
        items = BothCRUD(db, Product, max_limit=200)
        assert items.list(limit=200).items == []
        with pytest.raises(BadRequest, match="from 1 to 200"):
            items.list(limit=201)

    shop.run(body)


@pytest.mark.parametrize(
    "sort",
    [
        "id",
        "--name",
        "name desc",
        "name,id",
        "name,name",
        "name,-name",
        "name,price,sku,name",
        "-name," * 9_999,
        " name",
        "Name",
        "tags",
    ],
)
@on_sqlite3
def test_a_client_sorts_by_what_is_sortable(shop: World, sort: str) -> None:
    """And by nothing else; the message does not repeat what the client has sent."""

    def body(db: Both) -> None:
        with pytest.raises(BadRequest) as caught:
            products(db).list(order_by=sort)
        assert "choose from: sku, name, price." in str(caught.value)
        with pytest.raises(BadRequest, match="choose from: nothing"):
            BothCRUD(db, Product).list(order_by="name")

    shop.run(body)
    assert shop.statements == []


@on_sqlite3
def test_sortable_names_columns(shop: World) -> None:
    """Whoever writes the class is told, not the client; the error is not a BadRequest."""

    def body(db: Both) -> None:
        with pytest.raises(ConfigurationError, match="`sortable` names tags"):
            BothCRUD(db, Product, sortable=["tags"]).list(order_by="tags")
        with pytest.raises(ConfigurationError, match=r"a tuple of names: \('name',\)"):
            BothCRUD(db, Product, sortable="name")

    shop.run(body)


@pytest.mark.parametrize("order", [Product.name.nulls_first(), 1, Product], ids=str)
@on_sqlite3
def test_a_list_is_ordered_by_columns_and_directions(shop: World, order: Any) -> None:
    """What cannot be gone on from is refused on the first page already."""

    def body(db: Both) -> None:
        with pytest.raises(TypeError, match="A list is ordered by columns"):
            products(db).list(order_by=order)

    shop.run(body)
