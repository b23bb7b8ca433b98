"""A library of authors and books, whose attributes are loaded late."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from tests.worlds import Both

AUTHORS = 4


class Base(AsyncAttrs, DeclarativeBase):
    """The tables of the library."""


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


def fill(db: Both) -> None:
    """Make the tables, and store authors with books and copies."""
    db.ensure_schema(Base.metadata)
    with db.scope():
        for number in range(AUTHORS):
            books = [Book(copies=[Copy(), Copy()]) for _ in range(2)]
            db.session.add(Author(name=f"author {number}", life="long", books=books))
