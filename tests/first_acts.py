"""What a piece of work does first without a statement: it is sent by the flush at the end.

Each act has a row of its own, so that one database serves for all of them.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import ForeignKey
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    make_transient_to_detached,
    mapped_column,
    relationship,
)

from tests.support.look import Onlooker
from tests.worlds import Both, Item

TAKEN = "taken"


class Related(DeclarativeBase):
    """The same tables, for objects that know each other."""


class Owner(Related):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    children: Mapped[list[Owned]] = relationship(back_populates="owner")


class Owned(Related):
    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    owner: Mapped[Owner] = relationship(back_populates="children")


def there(name: str) -> Item:
    """Return the object of the row that is there, as if it had been read in another session."""
    item = Item(id=ids[name], name=f"{name} was there")
    make_transient_to_detached(item)
    return item


def add(db: Both, name: str) -> None:
    """Add an object."""
    db.session.add(Item(name=f"{name} is new"))


def add_all(db: Both, name: str) -> None:
    """Add a list of objects."""
    db.session.add_all([Item(name=f"{name} is new")])


def merge(db: Both, name: str) -> None:
    """Merge an object that is new."""
    db.session.merge(Item(name=f"{name} is new"))


def cascade(db: Both, name: str) -> None:
    """Add an object that brings another one along."""
    db.session.add(Owned(owner=Owner(name=f"{name} is new")))


def change(db: Both, name: str) -> None:
    """Change an object that was read before."""
    item = there(name)
    db.session.add(item)
    item.name = f"{name} is new"


def delete(db: Both, name: str) -> None:
    """Delete an object that was read before."""
    db.session.delete(there(name))


def nothing(db: Both, name: str) -> None:
    """Do nothing at all."""


Act = Callable[[Both, str], None]
# Each act, and what is there when it was stored.
ACTS: dict[Act, list[str]] = {
    add: ["is new", "was there"],
    add_all: ["is new", "was there"],
    merge: ["is new", "was there"],
    cascade: ["is new", "was there"],
    change: ["is new"],
    delete: [],
    nothing: ["was there"],
}
UNTOUCHED = {act: ["was there"] for act in ACTS}
ids = {act.__name__: 1_000_000 + number for number, act in enumerate(ACTS)}


def prepare(look: Onlooker) -> None:
    """Store the row of each act, and a name that is taken."""
    names = [(key, f"{name} was there") for name, key in ids.items()]
    rows = ", ".join(f"({key}, '{name}')" for key, name in [*names, (999_999, TAKEN)])
    look.execute(f"INSERT INTO item (id, name) VALUES {rows}")


def found(items: list[str] | None, act: Act) -> list[str]:
    """Return what is there of an act."""
    start = f"{act.__name__} "
    return sorted(name.removeprefix(start) for name in items or () if name.startswith(start))


def fail(db: Both) -> None:
    """Add what cannot be stored, which nobody knows before it is sent."""
    db.session.add(Item(name=TAKEN))
