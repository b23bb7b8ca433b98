"""A Galera cluster for the tests: the nodes that TEST_GALERA_URLS names, and how to part one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pymysql
from sqlalchemy import make_url

from tests.support.look import Onlooker, until

NODES = [make_url(each) for each in os.environ.get("TEST_GALERA_URLS", "").split()]
PATIENCE = 60.0  # seconds: what the nodes need to find out, on a machine with others at work


def urls(driver: str) -> list[str]:
    """Return the URL of each node, for a driver."""
    named = [url.set(drivername=f"mysql+{driver}") for url in NODES]
    return [url.render_as_string(hide_password=False) for url in named]


def status(look: Onlooker, name: str) -> str:
    """Return one of a node's status variables."""
    return look.rows(f"SHOW GLOBAL STATUS LIKE 'wsrep_{name}'")[0][1]


@contextmanager
def parted(url: str, *, known: bool) -> Iterator[None]:
    """Part a node from the others, while clients still reach it; it joins them again afterwards.

    Args:
        url: of the node.
        known: wait until it knows; else it does not yet, and waits for the others in COMMIT.
    """
    with closing(Onlooker(url)) as look:

        def is_alone() -> bool:
            return status(look, "cluster_status") != "Primary"

        isolate(look, 1)
        try:
            assert not known or until(is_alone, PATIENCE)
            yield
        finally:
            assert until(is_alone, PATIENCE)  # one that is called back before it left gives up
            isolate(look, 0)
            assert until(lambda: serves(url), PATIENCE)


def isolate(look: Onlooker, value: int) -> None:
    """Let a node hear the others no more, or again."""
    look.execute(f"SET GLOBAL wsrep_provider_options = 'gmcast.isolate={value}'")


def serves(url: str) -> bool:
    """Tell whether a node is with all the others."""
    try:
        with closing(Onlooker(url)) as look:
            size = status(look, "cluster_size"), status(look, "local_state_comment")
            return size == (str(len(NODES)), "Synced")
    except pymysql.Error:
        return False
