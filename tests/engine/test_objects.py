"""What becomes of objects when their transaction ends. Cases H of the rule book."""

import asyncio
from typing import ClassVar

import pytest
from sqlalchemy import ForeignKey, String, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.orm.exc import DetachedInstanceError

from dbscope import AsyncDatabase, AttributeNotLoaded, Database
from tests.worlds import Both, World, insert
from tests.worlds import Item as PlainItem

pytestmark = pytest.mark.worlds(places=["scope"])


class Base(DeclarativeBase):
    """Tables of our own."""


class Shelf(Base):
    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list["Book"]] = relationship()


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(20))
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))
    version: Mapped[int] = mapped_column()
    __mapper_args__: ClassVar = {"version_id_col": version}


@pytest.fixture
def shelves(tmp_path) -> AsyncDatabase:
    """An async database with a book on a shelf."""
    url = f"sqlite:///{tmp_path}/shelves.db"
    plain = Database(url)
    plain.ensure_schema(Base.metadata)
    with plain.scope():
        plain.session.add(Shelf(books=[Book(title="a")]))
    plain.dispose()
    return AsyncDatabase(url)


def in_scope(db: AsyncDatabase, body) -> None:
    """Run an async body in a scope."""

    async def main() -> None:
        async with db.scope():
            await body()
        await db.dispose()

    asyncio.run(main())


def test_reading_what_a_rollback_made_forget_is_our_error(shelves: AsyncDatabase) -> None:
    """Not `MissingGreenlet`; and what it says to do helps."""

    async def body() -> None:
        book = await shelves.get_by_pk(Book, 1)
        await shelves.session.rollback()
        with pytest.raises(
            AttributeNotLoaded, match=r"scope opened at .*, Book\.title at .*"
        ) as told:
            assert book.title
        assert f"at {__file__}:" in str(told.value).partition("Book.title")[2]
        await shelves.session.refresh(book)
        assert book.title == "a"

    in_scope(shelves, body)


def test_a_relationship_that_no_query_asked_for_is_our_error_too(shelves: AsyncDatabase) -> None:
    """It happens where a response is made of an object."""

    async def body() -> None:
        shelf = await shelves.get_by_pk(Shelf, 1)
        with pytest.raises(AttributeNotLoaded, match=r"(?s)Shelf\.books at .*selectinload"):
            assert shelf.books
        assert [book.title for book in await shelf_books(shelf)] == ["a"]
        assert shelves.in_transaction()

    async def shelf_books(shelf: Shelf) -> list[Book]:
        await shelves.session.refresh(shelf, ["books"])
        return shelf.books

    in_scope(shelves, body)


def test_after_the_scope_an_object_has_what_was_loaded(shelves: AsyncDatabase) -> None:
    """The rest is SQLAlchemy's error about a detached object, which says the same."""
    kept: list[Shelf | Book] = []

    async def body() -> None:
        kept.append(await shelves.get_by_pk(Book, 1))
        kept.append(await shelves.get_by_pk(Shelf, 1))

    in_scope(shelves, body)
    book, shelf = kept
    assert book.title == "a"
    with pytest.raises(DetachedInstanceError):
        assert shelf.books


def test_plain_code_may_read_what_is_not_loaded(world: World) -> None:
    """And so may what SQLAlchemy carries for async code (`run_sync`)."""

    def body(db: Both) -> None:
        item = insert(db, "a")
        db.session.commit()
        db.session.rollback()
        db.session.expire(item)
        assert item.name == "a"

    world.run(body)


def test_a_new_object_is_not_in_the_session_after_a_rollback(world: World) -> None:
    """H2: it keeps the key that it had, so doing the work again needs new objects."""

    def body(db: Both) -> None:
        db.set_rollback(False)
        with db.atomic():
            item = insert(db, "a")
            key = item.id
            db.set_rollback()
        assert inspect(item).session is None
        assert item.id == key
        assert db.scalars(select(PlainItem)).all() == []

    world.run(body)


def test_a_version_is_as_before_after_a_rollback(world: World) -> None:
    """H3: of the transaction, and of a savepoint; the next change finds the row that is there."""

    def body(db: Both) -> None:
        db.ensure_schema(Base.metadata)
        with db.scope():
            db.session.add(Book(title="a"))
        with db.scope():
            book = db.get_by_pk(Book, 1)
            book.title = "b"
            db.session.flush()
            with db.atomic():
                book.title = "c"
                db.session.flush()
                assert book.version == 3
                db.set_rollback()
            assert (book.title, book.version) == ("b", 2)
            book.title = "d"
        with db.scope():
            assert db.get_by_pk(Book, 1).version == 3

    world.play(body)
    world.look.execute("DROP TABLE book")
    world.look.execute("DROP TABLE shelf")
