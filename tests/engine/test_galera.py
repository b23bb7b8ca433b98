"""A node of a real Galera cluster that has lost the others: what is told of its COMMIT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dbscope import DatabaseUnavailable, TransactionOutcomeUnknown
from tests.fixtures import make_tables
from tests.support import galera
from tests.support.look import Onlooker
from tests.worlds import Both, World, insert, make_world

pytestmark = [
    pytest.mark.skipif(not galera.NODES, reason="TEST_GALERA_URLS names no nodes"),
    pytest.mark.timeout(300),
]


@pytest.fixture(params=["pymysql", "asyncmy"])
def node(request: pytest.FixtureRequest) -> Iterator[World]:
    """The last node; the look is one at the first, which stays with the others."""
    first, *_, last = galera.urls(request.param)
    make_tables(first.replace("asyncmy", "pymysql"))
    world = make_world(request.param, "scope", last)
    world.look.close()
    with Onlooker(first) as world.look:
        world.look.execute("DELETE FROM item")
        yield world
        assert world.database.stats()["pool_checked_out"] == 0


@pytest.mark.parametrize("how", ["at the end", "by hand"])
@pytest.mark.parametrize(
    ("known", "told", "heard"),
    [(False, TransactionOutcomeUnknown, []), (True, DatabaseUnavailable, ["rolled back"])],
    ids=["while it finds out", "when it knows"],
)
def test_a_node_that_has_lost_its_cluster_in_commit(
    node: World, how: str, known: bool, told: type[Exception], heard: list[str]
) -> None:
    """While it finds out, COMMIT ends with 1180: the others may have it, and no hook runs.

    When it knows, COMMIT is refused (1047), and nothing is stored. The ROLLBACK is refused in both
    cases, and hides nothing. Afterwards the same database serves again.
    """
    log: list[str] = []

    def story(db: Both) -> None:
        with ExitStack() as until_told:

            def body(db: Both) -> None:
                insert(db, "a")
                db.on_commit(lambda: log.append("stored"))
                db.on_rollback(lambda: log.append("rolled back"))
                until_told.enter_context(galera.parted(node.url, known=known))
                if how == "by hand":
                    db.session.commit()

            with pytest.raises(told) as raised:
                node.inside(db, body)
        assert ("1047" if known else "1180") in str(raised.value.__cause__)
        assert (log, node.items()) == (heard, [])
        node.inside(db, lambda db: insert(db, "b"))
        assert node.items() == ["b"]

    node.play(story)
