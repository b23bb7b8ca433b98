"""N+1 is found by what the ORM says, with a remedy that runs where it is pasted."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select, text
from sqlalchemy.orm import (
    aliased,
    defaultload,
    defer,
    joinedload,
    load_only,
    selectinload,
    undefer,
)
from sqlalchemy.util import await_only

from dbscope import ConfigurationError
from dbscope.errors import ProblemFound
from dbscope.watch.problems import IDLE, Problem
from tests.asgi import call
from tests.watch.library import AUTHORS, Author, Book, Copy, fill
from tests.watch.lines import at
from tests.worlds import DRIVERS, SYNC, Both, World, is_postgresql, is_sqlite, waiting

HERE = [name for name in DRIVERS if is_sqlite(name) or is_postgresql(name)]
pytestmark = pytest.mark.worlds(drivers=HERE.__contains__, places=["scope"])
NAMES = {
    "select": select,
    "selectinload": selectinload,
    "joinedload": joinedload,
    "undefer": undefer,
    "defaultload": defaultload,
    "defer": defer,
    "load_only": load_only,
    "Author": Author,
    "Book": Book,
    "Copy": Copy,
}
Story = Callable[[Both, Any], Any]


@pytest.fixture
def watch(world: World) -> Iterator[Any]:
    """Return the watch of the world, which is on."""
    world.database.watch.start()
    yield world.database.watch
    world.database.watch.stop()


def found(world: World, story: Callable[[Both], Any]) -> tuple[list[Problem], int]:
    """Run the story in a scope on a full library; return its problems, and what was sent."""

    def play(db: Both) -> None:
        fill(db)
        with db.scope():
            story(db)

    world.play(play)
    return problems_of(world.database.watch), len(world.database.watch.recent(1)[0].statements)


def problems_of(watch: Any) -> list[Problem]:
    """Return those of the last record that no busy machine makes by itself."""
    return [each for each in watch.recent(1)[0].problems if each.kind != IDLE]


def pasted(remedy: str, query: str = "") -> Any:
    """Return the query with the remedy, as it is told."""
    code = remedy.split("`")[1].replace("...", str(list(range(1, AUTHORS + 1))))
    return eval(f"{query}{code}", NAMES)


def authors(db: Both, query: Any) -> list[Any]:
    """Return what a query gives."""
    return list(db.session.scalars(query).unique().all())


def books_of(author: Any) -> list[Any]:
    return list(author.books)


LOADS: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "a collection": ("select(Author)", "Author.books", lambda each: list(each.books)),
    "a scalar": ("select(Book)", "Book.author", lambda each: each.author),
    "nested": (
        "select(Author)",
        "Book.copies",
        lambda each: [list(book.copies) for book in each.books],
    ),
    "a deferred column": ("select(Author)", "Author.life", lambda each: each.life),
}


@pytest.mark.parametrize("name", LOADS)
def test_what_is_loaded_for_each_row(world: World, watch: Any, name: str) -> None:
    """The remedy belongs to the query that has loaded the parents; there it runs."""
    query, what, load = LOADS[name]

    def story(db: Both) -> None:
        for each in authors(db, eval(query, NAMES)):  # query
            load(each)

    problems, _ = found(world, story)
    problem = next(each for each in problems if each.what == what)
    assert problem.kind == "N+1"
    remedy = problem.remedy

    def cured(db: Both) -> None:
        for each in authors(db, pasted(remedy, query)):
            load(each)

    problems, sent = found(world, cured)
    assert problems == []
    assert sent <= 3


alias = aliased(Author)
WRITTEN: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "an alias": ("select(alias)", "Author.books", lambda each: list(each.books)),
    "a column of an alias": ("select(alias)", "Author.life", lambda each: each.life),
    "behind a joinedload": (
        "select(Author).options(joinedload(Author.books))",
        "Book.copies",
        lambda each: [list(book.copies) for book in each.books],
    ),
    "behind a joinedload of an alias": (
        "select(alias).options(joinedload(alias.books))",
        "Book.copies",
        lambda each: [list(book.copies) for book in each.books],
    ),
    "a column that the query leaves out": (
        "select(Author).options(load_only(Author.id))",
        "Author.name",
        lambda each: each.name,
    ),
}


NAMES |= {"alias": alias}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_already_is_kept(world: World, watch: Any, name: str) -> None:
    """A remedy is added to the query as it is: to its alias, and to its options."""
    query, what, load = WRITTEN[name]

    def story(db: Both) -> None:
        for each in authors(db, eval(query, NAMES)):
            load(each)

    problems, _ = found(world, story)
    problem = next(each for each in problems if each.what == what)
    assert problem.kind == "N+1"
    remedy = problem.remedy

    def cured(db: Both) -> None:
        for each in authors(db, pasted(remedy, query)):
            load(each)

    problems, sent = found(world, cured)
    assert problems == []
    assert sent <= 2


def test_a_column_that_the_query_defers(world: World, watch: Any) -> None:
    """SQLAlchemy refuses a second option for it: the first one is to go."""
    query = "select(Author).options(defer(Author.name))"

    def names(db: Both, query: str) -> None:
        for each in authors(db, eval(query, NAMES)):
            _ = each.name

    (problem,), _ = found(world, lambda db: names(db, query))
    assert problem.remedy == "take `defer(Author.name)` out of its options"
    cured = query.replace(problem.remedy.split("`")[1], "")
    assert found(world, lambda db: names(db, cured)) == ([], 1)


def check_lines(watch: Any, parents: str, loop: str) -> None:
    """Look at where the only problem is."""
    (problem,) = problems_of(watch)
    assert (problem.line, problem.at, problem.times) == (parents, loop, AUTHORS)
    told = (
        f"N+1: Author.books, {AUTHORS} times at {loop}; add `.options(selectinload(Author.books))`"
    )
    assert str(problem) == f"{told} at {parents}"


@pytest.mark.worlds(drivers=lambda name: name in HERE and name in SYNC, places=["scope"])
def test_the_line_of_the_parents_query_is_told(world: World, watch: Any) -> None:
    """There the option is written, however far away the loop is."""

    def story(db: Both) -> None:
        rows = db.session.scalars(select(Author)).all()  # parents
        for row in rows:
            _ = row.books  # loop

    found(world, story)
    check_lines(watch, at("parents"), at("loop"))


@pytest.mark.worlds(drivers=lambda name: name in HERE and name not in SYNC, places=["scope"])
def test_the_line_of_the_parents_query_is_told_in_async_code(world: World, watch: Any) -> None:
    """SQLAlchemy sends it in a greenlet, whose stack has no line of the application."""
    db: Any = world.database

    async def story() -> None:
        async with db.scope():
            rows = (await db.session.scalars(select(Author))).all()  # awaited parents
            for row in rows:
                await row.awaitable_attrs.books  # awaited loop

    def play(db: Both) -> None:
        fill(db)
        await_only(story())

    world.play(play)
    check_lines(watch, at("awaited parents"), at("awaited loop"))


def test_rows_that_are_got_one_by_one(world: World, watch: Any) -> None:
    """`get` in a loop."""

    def story(db: Both) -> None:
        for number in range(1, AUTHORS + 1):
            db.session.get(Author, number)  # got

    (problem,), _ = found(world, story)
    assert (problem.kind, problem.what) == ("N+1", "Author")
    remedy = problem.remedy
    problems, sent = found(world, lambda db: authors(db, pasted(remedy)))
    assert (problems, sent) == ([], 1)


def test_rows_that_are_refreshed_one_by_one(world: World, watch: Any) -> None:
    """All of them can be read again by one statement."""

    def story(db: Both) -> None:
        for row in authors(db, select(Author)):
            db.session.refresh(row)

    (problem,), _ = found(world, story)
    assert (problem.kind, problem.what) == ("N+1", "Author")
    remedy = problem.remedy
    problems, sent = found(world, lambda db: authors(db, pasted(remedy)))
    assert (problems, sent) == ([], 1)


def test_what_awaitable_attrs_load(world: World, watch: Any) -> None:
    """The way of async code is no other one."""
    if not world.is_async:
        pytest.skip("it is for async sessions")

    def story(db: Both) -> None:
        for row in authors(db, select(Author)):
            await_only(row.awaitable_attrs.books)

    (problem,), _ = found(world, story)
    assert problem.remedy == "add `.options(selectinload(Author.books))`"


def test_what_a_job_loads(world: World, watch: Any) -> None:
    """A decorated function is a scope like others."""

    def play(db: Both) -> None:
        fill(db)

        def job() -> None:
            for row in authors(db, select(Author)):
                _ = row.books

        db.decorated(db.real.scope, job)()

    world.play(play)
    (problem,) = problems_of(watch)
    assert problem.what == "Author.books"


class Shown(BaseModel):
    """What a client is shown of an author."""

    model_config = ConfigDict(from_attributes=True)
    name: str
    books: list[Any]


def test_what_a_serializer_loads(world: World, watch: Any) -> None:
    """There is no line of the application in the loop, and the query's is told all the same."""

    def play(db: Both) -> None:
        fill(db)

        with db.scope():
            rows = db.session.scalars(select(Author)).all()
            [Shown.model_validate(row) for row in rows]

    world.play(play)
    (problem,) = problems_of(watch)
    assert problem.what == "Author.books"
    assert problem.line is not None


ALONE: dict[str, Callable[[Both], Any]] = {
    "deliberate batches": lambda db: [
        authors(db, select(Author).where(Author.id.in_([number, number + 1])))
        for number in range(1, AUTHORS + 1)
    ],
    "statements that only look alike": lambda db: [
        db.execute(text("SELECT :i + 0"), {"i": number}).all() for number in range(10)
    ],
    "one parent": lambda db: books_of(db.session.get(Author, 1)),
    "loaded at once": lambda db: [
        books_of(each) for each in authors(db, select(Author).options(selectinload(Author.books)))
    ],
}


@pytest.mark.parametrize("name", ALONE)
def test_what_is_left_alone(world: World, watch: Any, name: str) -> None:
    """A false alarm teaches people not to look."""
    problems, _ = found(world, ALONE[name])
    assert problems == []


def test_reads_of_the_same_thing_are_no_loop_over_rows(world: World, watch: Any) -> None:
    """They have another remedy."""

    def story(db: Both) -> None:
        for _ in range(4):
            authors(db, select(Author).where(Author.id == 1))

    (problem,), _ = found(world, story)
    assert (problem.kind, problem.times) == ("duplicate read", 4)
    assert problem.remedy == "keep the result in a variable"


def loop(db: Both) -> None:
    """Be an N+1."""
    for row in authors(db, select(Author)):
        _ = row.books


def test_strict_raises_where_it_is_found(world: World, watch: Any) -> None:
    """A test fails at the very line."""
    with pytest.raises(ProblemFound, match=r"N\+1: Author.books"), watch.strict():
        found(world, loop)
    assert found(world, loop)[0] != []  # and no longer than that


def test_strict_lets_pass_what_is_allowed_with_a_reason(world: World, watch: Any) -> None:
    """By the attribute, or by the line."""
    with watch.strict(allow={"Author.books": "three authors at most"}):
        found(world, loop)
    with watch.strict(allow={"tests/watch/test_problems.py:*": "as it was", "tests/worlds*": "x"}):
        found(world, loop)
    with pytest.raises(ConfigurationError, match="reason"):
        watch.strict(allow={"Author.books": ""})


def test_what_a_request_swallows_is_raised_at_the_end(world: World, watch: Any) -> None:
    """The application may turn it into an answer."""
    app = FastAPI()

    def play(db: Both) -> None:
        fill(db)
        app.add_api_route("/", db.awaitable(lambda: loop(db)), methods=["GET"])
        world.database.install(app)
        with suppress(ProblemFound):
            waiting(call)(app, "GET", "/")

    if not world.is_async:
        pytest.skip("a request needs an event loop")
    with pytest.raises(ProblemFound), watch.strict():
        world.play(play)
