"""The tables, and the databases of the application that all observers look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ForeignKey, String
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from dbscope import AsyncDatabase

AUTHORS = 8
PATIENCE = 20  # seconds


class Base(AsyncAttrs, DeclarativeBase):
    """The tables."""


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)


class Part(Base):
    """Its item is looked for by COMMIT."""

    __tablename__ = "part"
    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(
        ForeignKey("item.id", deferrable=True, initially="DEFERRED")
    )


class Counter(Base):
    """Each change of a row has a version."""

    __tablename__ = "counter"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    life: Mapped[str] = mapped_column(String(50), deferred=True)
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")
    copies: Mapped[list[Copy]] = relationship()


class Copy(Base):
    __tablename__ = "copy"
    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("book.id"))


class Shown(BaseModel):
    """What a client is shown of an author."""

    model_config = ConfigDict(from_attributes=True)
    name: str
    books: list[object]


@dataclass(frozen=True)
class Databases:
    """All on the same server, but for `lite`."""

    main: AsyncDatabase
    small: AsyncDatabase  # one connection
    hasty: AsyncDatabase  # one connection, and no patience
    pair: AsyncDatabase  # two
    asking: AsyncDatabase  # asks what became of a COMMIT whose answer was lost
    lite: AsyncDatabase

    @property
    def all(self) -> list[AsyncDatabase]:
        """Each of them."""
        return list(vars(self).values())


def databases(url: str, folder: Path) -> Databases:
    """Make them; nothing is opened."""

    def pool(size: int, patience: float = PATIENCE) -> dict[str, float]:
        return {"pool_size": size, "max_overflow": 0, "pool_timeout": patience}

    return Databases(
        main=AsyncDatabase(url, name="main"),
        small=AsyncDatabase(url, name="small", engine_options=pool(1)),
        hasty=AsyncDatabase(url, name="hasty", engine_options=pool(1, 0.1)),
        pair=AsyncDatabase(url, name="pair", engine_options=pool(2)),
        asking=AsyncDatabase(url, name="asking", verify_commit=True),
        lite=AsyncDatabase(f"sqlite:///{folder / 'lite.db'}", name="lite"),
    )


async def fill(all_of_them: Databases) -> None:
    """Make the tables, and store what is read."""
    for db in (all_of_them.main, all_of_them.lite):
        await db.ensure_schema(Base.metadata)
        async with db.scope():
            db.session.add_all([Item(name="first"), Counter(value=0)])
            for number in range(AUTHORS):
                books = [Book(copies=[Copy(), Copy()]) for _ in range(2)]
                db.session.add(Author(name=f"author {number}", life="long", books=books))
