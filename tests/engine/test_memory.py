"""What is done again and again leaves nothing in memory, on any driver."""

from __future__ import annotations

import gc
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text

from tests.worlds import Item, World, insert

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.worlds import Both

TIMES = 100
ROUNDS = 4
NOISE = TIMES // 5  # blocks, of caches that are filled meanwhile; a leak has one each time


def a_query(db: Both) -> None:
    """Read by the session."""
    db.session.execute(select(Item)).all()


def a_text(db: Both) -> None:
    """Read by a text."""
    db.execute(text("SELECT 1")).scalar()


def rolled_back(db: Both) -> None:
    """Write, and keep nothing."""
    with db.atomic():
        insert(db, "a")
        db.set_rollback(True)


@pytest.mark.worlds(places=["scope"])
@pytest.mark.parametrize("work", [a_query, a_text, rolled_back])
def test_a_scope_leaves_nothing_in_memory(world: World, work: Callable[[Both], Any]) -> None:
    """Counted are the blocks that Python has allocated, when all that is garbage is gone."""
    grown: list[int] = []

    def story(db: Both) -> None:
        for _ in range(ROUNDS):
            for _ in range(TIMES):
                with db.scope():
                    work(db)
            world.statements.clear()
            gc.collect()
            grown.append(sys.getallocatedblocks())

    world.play(story)
    # A leak has its blocks in each round; what other threads do meanwhile is in some.
    assert min(after - before for before, after in pairwise(grown)) < NOISE
