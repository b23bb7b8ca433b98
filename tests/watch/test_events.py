"""What happens is told to whoever listens: where work ends, with what became of it."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from inspect import signature
from typing import Any
from unittest import mock

import pytest
from sqlalchemy.exc import IntegrityError

from dbscope import AsyncDatabase, Database
from dbscope.watch import dispatch, events, recorder
from dbscope.watch.counters import COUNTED
from tests.unit.blocks import Trouble
from tests.worlds import Both, Child, World, insert, needs_late_check

PLACES = ["scope", "request"]
STORY = [
    "SessionOpened",
    "ConnectionWanted",
    "TransactionBegun",
    "ConnectionTaken",
    "StatementBegun",
    "StatementEnded",
    "CommitSent",
    "Committed",
    "ConnectionReturned",
]


@pytest.fixture
def told(world: World) -> Iterator[list[Any]]:
    """Return the events of a world, as they come."""
    told: list[Any] = []
    world.database.events.listen(told.append)
    yield told
    world.database.events.remove(told.append)


def names(told: list[Any]) -> list[str]:
    """Return what happened, in short."""
    return [type(event).__name__ for event in told]


def test_a_transaction_is_told_from_its_first_line_to_its_end(
    world: World, told: list[Any]
) -> None:
    """In the order in which it happens; what a place adds of its own comes in between."""
    world.run(lambda db: insert(db, "a"))
    assert [name for name in names(told) if name in STORY] == STORY
    assert names(told)[-1] in {"UnitClosed", "ScopeEnded"}


@pytest.mark.worlds(places=PLACES)
def test_a_failure_is_told_with_its_reason(world: World, told: list[Any]) -> None:
    """The error that leaves the work is what decided about it."""

    def body(db: Both) -> None:
        insert(db, "a")
        raise Trouble

    with pytest.raises(Trouble):
        world.run(body)
    decided = [event for event in told if isinstance(event, events.Decided)]
    assert [(event.keep, type(event.error)) for event in decided] == [(False, Trouble)]
    assert "RolledBack" in names(told)
    assert "Committed" not in names(told)


@needs_late_check
@pytest.mark.worlds(places=PLACES)
def test_a_commit_that_fails_is_never_told_as_one(world: World, told: list[Any]) -> None:
    """SQLAlchemy's event `commit` is called before COMMIT is sent; ours tell what became of it."""

    def body(db: Both) -> None:
        db.session.add(Child(item_id=999))

    with pytest.raises(IntegrityError):
        world.run(body)
    assert "Committed" not in names(told)
    failed = next(event for event in told if isinstance(event, events.CommitFailed))
    assert isinstance(failed.error, IntegrityError)
    assert world.database.stats()["commits"] == 0


@pytest.mark.worlds(places=["scope"])
def test_what_is_counted_is_what_is_told(world: World, told: list[Any]) -> None:
    """`db.stats()` listens like everybody."""

    def body(db: Both) -> None:
        insert(db, "a")
        with suppress(Trouble), db.atomic():
            insert(db, "b")
            raise Trouble
        db.on_commit(lambda: None)

    world.run(body)
    seen = Counter(COUNTED[type(event)] for event in told if type(event) in COUNTED)
    stats = world.database.stats()
    assert {name: stats[name] for name in COUNTED.values()} == {
        name: seen[name] for name in COUNTED.values()
    }
    ended = [event.outcome.value for event in told if isinstance(event, events.BlockEnded)]
    assert ended == ["rolled back"]


@pytest.fixture
def nobody_else() -> Iterator[None]:
    """Whoever listens in a test before this one is not heard, though its database lives."""
    others, dispatch.heard[:] = dispatch.heard[:], []
    yield
    dispatch.heard[:] = others


@pytest.mark.usefixtures("nobody_else")
@pytest.mark.worlds(places=["scope"])
def test_without_listeners_no_event_is_made(world: World) -> None:
    """Nothing is paid for what nobody hears."""
    with mock.patch.object(dispatch.Listeners, "tell") as tell:
        world.run(lambda db: insert(db, "a"))
    assert tell.mock_calls == []
    assert not dispatch.heard


@pytest.mark.worlds(places=["scope"])
def test_a_listener_that_fails_changes_nothing(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error is logged with what it was told of, once for each kind of that."""
    monkeypatch.setattr(dispatch, "complained", set())

    @world.database.events.listen
    def fail(event: events.Event) -> None:
        raise Trouble

    world.run(lambda db: insert(db, "a"))
    world.database.events.remove(fail)
    assert world.items() == ["a"]
    assert "A listener failed when it was told of Committed." in caplog.messages
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


@pytest.mark.worlds(places=PLACES)
@pytest.mark.worlds(places=["scope"])
def test_what_the_log_says_is_told_to_others_too(
    world: World, told: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Once each: a session closed by hand, and a hook whose error nobody is raised."""

    def fail() -> None:
        raise Trouble

    def body(db: Both) -> None:
        insert(db, "lost")
        db.session.close()
        db.on_rollback(fail)
        insert(db, "a")
        raise KeyError

    with caplog.at_level(logging.WARNING, "dbscope"), pytest.raises(KeyError):
        world.run(body)
    (closed,) = [event for event in told if isinstance(event, events.ClosedByHand)]
    (failed,) = [event for event in told if isinstance(event, events.FailureNotRaised)]
    assert "/tests/" in closed.where
    assert (type(failed.error), failed.part) == (Trouble, "hook")
    assert ["closed by hand" in line for line in caplog.messages] == [True, False]
    assert caplog.messages[1].startswith("A hook of the scope")


def test_who_hears_no_more_takes_nothing_from_the_others(world: World) -> None:
    """A listener may remove itself when it has heard what it has waited for."""
    heard: list[Any] = []

    def once(event: events.Event) -> None:
        if isinstance(event, events.Committed):
            world.database.events.remove(once)

    world.database.events.listen(once)
    world.database.events.listen(heard.append)
    try:
        world.run(lambda db: insert(db, "a"))
    finally:
        world.database.events.remove(heard.append)
    assert names(heard).count("Committed") == 1


@pytest.mark.usefixtures("nobody_else")
def test_both_kinds_of_a_database_have_the_same_listeners() -> None:
    """Whichever was there first, and whenever the other one is made."""
    plain = Database("sqlite://")
    plain.events.listen(print)
    assert plain.async_.events.listeners == [print]
    async_ = AsyncDatabase("sqlite://")
    async_.sync.events.listen(print)
    assert async_.events.listeners == [print]
    for database in (plain, async_):
        database.events.remove(print)
        assert database.events.listeners == []
    assert not dispatch.heard


def test_a_listener_is_a_plain_function() -> None:
    """It is called where it happens, and has no time to wait."""

    async def wait(event: events.Event) -> None: ...

    with pytest.raises(TypeError, match="a plain function"):
        Database("sqlite://").events.listen(wait)
    with pytest.raises(ValueError, match="not in list"):
        Database("sqlite://").events.remove(print)


@pytest.mark.parametrize("kind", recorder.HANDLERS, ids=lambda kind: kind.__name__)
def test_the_recorder_takes_the_facts_of_an_event_in_their_order(kind: type[events.Event]) -> None:
    """No event is made for it, so nothing else says which fact is which."""
    named = [each.name for each in fields(kind)]
    given = signature(recorder.HANDLERS[kind]).bind("the recorder", *named).arguments
    taken = {name: fact for name, fact in list(given.items())[1:] if not name.startswith("_")}
    assert taken == {name: name for name in taken}
