"""`heal()` sends fewer statements, and gives nothing else than without it."""

from collections.abc import Callable
from inspect import isawaitable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict
from sqlalchemy import (
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    String,
    Table,
    TypeDecorator,
    and_,
    event,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    attributes,
    foreign,
    mapped_column,
    relationship,
    remote,
    selectinload,
    with_loader_criteria,
)
from sqlalchemy.util import await_only

from dbscope import AsyncDatabase, Database
from tests.watch.library import AUTHORS, Author, Base, Book, fill
from tests.worlds import Both, World, is_postgresql, is_sqlite

pytestmark = pytest.mark.worlds(places=["scope"])
Story = Callable[[Both], Any]


def authors(db: Both) -> list[Any]:
    return list(db.session.scalars(select(Author).order_by(Author.id)).all())


def books(db: Both) -> list[Any]:
    return list(db.session.scalars(select(Book).order_by(Book.id)).all())


class Shown(BaseModel):
    """What a client is shown of an author."""

    model_config = ConfigDict(from_attributes=True)
    name: str
    books: list[Any]


def shown(db: Both) -> Any:
    """Be a serializer."""
    return [
        (row.name, [each.id for each in row.books])
        for row in map(Shown.model_validate, authors(db))
    ]


def expired(db: Both) -> Any:
    rows = authors(db)
    db.session.expire_all()
    return [row.name for row in rows]


def awaited(db: Both) -> Any:
    """Be async code."""
    if not isinstance(db.real, AsyncDatabase):
        pytest.skip("it is for async sessions")
    return [[each.id for each in await_only(row.awaitable_attrs.books)] for row in authors(db)]


LOADS: dict[str, tuple[int, Story]] = {
    "a collection": (2, lambda db: [[each.id for each in row.books] for row in authors(db)]),
    "a scalar": (2, lambda db: [row.author.name for row in books(db)]),
    "nested": (
        3,  # one for each level
        lambda db: [[each.id for book in row.books for each in book.copies] for row in authors(db)],
    ),
    "a deferred column": (2, lambda db: [row.life for row in authors(db)]),
    "expired objects": (2, expired),
    "a serializer": (2, shown),
    "awaitable_attrs": (2, awaited),
    "get, which has no peers": (
        AUTHORS,
        lambda db: [db.session.get(Author, number).name for number in range(1, AUTHORS + 1)],
    ),
    "refresh, which reads now": (
        AUTHORS + 1,
        lambda db: [db.session.refresh(row) for row in authors(db)],
    ),
}


def contents(session: Any) -> Any:
    """Return all that a session has of objects."""
    return sorted(
        (
            repr(state.key),
            sorted(
                (name, str(plain(value))) for name, value in state.dict.items() if name[0] != "_"
            ),
            sorted(state.unloaded),
            state.modified,
        )
        for state in session.identity_map.all_states()
    )


def plain(value: Any) -> Any:
    """Return what is equal for equal objects of two sessions."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    return attributes.instance_state(value).key if hasattr(value, "_sa_instance_state") else value


def both_ways(world: World, story: Story, filled: Story = fill) -> tuple[list[Any], list[int]]:
    """Tell a story without and with healing; return what came of it, and how many statements."""
    told: list[Any] = []
    sent: list[int] = []

    def play(db: Both) -> None:
        filled(db)
        watch.start()
        for on in (False, True):
            watch.heal(on=on)
            with db.scope():
                found = story(db)
                told.append((found, contents(db.session)))
                db.set_rollback(True)
            sent.append(len(watch.recent(1)[0].statements))

    watch = world.database.watch
    try:
        world.play(play)
    finally:
        watch.stop()
        watch.heal(on=False)
    return told, sent


@pytest.mark.parametrize("name", LOADS)
def test_what_is_loaded_for_each_row_is_loaded_for_all(world: World, name: str) -> None:
    """With no option written, and nothing in the session is other than without."""
    expected, story = LOADS[name]
    told, (alone, healed) = both_ways(world, story)
    assert told[0] == told[1]
    assert healed == expected
    assert alone >= AUTHORS


def test_a_job_is_healed_too(world: World) -> None:
    """It is a scope like others."""

    def job(db: Both) -> Any:
        found: list[Any] = []
        work = db.decorated(db.real.scope, lambda: found.extend(LOADS["a collection"][1](db)))
        work()
        return found

    told: list[Any] = []

    def play(db: Both) -> None:
        fill(db)
        world.database.watch.start()
        world.database.watch.heal()
        told.append(job(db))

    world.play(play)
    assert told == [[[2 * number + 1, 2 * number + 2] for number in range(AUTHORS)]]
    assert len(world.database.watch.recent(1)[0].statements) == 2
    world.database.watch.stop()


def flushed_between(db: Both) -> Any:
    """Add a book to a later author while the first one's are read."""
    rows, found = authors(db), []
    for row in rows:
        found.append([each.id for each in row.books])
        if row is rows[0]:
            db.session.add(Book(id=100, author_id=rows[2].id))
    return found


def written_between(db: Both) -> Any:
    """Write by a statement that the ORM knows nothing of."""
    rows, found = authors(db), []
    for row in rows:
        found.append((row.life, [each.id for each in row.books]))
        if row is rows[0]:
            db.execute(text("UPDATE author SET life = 'short'"))
            db.execute(text("UPDATE book SET author_id = 3"))
    return found


def updated_between(db: Both) -> Any:
    rows, found = authors(db), []
    for row in rows:
        found.append(row.life)
        if row is rows[0]:
            db.session.execute(update(Author).values(life="short"))
    return found


def written_by_the_connection(db: Both) -> Any:
    rows, found = authors(db), []
    for row in rows:
        found.append(row.life)
        if row is rows[0]:
            done = db.session.connection().execute(text("UPDATE author SET life = 'short'"))
            _ = await_only(done) if isawaitable(done) else done
    return found


def pending_changes(db: Both) -> Any:
    """Change attributes and collections that are not loaded yet."""
    rows = authors(db)
    rows[1].name = "changed"
    book = Book(id=100, author=rows[2])
    db.session.add(book)
    return [(row.name, len(row.books), row.life) for row in rows]


def moved(db: Both) -> Any:
    """Change a foreign key between two loads."""
    rows = books(db)
    found = [rows[0].author.name]
    rows[3].author_id = 4
    return found + [row.author.name for row in rows[1:]]


def rolled_back_between(db: Both) -> Any:
    """Read ahead in a savepoint, whose rows are gone with it."""
    rows = authors(db)
    found = [len(rows[0].books)]
    with db.savepoint():
        db.session.add(Book(id=100, author_id=rows[1].id))
        found.append(len(rows[1].books))
        db.set_rollback(True)
    return found + [len(row.books) for row in rows[2:]]


def criteria(db: Both) -> Any:
    """Filter what is loaded late."""
    query = select(Author).order_by(Author.id).options(with_loader_criteria(Book, Book.id > 3))
    rows = db.session.scalars(query).all()
    return [[each.id for each in row.books] for row in rows]


def two_criteria(db: Both) -> Any:
    """Load peers by two queries whose filters differ."""
    found = []
    for least in (3, 6):
        option = with_loader_criteria(Book, Book.id > least)
        query = select(Author).order_by(Author.id).options(option)
        rows = db.session.scalars(query.execution_options(populate_existing=True)).all()
        found += [[each.id for each in row.books] for row in rows]
        db.session.expunge_all()
    return found


def deleted(db: Both) -> Any:
    rows = authors(db)
    found = [len(rows[0].books)]
    db.session.execute(text("DELETE FROM copy"))
    db.session.execute(text("DELETE FROM book"))
    return found + [len(row.books) for row in rows[1:]]


def options(db: Both) -> Any:
    query = select(Author).order_by(Author.id).options(selectinload(Author.books))
    return [[len(each.copies) for each in row.books] for row in db.session.scalars(query).all()]


CHANGES: dict[str, Story] = {
    "flushed between": flushed_between,
    "written between": written_between,
    "updated between": updated_between,
    "written by the connection": written_by_the_connection,
    "pending changes": pending_changes,
    "a foreign key that is changed": moved,
    "rolled back between": rolled_back_between,
    "loader criteria": criteria,
    "two loader criteria": two_criteria,
    "deleted between": deleted,
    "an option at the root": options,
}


@pytest.mark.parametrize("name", CHANGES)
def test_nothing_is_other_than_without_it(world: World, name: str) -> None:
    """What was read ahead is forgotten as soon as it may be another thing."""
    told, (alone, healed) = both_ways(world, CHANGES[name])
    assert told[0] == told[1]
    assert healed <= alone


# -- shapes ------------------------------------------------------------------------------------


class Shape(DeclarativeBase):
    """Tables of other shapes."""


tagged = Table(
    "tagged",
    Shape.metadata,
    Column("post_id", ForeignKey("post.id"), primary_key=True),
    Column("tag_id", ForeignKey("keyword.id"), primary_key=True),
)


class Tag(Shape):
    __tablename__ = "keyword"
    id: Mapped[int] = mapped_column(primary_key=True)


class Part(Shape):
    """Has a key of two columns."""

    __tablename__ = "part"
    post_id: Mapped[int] = mapped_column(ForeignKey("post.id"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    notes: Mapped[list["Note"]] = relationship(order_by="Note.id")


class Note(Shape):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    part_post: Mapped[int]
    part_place: Mapped[int]
    __table_args__ = (
        ForeignKeyConstraint(["part_post", "part_place"], ["part.post_id", "part.place"]),
    )


class Post(Shape):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    above_id: Mapped[int | None] = mapped_column(ForeignKey("post.id"))
    is_pinned: Mapped[bool] = mapped_column(default=False)
    tags: Mapped[list[Tag]] = relationship(secondary=tagged, order_by=Tag.id.desc())
    above: Mapped["Post | None"] = relationship(remote_side="Post.id", back_populates="below")
    below: Mapped[list["Post"]] = relationship(back_populates="above", order_by="Post.id")
    parts: Mapped[list[Part]] = relationship(order_by=Part.place)
    pinned: Mapped[list["Post"]] = relationship(
        primaryjoin=lambda: or_(
            Post.id == foreign(remote(Post.above_id)), remote(Post.is_pinned).is_(True)
        ),
        viewonly=True,
        order_by="Post.id",
    )
    replies: Mapped[list["Post"]] = relationship(
        primaryjoin=lambda: and_(
            Post.id == foreign(remote(Post.above_id)), remote(Post.kind) == "reply"
        ),
        viewonly=True,
        order_by="Post.id",
    )


def posts(db: Both) -> None:
    """Make the tables, and store posts."""
    db.ensure_schema(Shape.metadata)
    with db.scope():
        tags = [Tag(id=number) for number in range(1, 4)]
        db.session.add_all(tags)
        for number in range(1, 7):
            db.session.add(
                Post(
                    id=number,
                    kind="reply" if number % 2 else "answer",
                    above_id=(number // 2) or None,
                    is_pinned=number == 6,
                    tags=tags[: number % 3 + 1],
                    parts=[Part(place=1), Part(place=2)],
                )
            )
            db.session.flush()
        db.session.add_all([Note(part_post=2, part_place=1), Note(part_post=3, part_place=2)])


def each_post(what: Callable[[Any], Any]) -> Story:
    """Return the story of reading something of each post."""
    return lambda db: [
        what(row) for row in db.session.scalars(select(Post).order_by(Post.id)).all()
    ]


SHAPES: dict[str, tuple[bool, Story]] = {
    "many to many, in order": (True, each_post(lambda row: [each.id for each in row.tags])),
    "above itself": (False, each_post(lambda row: row.above and row.above.id)),
    "below itself": (True, each_post(lambda row: [each.id for each in row.below])),
    "a part of the key": (True, each_post(lambda row: [each.place for each in row.parts])),
    "a key of two columns": (
        False,
        lambda db: [
            [each.id for each in row.notes]
            for row in db.session.scalars(select(Part).order_by(Part.post_id, Part.place)).all()
        ],
    ),
    "one or another": (False, each_post(lambda row: [each.id for each in row.pinned])),
    "with another criterion": (False, each_post(lambda row: [each.id for each in row.replies])),
}


@pytest.mark.parametrize("name", SHAPES)
def test_other_shapes_are_healed_or_left_alone(world: World, name: str) -> None:
    """What cannot be told for many objects at once is sent for each."""
    is_healed, story = SHAPES[name]
    told, (alone, healed) = both_ways(world, story, posts)
    assert told[0] == told[1]
    assert healed == (2 if is_healed else alone)


class Loose(DeclarativeBase):
    """Tables whose keys the server compares in its own way."""


class Country(Loose):
    __tablename__ = "country"
    code: Mapped[str] = mapped_column(String(2), primary_key=True)
    cities: Mapped[list["City"]] = relationship(
        primaryjoin=lambda: Country.code == foreign(City.country), viewonly=True, order_by="City.id"
    )


class City(Loose):
    __tablename__ = "city"
    id: Mapped[int] = mapped_column(primary_key=True)
    country: Mapped[str] = mapped_column(String(2, collation="NOCASE"))


@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
@pytest.mark.parametrize("third", ["se", "SE"])
def test_what_only_the_server_finds_equal_is_left_to_it(world: World, third: str) -> None:
    """`no` and `NO`, say; the rows are asked for once more, for each."""

    def filled(db: Both) -> None:
        db.ensure_schema(Loose.metadata)
        with db.scope():
            db.session.add_all([Country(code="NO"), Country(code="SE"), Country(code="no")])
            db.session.add_all([City(country="no"), City(country="NO"), City(country=third)])

    def story(db: Both) -> Any:
        rows = db.session.scalars(select(Country).order_by(Country.code)).all()
        return [[each.id for each in row.cities] for row in rows]

    told, _ = both_ways(world, story, filled)
    assert told[0] == told[1]
    assert told[1][0] == [[1, 2], [3], [1, 2]]


@pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
@pytest.mark.parametrize("hidden", ["with", "function", "text"])
def test_a_select_that_writes_is_a_write(world: World, hidden: str) -> None:
    """What was read ahead is not what is there since."""

    def story(db: Both) -> Any:
        db.execute(text(FUNCTION))
        rows = authors(db)
        found = [rows[0].life]
        db.execute(HIDDEN[hidden])
        return found + [row.life for row in rows]

    told, _ = both_ways(world, story)
    assert told[0] == told[1]


FUNCTION = """
CREATE FUNCTION shorten() RETURNS int LANGUAGE sql AS $$
UPDATE author SET life = 'short'; SELECT 1
$$
"""
HIDDEN: dict[str, Any] = {
    "with": select(update(Author).values(life="short").returning(Author.id).cte()),
    "function": select(func.shorten()),
    "text": text("SELECT shorten()"),
}


def test_what_is_read_ahead_and_forgotten_is_little(world: World) -> None:
    """A loop that writes for each object would read all that are left for each of them."""
    more = 60
    asked: list[int] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append(len(parameters))

    def story(db: Both) -> Any:
        db.session.add_all([Author(name="more", life="long") for _ in range(more)])
        db.session.flush()
        db.session.expunge_all()
        for row in authors(db):
            row.name = row.life  # which the next one flushes
        total = sum(asked)
        db.session.flush()
        db.session.expunge_all()
        return [row.life for row in authors(db)], total // (10 * more)

    engine = getattr(world.database.engine, "sync_engine", world.database.engine)
    event.listen(engine, "before_cursor_execute", note)
    try:
        told, (alone, healed) = both_ways(world, story)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert told[0] == told[1]
    assert healed < alone - more + 10  # it grows again


class AnyCase(str):
    """A text for which case is nothing."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())


class AnyCaseType(TypeDecorator[str]):
    """Gives such texts, of a column for which case is something."""

    impl = String(2)
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        """Make one."""
        return None if value is None else AnyCase(value)


class Team(Loose):
    __tablename__ = "team"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(AnyCaseType)
    players: Mapped[list["Player"]] = relationship(
        primaryjoin=lambda: Team.code == foreign(Player.team), viewonly=True
    )


class Player(Loose):
    __tablename__ = "player"
    id: Mapped[int] = mapped_column(primary_key=True)
    team: Mapped[str] = mapped_column(AnyCaseType)


@pytest.mark.worlds(drivers=is_sqlite, places=["scope"])
def test_what_only_python_finds_equal_is_left_to_the_server(world: World) -> None:
    """Two objects of ours would be given the rows of one of them."""

    def filled(db: Both) -> None:
        db.ensure_schema(Loose.metadata)
        with db.scope():
            for code in ("x", "no", "NO"):
                db.session.add_all([Team(code=code), Player(team=code)])
                db.session.flush()

    def story(db: Both) -> Any:
        rows = db.session.scalars(select(Team).order_by(Team.id)).all()
        return [[each.id for each in row.players] for row in (rows[0], rows[2], rows[1])]

    told, _ = both_ways(world, story, filled)
    assert told[0] == told[1]


def test_events_of_loading_come_when_an_object_is_loaded(world: World) -> None:
    """Nothing is made of rows before somebody asks for them."""
    loaded: list[Any] = []

    def note(book: Book, _: Any) -> None:
        loaded.append(book.id)

    def story(db: Both) -> Any:
        rows = authors(db)
        loaded.clear()
        _ = rows[0].books
        return list(loaded)

    event.listen(Book, "load", note)
    try:
        told, sent = both_ways(world, story)
    finally:
        event.remove(Book, "load", note)
    assert told[0] == told[1] == ([1, 2], told[0][1])
    assert sent == [2, 2]


@pytest.mark.parametrize("heals", [True, False])
def test_a_session_may_say_so_itself(tmp_path: Path, heals: bool) -> None:
    """By SQLAlchemy's own `info`, which `session_options` may have; it says no, too."""
    db = Database(f"sqlite:///{tmp_path}/a.db", session_options={"info": {"heal": heals}})
    db.watch.start()
    db.watch.heal(on=not heals)
    db.ensure_schema(Base.metadata)
    with db.scope():
        db.session.add_all([Author(name="a", life="long") for _ in range(AUTHORS)])
    with db.scope():
        assert [row.life for row in db.session.scalars(select(Author))] == ["long"] * AUTHORS
    assert len(db.watch.recent(1)[0].statements) == (2 if heals else AUTHORS + 1)
    db.watch.stop()
    db.dispose()
