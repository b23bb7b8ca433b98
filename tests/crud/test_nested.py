"""Rows with those of their relationships, and many rows at once, on every database."""

from typing import Any

import pytest
from pydantic import BaseModel

from dbscope import ConfigurationError
from dbscope.crud import NullRefused
from tests.crud.library import Author, Book, Leaf, Loan, Member
from tests.crud.shop import BothCRUD
from tests.worlds import Both, World

in_scope = pytest.mark.worlds(places=["scope"])


class PageIn(BaseModel):
    id: int | None = None
    text: str | None = None
    size: int = 5


class AuthorIn(BaseModel):
    id: int | None = None
    name: str | None = None


class BookIn(BaseModel):
    title: str | None = None
    state: str | None = None
    pages: list[PageIn] = []
    author: AuthorIn | None = None


def stored(library: World) -> list[tuple[Any, ...]]:
    """Return the pages that another client sees."""
    return list(library.look.rows("SELECT id, text, size, book_id FROM lib_page ORDER BY id"))


@in_scope
def test_a_row_is_created_with_its_children_and_its_parent(library: World) -> None:
    """From models in a model; a parent with the key of a row that is there is that row."""

    def body(db: Both) -> None:
        books = BothCRUD(db, Book)
        pages = [PageIn(text="one"), PageIn(text="two", size=2)]
        book = books.create(BookIn(title="a", pages=pages, author=AuthorIn(name="Ada")))
        assert (book.author.name, [page.id for page in book.pages]) == ("Ada", [1, 2])
        other = books.create(BookIn(title="b", author=AuthorIn(id=book.author_id)))
        assert (other.author, other.author.name) == (book.author, "Ada")
        assert books.create({"title": "c", "author_id": 1, "author": None}).author_id == 1

    library.run(body)
    assert stored(library) == [(1, "one", 5, 1), (2, "two", 2, 1)]


@in_scope
def test_children_are_changed_added_and_removed(library: World) -> None:
    """By their keys: of one that is held only set fields change; the cascade ends others."""

    def body(db: Both) -> None:
        books = BothCRUD(db, Book)
        book = books.create({"title": "a", "pages": [{"text": "one"}, {"text": "two", "size": 2}]})
        db.session.expire(book)
        books.update(book, BookIn(pages=[PageIn(id=2, text="zwei"), PageIn(text="new")]))
        assert [page.text for page in book.pages] == ["zwei", "new"]
        assert book.title == "a"

    library.run(body)
    assert stored(library) == [(2, "zwei", 2, 1), (3, "new", 5, 1)]


@in_scope
def test_a_parent_is_changed_replaced_and_left(library: World) -> None:
    """None leaves it, where the key may be NULL; without a key there is a new one."""

    def body(db: Both) -> None:
        books, authors = BothCRUD(db, Book), BothCRUD(db, Author)
        book = books.create({"title": "a", "author": {"name": "Ada"}})
        books.update(book, {"author": {"id": 1, "name": "Ada L"}})
        books.update(book, {"author": {"name": "Bob"}})
        assert (book.author_id, authors.get(1).name) == (2, "Ada L")
        books.update(book, {"author": None})
        assert (book.author_id, authors.count()) == (None, 2)

    library.run(body)


@in_scope
def test_a_child_that_cannot_be_without_is_not_left_out(library: World) -> None:
    """Where the cascade does not end it, the model is at fault; nothing is sent."""

    def body(db: Both) -> None:
        books = BothCRUD(db, Book)
        book = books.create({"title": "a", "loans": [{}]})
        with pytest.raises(ConfigurationError, match=r"lib_loan.book_id is NOT NULL"):
            books.update(book, {"loans": []})
        assert BothCRUD(db, Loan).count() == 1

    library.run(body)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"pages": [{"text": "a", "colour": 1}]}, "Leaf has no colour; it has"),
        ({"pages": [{"text": "a"}, 3]}, r"pages\[1\] is of Leaf: an object of it or its fields"),
        ({"pages": [Author(name="a")]}, r"pages\[0\] is of Leaf"),
        ({"pages": {"text": "a"}}, "pages must be a list of rows or of their fields"),
        ({"author": 3}, "author is of Author"),
    ],
)
@in_scope
def test_what_is_no_row_of_the_relationship_is_refused(
    library: World, data: Any, words: str
) -> None:
    """By a sentence that names the place, in a new row and in a change; nothing is sent."""

    def body(db: Both) -> None:
        books = BothCRUD(db, Book)
        book = books.create({"title": "a"})
        for refused in (
            lambda: books.create({"title": "a", **data}),
            lambda: books.update(book, data),
            lambda: books.create_many([{"title": "a", **data}]),
        ):
            with pytest.raises(TypeError, match=words):
                refused()
        assert books.count() == 1

    library.run(body)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"title": None}, "title"),
        ({"pages": [{"text": "a"}, {"text": None}]}, r"pages\[1\].text"),
        ({"pages": None}, "pages"),
        ({"author": {"name": None}}, "author.name"),
    ],
)
@in_scope
def test_null_is_refused_by_the_name_of_the_field(library: World, data: Any, field: str) -> None:
    """At every door, before anything is sent; with Starlette it is a 422."""

    def body(db: Both) -> None:
        books = BothCRUD(db, Book)
        book = books.create({"title": "a"})
        for refused in (
            lambda: books.create({"title": "a", **data}),
            lambda: books.create_many([{"title": "a"}, {"title": "a", **data}]),
            lambda: books.update(book, data),
        ):
            with pytest.raises(NullRefused, match=f"{field} must not be null") as info:
                refused()
            assert getattr(info.value, "status_code", 422) == 422
        assert (book.title, books.count()) == ("a", 1)

    library.run(body)


@in_scope
def test_null_is_refused_where_a_validator_does_not_know_it(library: World) -> None:
    """Most of them call a method of a text; what else one raises is the application's."""

    def body(db: Both) -> None:
        members = BothCRUD(db, Member)
        member = members.create({"email": "a@b"})
        for refused in (
            lambda: members.create({"email": None}),
            lambda: members.create_many([{"email": "c@d"}, {"email": None}]),
            lambda: members.update(member, {"email": None}),
            lambda: members.upsert({"email": None}, on=["email"]),
        ):
            with pytest.raises(NullRefused, match="email must not be null"):
                refused()
        with pytest.raises(TypeError, match="not iterable"):
            members.update(member, {"email": 5})
        assert (member.email, members.count()) == ("a@b", 1)

    library.run(body)


@in_scope
def test_null_in_a_new_row_is_the_columns_default(library: World) -> None:
    """And in a change it is refused, whatever makes the column in a new row."""

    def body(db: Both) -> None:
        books, members = BothCRUD(db, Book), BothCRUD(db, Member)
        book = books.create({"id": None, "title": "a", "state": None, "price": None})
        assert (book.id, book.state, book.price) == (1, "new", 3)
        for name in ("id", "state", "price"):
            with pytest.raises(NullRefused, match=f"{name} must not be null"):
                books.update(book, {name: None})
        members.upsert({"email": "a@b"}, on=["email"])
        with pytest.raises(NullRefused, match="level must not be null"):
            members.upsert_many([{"email": "a@b"}, {"email": "c@d", "level": None}], on=["email"])

    library.run(body)


@in_scope
def test_many_rows_are_one_statement_for_each_batch(library: World) -> None:
    """They come back in order, and the limits on parameters are kept."""

    def body(db: Both) -> None:
        members = BothCRUD(db, Member)
        library.statements.clear()
        rows = members.create_many([{"email": f"{n}@x"} for n in range(1500)])
        assert [row.email for row in rows] == [f"{n}@x" for n in range(1500)]
        # SQLite has nothing to tell the new ids of a statement's rows apart by, says SQLAlchemy.
        assert library.sent().count("INSERT") == (1500 if library.is_sqlite else 2)
        assert [row.id for row in rows] == sorted(row.id for row in rows)
        library.statements.clear()
        data = [{"email": f"{n}@x", "level": n} for n in range(1499, -1, -1)]
        same = members.upsert_many(data, on=["email"], plain="p", farewell="f")
        assert same == rows[::-1]
        assert [row.level for row in same[:2]] == [1499, 1498]
        assert library.sent().count("INSERT") <= 5
        assert members.count() == 1500

    library.run(body)


@in_scope
def test_a_row_that_comes_twice_is_stored_twice(library: World) -> None:
    """The later one changes what the earlier one has stored; nothing is no row."""

    def body(db: Both) -> None:
        members = BothCRUD(db, Member)
        data = [{"email": "a@b", "level": 1}, {"email": "c@d"}, {"email": "A@b", "level": 2}]
        first, other, last = members.upsert_many(data, on=["email"], farewell=None)
        assert first is last
        assert (first.level, other.level, members.count()) == (2, 1, 2)
        assert members.upsert_many([], on=["email"]) == members.create_many([]) == []

    library.run(body)


@in_scope
def test_many_rows_have_their_children(library: World) -> None:
    """As a single one has."""

    def body(db: Both) -> None:
        data = [BookIn(title=str(n), pages=[PageIn(text=str(n))]) for n in range(3)]
        books = BothCRUD(db, Book).create_many(data)
        assert [book.pages[0].text for book in books] == ["0", "1", "2"]
        assert BothCRUD(db, Leaf).count() == 3

    library.run(body)
