"""Tables for what is done with more than one table, on every database; each text has a length."""

from __future__ import annotations

from typing import Any

from sqlalchemy import FetchedValue, ForeignKey, Index, String, column, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, validates


class Base(DeclarativeBase):
    """The tables of the library."""

    type_annotation_map = {str: String(50)}  # noqa: RUF012 - so says SQLAlchemy


class Author(Base):
    __tablename__ = "lib_author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base):
    """Its pages are its own; its author and its shelves are not."""

    __tablename__ = "lib_book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="new")
    price: Mapped[int] = mapped_column(default=3)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("lib_author.id"))
    author: Mapped[Author | None] = relationship(back_populates="books")
    pages: Mapped[list[Leaf]] = relationship(cascade="all, delete-orphan", order_by="Leaf.id")
    loans: Mapped[list[Loan]] = relationship()


class Leaf(Base):
    __tablename__ = "lib_page"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    size: Mapped[int] = mapped_column(default=1)
    book_id: Mapped[int] = mapped_column(ForeignKey("lib_book.id"))


class Loan(Base):
    """Without a book it cannot be, and the relationship does not say that it ends then."""

    __tablename__ = "lib_loan"
    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("lib_book.id"))


def greeting(context: Any) -> str:
    """Make a value of another one of the same row."""
    return f"hello {context.get_current_parameters()['email']}"


def farewell(context: Any) -> str:
    """Do the same in an update; a context knows what it is of."""
    assert (context.isupdate, context.isinsert) == (True, False)
    return f"bye {context.get_current_parameters()['name']} {context.current_parameters['email']}"


class Member(Base):
    """Everything that a column can do by itself."""

    __tablename__ = "lib_member"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column("mail", String(50), key="email", unique=True)
    name: Mapped[str | None]
    greeting: Mapped[str] = mapped_column(default=greeting)
    farewell: Mapped[str | None] = mapped_column(onupdate=farewell)
    plain: Mapped[str | None] = mapped_column(onupdate=lambda: "called")
    sql: Mapped[str | None] = mapped_column(onupdate=func.upper("sql"))
    server: Mapped[str | None] = mapped_column(server_onupdate=FetchedValue())
    level: Mapped[int] = mapped_column(default=1)

    @validates("email")
    def no_capitals(self, key: str, value: str) -> str:
        """Write it small."""
        if "@" not in value:
            raise ValueError(f"{key} has no @")
        return value.lower()


class Desk(Base):
    """One active desk for each place; of old ones there may be many."""

    __tablename__ = "lib_desk"
    id: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[str]
    state: Mapped[str] = mapped_column(default="active")
    guest: Mapped[str | None]
    __table_args__ = (
        Index(
            "lib_desk_active",
            "place",
            unique=True,
            postgresql_where=column("state") == "active",
            sqlite_where=column("state") == "active",
        ),
    )
