"""Cursors come from clients, who can send anything."""

import base64
import json
from decimal import Decimal
from typing import Any

import pytest

from dbscope import ConfigurationError
from dbscope.crud import BadCursor, cursor
from tests.crud.shop import BothCRUD, Product, Sample, Seat, products
from tests.worlds import Both, World

in_scope = pytest.mark.worlds(places=["scope"])
ORDER = "Product: product.name asc, product.id asc"


def b64(told: Any) -> str:
    """Return it as a cursor is written."""
    text = told if isinstance(told, str) else json.dumps(told)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


STRANGE = {
    "empty": "",
    "not base64": "!",
    "a NUL": "\0",
    "not ASCII": "é",
    "a lone surrogate": "\ud800",
    "not JSON": b64("["),
    "not UTF-8": "_w",
    "a number": b64("1"),
    "null": b64("null"),
    "a mapping": b64({"a": 1}),
    "an empty list": b64([]),
    "no checksum": b64(["sa", "i1"]),
    "a checksum of nothing": b64([0, "sa", "i1"]),
    "very long": "A" * 1_000_000,
    "very deep": b64("[" * 100_000),
    "a very long number": b64("[" + "9" * 10_000 + "]"),
}


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
@pytest.mark.worlds(drivers=lambda name: name == "sqlite3", places=["scope"])
def test_what_is_no_cursor_is_refused(shop: World, text: str) -> None:
    """By one error, which does not repeat it, before anything is sent."""

    def body(db: Both) -> None:
        with pytest.raises(BadCursor) as caught:
            products(db).list(order_by=Product.name, after=text)
        assert str(caught.value).endswith("take it from the page before, as it is.")
        assert isinstance(caught.value, ValueError)

    shop.run(body)
    assert shop.statements == []


def some_cursor(items: BothCRUD, **wanted: Any) -> str:
    """Return a cursor of a list of products."""
    for sku in ("a", "b"):
        items.create({"sku": sku, "name": sku})
    return str(items.list(**wanted, limit=1).next)


@pytest.mark.worlds(drivers=lambda name: name == "sqlite3", places=["scope"])
def test_a_cursor_is_of_one_order(shop: World) -> None:
    """Of one model, the same columns and directions."""

    def body(db: Both) -> None:
        items = products(db)
        after = some_cursor(items, order_by="name")
        assert len(items.list(order_by=[Product.name], after=after).items) == 1
        for other in ("-name", "sku", "name,-price", ""):
            with pytest.raises(BadCursor):
                items.list(order_by=other, after=after)
        with pytest.raises(BadCursor):
            BothCRUD(db, Seat).list(order_by=Seat.guest, after=after)

    shop.run(body)


@pytest.mark.worlds(drivers=lambda name: name == "sqlite3", places=["scope"])
def test_a_cursor_that_was_changed_is_refused(shop: World) -> None:
    """Wherever, by a letter more, less or another, as long as it says something else."""

    def body(db: Both) -> None:
        items = products(db)
        after = some_cursor(items, order_by="name")
        told = meaning(after)
        for place in range(len(after)):
            for other in ("", "A", "-", after[place] * 2):
                changed = after[:place] + other + after[place + 1 :]
                if meaning(changed) == told:
                    continue
                with pytest.raises(BadCursor):
                    items.list(order_by="name", after=changed)

    shop.run(body)


def meaning(text: str) -> bytes | None:
    """Return the bytes that are meant, or None."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None


FORGED: dict[str, tuple[str, list[Any]]] = {
    "a text for a number": ("whole", ["sx", "i1"]),
    "a number out of range": ("whole", ["i" + "9" * 400, "i1"]),
    "a number too long for Python": ("whole", ["i" + "9" * 5000, "i1"]),
    "a key out of range": ("whole", ["i1", "i" + "9" * 30]),
    "a number too large to be exact": ("exact", ["n" + "9" * 200_000, "i1"]),
    "an exponent": ("exact", ["n1e999999999", "i1"]),
    "no number": ("exact", ["nx", "i1"]),
    "a NUL in a text": ("text", ["s\0", "i1"]),
    "a lone surrogate in a text": ("text", ["s\ud800", "i1"]),
    "a number for a text": ("text", ["i1", "i1"]),
    "a name that is no size": ("size", ["shuge", "i1"]),
    "a time without its zone": ("moment", ["t2026-01-01T00:00:00", "i1"]),
    "no time at all": ("utc", ["tnever", "i1"]),
    "a duration out of range": ("span", ["p" + "9" * 30, "i1"]),
    "no bytes": ("data", ["xzz", "i1"]),
    "a truth for a uuid": ("uid", ["b1", "i1"]),
    "a list": ("text", [["s"], "i1"]),
    "a mapping": ("text", [{}, "i1"]),
    "a bare number": ("text", [1, "i1"]),
    "an unknown letter": ("text", ["?", "i1"]),
    "an empty text": ("text", ["", "i1"]),
    "a value less": ("text", ["i1"]),
    "a value more": ("text", ["sa", "i1", "i1"]),
    "no key": ("text", ["sa", None]),
}


@in_scope
def test_a_forged_cursor_breaks_nothing(shop: World) -> None:
    """Its checksum is right, so it is a page of what follows, or refused by the same error."""

    def body(db: Both) -> None:
        samples = BothCRUD(db, Sample)
        for _ in range(2):
            samples.create({})
        for name, (column, written) in FORGED.items():
            after = forge(f"Sample: sample.{column} asc, sample.id asc", written)
            with db.atomic() as block:
                try:
                    page = samples.list(order_by=getattr(Sample, column), after=after)
                except BadCursor:
                    block.set_rollback(True)
                except Exception as error:
                    pytest.fail(f"{name}: {error!r}")
                else:
                    assert page.next is None, name
        assert samples.count() == 2

    shop.run(body)


def forge(order: str, written: list[Any]) -> str:
    """Return a cursor with the right checksum, as whoever has read the source can."""
    return b64([cursor._checksum(order, written), *written])


def test_forging_is_what_the_library_does() -> None:
    """Else the tests above would be refused by the checksum and prove nothing."""
    assert cursor.decode(forge(ORDER, ["sa", "i1"]), ORDER, 2) == ["a", 1]
    written = meaning(cursor.encode(ORDER, ["a", 1]))
    assert json.loads(written or "") == json.loads(meaning(forge(ORDER, ["sa", "i1"])) or "")


@pytest.mark.parametrize(
    "value", [Decimal("NaN"), Decimal("-Infinity"), Decimal("1E+3"), Decimal("1.10")]
)
def test_numbers_come_back_as_they_were(value: Decimal) -> None:
    """The strange ones, too."""
    (back,) = cursor.decode(cursor.encode(ORDER, [value]), ORDER, 1)
    assert str(back) == str(value)


def test_a_value_that_has_no_cursor_is_named() -> None:
    """An array, say: whoever orders by it is told."""
    with pytest.raises(ConfigurationError, match="cannot be ordered by values of type list"):
        cursor.encode(ORDER, [[1]])
