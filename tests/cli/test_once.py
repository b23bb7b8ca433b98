"""`dbscope once purge` and `dbscope outbox`, on a database of each kind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.cli.project import Project
from tests.support.look import Onlooker, until

TABLES = """

from dbscope import once as once_package, outbox as outbox_package
from dbscope.outbox import {kind}, Message

def make_tables():
    from sqlalchemy import create_engine

    engine = create_engine("sqlite+pysqlite:///shop.db")
    once_package.metadata.create_all(engine)
    outbox_package.metadata.create_all(engine)
    engine.dispose()


make_tables()


{publish}


box = {kind}(db, publish, attempts=1)
"""
PUBLISH = """
def publish(message: Message) -> None:
    if message.value == "bad":
        raise ValueError("no")
    print("published", message.value, flush=True)
"""
OLD = """INSERT INTO dbscope_once (id, key, attempt, created_at, expires_at)
 VALUES (?, 'k', '', '2001-01-01', ?)"""
NEW = """INSERT INTO dbscope_outbox
 (uid, topic, body, content_type, headers, created_at, available_at, attempts)
 VALUES (?, 'topic', ?, 'application/json', '{}', '2001-01-01', '2001-01-01', 0)"""


@pytest.fixture(params=["Database", "AsyncDatabase"])
def shop(project: Project, request: pytest.FixtureRequest) -> Project:
    """An application with both tables, and an outbox."""
    kind = "Outbox" if request.param == "Database" else "AsyncOutbox"
    publish = PUBLISH if kind == "Outbox" else PUBLISH.replace("def ", "async def ")
    project.write(kind=request.param, more=TABLES.format(kind=kind, publish=publish))
    project.do("once", "purge")
    return project


def execute(sql: str, *values: object) -> None:
    """Run a statement as another client."""
    with Onlooker("sqlite:///shop.db") as look:
        look.execute(sql, *values)


def test_purge_deletes_what_was_kept_for_long_enough(shop: Project) -> None:
    """And says how much that was."""
    execute(OLD, "1", "2001-01-02")
    execute(OLD, "2", "2001-01-02")
    execute(OLD, "3", "2999-01-01")
    assert shop.do("once", "purge") == "2 rows deleted.\n"
    assert shop.do("once", "purge") == "0 rows deleted.\n"


def test_messages_are_relayed_shown_and_revived(shop: Project) -> None:
    """By one command each."""
    execute(NEW, "1", b'"good"')
    execute(NEW, "2", b'"bad"')
    assert "2 messages tried, 0 left." in shop.do("outbox", "flush")
    assert "2 topic 2001-01-01 00:00:00: ValueError: no" in shop.do("outbox", "dead")
    assert shop.do("outbox", "revive") == "1 message will be tried again.\n"
    assert shop.do("outbox", "dead") == "No message is dead.\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to be caught")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_relay_runs_until_it_is_stopped(shop: Project, number: int) -> None:
    """What it has begun it ends, and says nothing of having been stopped."""
    execute(NEW, "1", b'"good"')
    with (shop.root / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dbscope", "outbox"], cwd=shop.root, stdout=log, stderr=log
        )
    try:
        assert until(lambda: "published good" in (shop.root / "log").read_text())
        with Onlooker("sqlite:///shop.db") as look:
            assert until(lambda: look.scalar("SELECT count(*) FROM dbscope_outbox") == 0)
        process.send_signal(number)
        assert process.wait(40) == 0
    finally:
        process.kill()
        process.wait()
    assert (shop.root / "log").read_text() == "Relaying.\npublished good\n"


def test_an_application_without_an_outbox_is_told_so(project: Project) -> None:
    """In one sentence."""
    result = project.run("outbox", "dead")
    assert result.exit_code == 2
    assert "shop:app has no outbox: `outbox = AsyncOutbox(db, publish)`." in result.output
