"""`rollback_for=` and `no_rollback_for=`: exceptions that keep what was done. Case B19."""

import time
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from dbscope import ConfigurationError, Rollback, TransactionTimeout
from tests.worlds import Both, World, both_context, insert

pytestmark = pytest.mark.worlds(places=["scope"])


class Known(Exception):
    """What the application counts with."""


class Special(Known):
    """A kind of it."""


class Severe(Special):
    """A worse kind of that."""


class Unrelated(Exception):
    """Something else."""


RULES: list[tuple[dict[str, Any], dict[type[Exception], bool]]] = [
    ({"no_rollback_for": Known}, {Known: True, Special: True, Unrelated: False}),
    ({"no_rollback_for": (Known, Unrelated)}, {Special: True, Unrelated: True}),
    (
        {"no_rollback_for": Known, "rollback_for": Special},
        {Known: True, Special: False, Severe: False},
    ),
    (
        {"no_rollback_for": (Known, Severe), "rollback_for": Special},
        {Known: True, Special: False, Severe: True},
    ),
    ({"no_rollback_for": Known, "rollback_for": Known}, {Known: False}),
    ({"rollback_for": Known}, {Known: False, Unrelated: False}),
    ({}, {Known: False}),
]


def fail_in(db: Both, rules: dict[str, Any], error: BaseException) -> None:
    """Insert the error's name in a block with these rules, and leave it by the error."""
    with both_context(db.real.atomic(**rules)):
        insert(db, type(error).__name__)
        raise error


@pytest.mark.parametrize(("rules", "kept"), RULES)
def test_the_rule_for_the_nearest_class_decides(
    world: World, rules: dict[str, Any], kept: dict[type[Exception], bool]
) -> None:
    """And without one it is rolled back. The exception goes on in any case."""

    def story(db: Both) -> None:
        for error in kept:
            with db.scope(atomic=False), pytest.raises(error):
                fail_in(db, rules, error())

    world.play(story)
    assert world.items() == [error.__name__ for error in kept if kept[error]]


def test_a_savepoint_is_kept_and_the_block_around_decides(world: World) -> None:
    """Inside a transaction it is RELEASE, not COMMIT."""

    def story(db: Both) -> None:
        with db.scope():
            with pytest.raises(Known):
                fail_in(db, {"no_rollback_for": Known}, Known())
            with pytest.raises(Unrelated):
                fail_in(db, {"no_rollback_for": Known}, Unrelated())
        with pytest.raises(Special), db.scope():
            fail_in(db, {"no_rollback_for": Known}, Special())

    world.play(story)
    assert world.items() == ["Known"]


def test_a_block_that_was_joined_is_not_failed(world: World) -> None:
    """Without the rule the block around could only be rolled back."""

    def story(db: Both) -> None:
        with db.scope(), pytest.raises(Known):
            fail_in(db, {"savepoint": False, "no_rollback_for": Known}, Known())

    world.play(story)
    assert world.items() == ["Known"]


def test_hooks_run_as_after_any_commit(world: World) -> None:
    """The decision is one about the work, not about the exception."""
    seen: list[str] = []

    def story(db: Both) -> None:
        block = both_context(db.real.atomic(no_rollback_for=Known))
        with db.scope(atomic=False), pytest.raises(Known), block:
            insert(db, "a")
            db.on_commit(lambda: seen.append("commit"))
            db.on_rollback(lambda: seen.append("rollback"))
            raise Known

    world.play(story)
    assert seen == ["commit"]


def test_what_a_failed_statement_has_broken_is_rolled_back(world: World) -> None:
    """Whatever the rules are: there is nothing that could be committed."""

    def story(db: Both) -> None:
        block = both_context(db.real.atomic(no_rollback_for=DBAPIError))
        with db.scope(atomic=False), pytest.raises(DBAPIError), block:
            insert(db, "a")
            db.execute(text("SELECT nothing FROM nowhere"))

    world.play(story)
    assert world.items() == []


def test_rollback_always_rolls_back(world: World) -> None:
    """That is what it is for."""

    def story(db: Both) -> None:
        with db.scope(atomic=False):
            fail_in(db, {"no_rollback_for": Exception}, Rollback())

    world.play(story)
    assert world.items() == []


@pytest.mark.parametrize("error", [CancelledError, KeyboardInterrupt, GeneratorExit])
def test_what_is_no_answer_of_the_business_rolls_back(
    world: World, error: type[BaseException]
) -> None:
    """Whatever the rules say: whoever cancels, and by which means, must make no difference."""

    def story(db: Both) -> None:
        with db.scope(atomic=False), pytest.raises(error):
            fail_in(db, {"no_rollback_for": BaseException}, error())

    world.play(story)
    assert world.items() == []


def test_a_time_that_is_up_rolls_back_and_shows_what_was_leaving(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules are for the exception; the deadline is another matter."""

    def story(db: Both) -> None:
        block = both_context(db.real.atomic(timeout=60, no_rollback_for=Known))
        with pytest.raises(TransactionTimeout) as raised, db.scope(atomic=False), block:
            insert(db, "a")
            later = time.monotonic() + 60
            monkeypatch.setattr("dbscope.unit.deadline.monotonic", lambda: later)
            raise Known
        assert isinstance(raised.value.__context__, Known)

    world.play(story)
    assert world.items() == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda db: db.real.atomic(no_rollback_for="Known"),
        lambda db: db.real.atomic(rollback_for=(Known, 1)),
        lambda db: db.real.atomic(no_rollback_for=int),
        lambda db: db.real.atomic(propagation="never", no_rollback_for=Known),
    ],
)
def test_what_is_no_rule_is_refused(world: World, ask: Callable[[Both], Any]) -> None:
    """Where it is written, not when an exception comes."""

    def story(db: Both) -> None:
        with pytest.raises(ConfigurationError):
            ask(db)

    world.play(story)
