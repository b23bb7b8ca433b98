"""Random nestings of blocks, against a model: what is stored, which hooks run, what is sent."""

from collections import Counter
from contextlib import suppress
from itertools import count
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from sqlalchemy.exc import IntegrityError

from tests.unit.blocks import Trouble
from tests.unit.nestings import TAKEN, Model, Nested, Play, nestings
from tests.worlds import Both, World

COUNTED = ("BEGIN", "SAVEPOINT", "ROLLBACK TO", "RELEASE")
ONE_INSERT = Nested((Nested((Nested(("statement",), "well"),), "well"),), "well")
A_FAILURE = Nested((Nested(("statement", "hook"), "raise"), "hook", "flush"), "well")
numbers = count(1)


@settings(
    max_examples=25,
    phases=[Phase.explicit, Phase.generate],  # to shrink what fails takes minutes
    deadline=None,  # what it takes says nothing: others use the machine, too
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=nestings())
@example(steps=["statement", ONE_INSERT])
@example(steps=["statement", A_FAILURE, ONE_INSERT])
@example(steps=[A_FAILURE, A_FAILURE])
@example(steps=["add", Nested((A_FAILURE, "hook"), "set_rollback"), "hook"])
def test_a_nesting_of_blocks_is_what_its_rules_say(world: World, steps: Any) -> None:
    """A4, A5, C5, C20, F1: stored, promised, and exactly as many savepoints as are needed."""
    if not world.items():
        world.look.execute(f"INSERT INTO item (name) VALUES ('{TAKEN}')")
    prefix = f"{next(numbers)}."
    model, played = Model(), []

    def body(db: Both) -> None:
        played.append(Play(db, prefix))
        played[0].steps(steps)

    world.statements = []
    with suppress(Trouble, IntegrityError):
        world.run(body)
    model.run(steps)
    stored = [name.removeprefix(prefix) for name in world.items() if name.startswith(prefix)]
    assert sorted(map(int, stored)) == sorted(model.rows)
    assert played[0].log == model.log
    sent = Counter(world.sent())
    assert {name: sent[name] for name in COUNTED} == {name: model.sent[name] for name in COUNTED}
