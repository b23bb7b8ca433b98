"""What is only added, changed or deleted is sent by the last flush, and has the same fate."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from tests.first_acts import ACTS, UNTOUCHED, Act, fail, found, prepare
from tests.unit.blocks import Trouble
from tests.unit.hooks import Log
from tests.worlds import PLACES, Both, World, insert

everywhere = pytest.mark.worlds(places=["autocommit", *PLACES, "begin"])
Ending = Callable[[Both], Any]


def play(world: World, ending: Ending, log: Log, error: Any = None) -> dict[Act, list[str]]:
    """Do each act alone, end in this way, and return what another client finds of it then."""
    prepare(world.look)

    def body(db: Both, act: Act) -> None:
        act(db, act.__name__)
        if world.place != "autocommit":
            db.on_commit(log.note("stored"))
            db.on_rollback(log.note("undone"))
        ending(db)

    def story(db: Both) -> None:
        for act in ACTS:
            if error is None:
                world.inside(db, lambda db, act=act: body(db, act))
            else:
                with pytest.raises(error):
                    world.inside(db, lambda db, act=act: body(db, act))

    world.play(story)
    return {act: found(world.items(), act) for act in ACTS}


def told(world: World, what: str) -> list[str]:
    """Return what the hooks of all acts have written down."""
    return [] if world.place == "autocommit" else [what] * len(ACTS)


@everywhere
def test_what_ends_well_is_stored(world: World, log: Log) -> None:
    """A1, C2: by the flush in COMMIT, and the hooks run."""
    assert play(world, lambda db: None, log) == ACTS
    assert log == told(world, "stored")
    assert world.look.scalar("SELECT count(*) FROM child") == 1


@everywhere
def test_what_raises_is_not_stored(world: World, log: Log) -> None:
    """A2, C3: nothing was sent, and nothing is."""

    def ending(db: Both) -> None:
        raise Trouble

    assert play(world, ending, log, Trouble) == UNTOUCHED
    assert log == told(world, "undone")


@everywhere
def test_a_last_flush_that_fails_stores_nothing(world: World, log: Log) -> None:
    """D15, G1: its error leaves as it is, whatever was to be sent with it."""
    assert play(world, fail, log, IntegrityError) == UNTOUCHED
    assert log == told(world, "undone")


@pytest.mark.parametrize("way", ["set_rollback", "doom"])
def test_a_rollback_that_is_meant_stores_nothing(world: World, log: Log, way: str) -> None:
    """A7, D8: quietly."""
    ending: Ending = (lambda db: db.set_rollback(True)) if way == "set_rollback" else undo
    assert play(world, ending, log) == UNTOUCHED
    assert log == told(world, "undone")


def undo(db: Both) -> None:
    """Roll the whole back, and keep the answer."""
    db.doom()


@pytest.mark.worlds(places=["scope", "request"])
@pytest.mark.parametrize("way", ["commit", "rollback"])
def test_by_hand_it_is_the_same(world: World, log: Log, way: str) -> None:
    """G10: what comes after it has another fate."""

    def ending(db: Both) -> None:
        getattr(db.session, way)()
        assert log == told(world, kept)[: len(log)]
        raise Trouble

    kept = "stored" if way == "commit" else "undone"
    expected = ACTS if way == "commit" else UNTOUCHED
    assert play(world, ending, log, Trouble) == expected
    assert log == told(world, kept)


BLOCKS = ("atomic", "savepoint", "begin_nested")


def block(db: Both, opened: str) -> Any:
    """Open a block in this way."""
    return getattr(db.session if opened == "begin_nested" else db, opened)()


def in_blocks(world: World, body: Callable[[Both, Act], Any]) -> dict[Act, list[str]]:
    """Do this with each act, alone, and return what another client finds of it then."""
    prepare(world.look)

    def story(db: Both) -> None:
        for act in ACTS:
            world.inside(db, lambda db, act=act: body(db, act))

    world.play(story)
    return {act: found(world.items(), act) for act in ACTS}


@pytest.mark.worlds(places=["scope", "request"])
@pytest.mark.parametrize("opened", BLOCKS)
def test_what_was_added_before_a_failing_block_is_kept(world: World, opened: str) -> None:
    """A4, F1: and what is added inside is not even sent."""

    def body(db: Both, act: Act) -> None:
        act(db, act.__name__)
        with pytest.raises(Trouble), block(db, opened):
            fail(db)
            raise Trouble

    assert in_blocks(world, body) == ACTS


@pytest.mark.worlds(places=["scope", "request"])
@pytest.mark.parametrize("opened", BLOCKS)
def test_what_was_added_in_a_block_that_ends_well_is_kept(world: World, opened: str) -> None:
    """A4: at the start of the transaction as later."""

    def body(db: Both, act: Act) -> None:
        with block(db, opened), block(db, opened):
            act(db, act.__name__)

    assert in_blocks(world, body) == ACTS


@pytest.mark.worlds(places=["scope", "request"])
@pytest.mark.parametrize("opened", BLOCKS)
@pytest.mark.parametrize("flushes", [False, True])
def test_what_was_added_in_a_failing_block_is_lost(
    world: World, opened: str, *, flushes: bool
) -> None:
    """A4: by an exception, or by a flush that fails when it is left; what comes after is kept."""

    def body(db: Both, act: Act) -> None:
        with pytest.raises(IntegrityError if flushes else Trouble), block(db, opened):
            act(db, act.__name__)
            if not flushes:
                raise Trouble
            fail(db)
        insert(db, f"after {act.__name__}")

    assert in_blocks(world, body) == UNTOUCHED
    assert [name for name in world.items() if name.startswith("after")] == [
        f"after {act.__name__}" for act in ACTS
    ]
