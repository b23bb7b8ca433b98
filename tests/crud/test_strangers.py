"""Another table comes into a statement by a join or in a subquery, and not otherwise."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import exists, func, select
from sqlalchemy.orm import aliased, joinedload, with_loader_criteria

from tests.crud.library import Author, Book, Leaf
from tests.crud.shop import BothCRUD
from tests.worlds import Both, World

in_scope = pytest.mark.worlds(places=["scope"])
OTHER = aliased(Book, name="other")
SOME = select(Author).subquery("some")

REFUSED: dict[str, Callable[[Any], Any]] = {
    "order by": lambda crud: crud.list(order_by=Author.name),
    "order by desc": lambda crud: crud.list(order_by=[Book.title, Author.name.desc()]),
    "order by an expression": lambda crud: crud.list(order_by=Book.title + Author.name),
    "order by an alias": lambda crud: crud.list(order_by=OTHER.title),
    "order by a subquery's column": lambda crud: crud.list(order_by=SOME.c.name),
    "order by a function": lambda crud: crud.list(order_by=func.lower(Author.name)),
    "filter": lambda crud: crud.list(Author.name == "Ada"),
    "filter by an alias": lambda crud: crud.list(OTHER.title == "a"),
    "filter by two others": lambda crud: crud.list(Author.id == Leaf.id),
    "total": lambda crud: crud.list(Author.id > 0, total=True),
    "criteria": lambda crud: crud.list(options=[with_loader_criteria(Book, Author.id > 0)]),
    "count": lambda crud: crud.count(Author.name == "Ada"),
    "exists": lambda crud: crud.exists(Author.name == "Ada"),
    "a new value": lambda crud: crud.create({"title": Author.name}),
    "an upserted value": lambda crud: crud.upsert({"id": 1, "title": Author.name}, on=["id"]),
}


@pytest.mark.parametrize("name", REFUSED)
@in_scope
def test_a_table_that_nothing_joins_is_refused(library: World, name: str) -> None:
    """It would be paired with every row; the sentence names it, and nothing is sent."""

    def body(db: Both) -> None:
        with pytest.raises(TypeError, match=r"(some|lib_|other).* (without a join|joined)"):
            REFUSED[name](BothCRUD(db, Book))

    library.run(body)
    assert not [sent for sent in library.sent() if sent in ("SELECT", "INSERT")]


@in_scope
def test_a_change_to_another_tables_column_is_refused(library: World) -> None:
    """PostgreSQL would take any of its rows."""

    def body(db: Both) -> None:
        books = BothCRUD(db, Book)
        book = books.create({"title": "a"})
        with pytest.raises(TypeError, match=r"Book.title cannot be set to a column of lib_author"):
            books.update(book, {"title": Author.name})
        books.update(book, {"price": Book.price + 1})
        assert book.price == 4

    library.run(body)


@in_scope
def test_a_subquery_and_a_join_are_as_before(library: World) -> None:
    """Correlated ones, relationships, conditions that compare the two tables, and loaders."""

    def body(db: Both) -> None:
        books, authors = BothCRUD(db, Book), BothCRUD(db, Author)
        for name in ("Bob", "Ada"):
            author = authors.create({"name": name})
            books.create({"title": f"by {name}", "author_id": author.id})
        name = select(Author.name).where(Author.id == Book.author_id).scalar_subquery()
        ordered = books.list(order_by=name, limit=1)
        assert [book.title for book in ordered.items] == ["by Ada"]
        after = books.list(order_by=name, limit=1, after=ordered.next)
        assert [book.title for book in after.items] == ["by Bob"]
        for condition in (
            Book.author.has(name="Ada"),
            Book.author_id.in_(select(Author.id).where(Author.name == "Ada")),
            exists().where(Author.id == Book.author_id, Author.name == "Ada"),
            (Author.id == Book.author_id) & (Author.name == "Ada"),
        ):
            page = books.list(condition, total=True, options=[joinedload(Book.pages)])
            assert ([book.title for book in page.items], page.total) == (["by Ada"], 1)
            assert books.exists(condition)

    library.run(body)
