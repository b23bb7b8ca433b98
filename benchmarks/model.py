"""The one table that is read and written, and what the endpoints answer."""

from typing import Any

from pydantic import BaseModel
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

ITEM_ID = 7
ITEMS = 100


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "benchmark_items"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    count: Mapped[int]


class ItemOut(BaseModel):
    id: int
    name: str
    count: int


def out(item: Item) -> ItemOut:
    return ItemOut(id=item.id, name=item.name, count=item.count)


def answer(item_id: int = ITEM_ID, count: int = 0) -> dict[str, Any]:
    """Return what is to be answered for an item."""
    return {"id": item_id, "name": "lamp", "count": count}


def create(url: URL) -> None:
    """Make the table, with its rows."""
    with disposed(create_engine(url)) as engine:
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all(Item(**answer(number)) for number in range(1, ITEMS + 1))
            session.commit()


def count(url: URL) -> int:
    """Read, by a connection of its own, how often the row was written."""
    with disposed(create_engine(url)) as engine, Session(engine) as session:
        return session.get_one(Item, ITEM_ID).count


class disposed:  # noqa: N801  (reads like contextlib.closing)
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __enter__(self) -> Engine:
        return self.engine

    def __exit__(self, *exc_info: object) -> None:
        self.engine.dispose()
