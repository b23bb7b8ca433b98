"""A file of SQLite that is deleted, replaced, or locked by another process."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from dbscope import DatabaseUnavailable
from dbscope.sqlite_inline import files
from tests.worlds import Both, Item, World, insert, is_sqlite, make_world

SQLITE = pytest.mark.worlds(places=["scope"], drivers=is_sqlite)
HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("has it", flush=True)
sys.stdin.readline()
"""


def path_of(world: World) -> str:
    """Return where the file is."""
    path = files.path_of(world.look.url)
    assert path is not None
    return path


def remove(path: str) -> None:
    """Delete a database with its log."""
    for end in ("", "-wal", "-shm"):
        Path(path + end).unlink(missing_ok=True)


def names(path: str) -> list[str]:
    """Return what is stored in the file that has the name now."""
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM item ORDER BY id")]


# -- deleted or replaced ---------------------------------------------------------------------------


@SQLITE
def test_a_file_that_was_deleted_is_an_error_until_it_is_back(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """What is written would be lost; no empty file comes into being in its place."""
    path = path_of(world)

    def story(db: Both) -> None:
        world.in_scope(db, lambda db: insert(db, "a"))
        remove(path)
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable, match="was deleted"):
                world.in_scope(db, lambda db: insert(db, "b"))
        assert not Path(path).exists()
        with closing(sqlite3.connect(path)) as made:
            made.execute("CREATE TABLE item (id integer primary key, name)")
        world.in_scope(db, lambda db: insert(db, "c"))

    with caplog.at_level(logging.WARNING, "dbscope"):
        world.play(story)
    assert "was deleted while it was open" in caplog.text
    assert names(path) == ["c"]


@SQLITE
def test_a_file_that_was_replaced_is_opened_anew(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A backup that was put back is what is read and written from then on; it is a warning."""
    path = path_of(world)

    def story(db: Both) -> None:
        world.in_scope(db, lambda db: insert(db, "a"))
        remove(path)
        made = sqlite3.connect(path + "-backup")
        made.executescript(
            "CREATE TABLE item (id integer primary key, name); INSERT INTO item VALUES (1, 'old')"
        )
        made.close()
        Path(path + "-backup").replace(path)
        world.in_scope(db, lambda db: insert(db, "b"))

    with caplog.at_level(logging.WARNING, "dbscope"):
        world.play(story)
    assert "was replaced while it was open" in caplog.text
    assert names(path) == ["old", "b"]


# -- locked by another process ---------------------------------------------------------------------


@contextmanager
def held_elsewhere(path: str) -> Iterator[None]:
    """Let another process have the lock to write."""
    command = [sys.executable, "-c", HOLDER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.communicate(b"\n")


def flush(db: Both) -> None:
    """Write by a flush."""
    insert(db, "a")


def statement(db: Both) -> None:
    """Write by a statement."""
    db.session.execute(text("INSERT INTO item (name) VALUES ('a')"))


def commit(db: Both) -> None:
    """Write by the flush inside of COMMIT."""
    db.session.add(Item(name="a"))
    db.session.commit()


def block(db: Both) -> None:
    """Write in a block."""
    with db.atomic():
        insert(db, "a")


def upgrade(db: Both) -> None:
    """Write after a read."""
    with db.atomic():
        db.session.scalar(select(func.count()).select_from(Item))
        insert(db, "a")


WAYS = (flush, statement, commit, block, upgrade)


@SQLITE
@pytest.mark.parametrize("way", WAYS)
def test_a_lock_of_another_process_is_one_error(world: World, way: Callable[[Any], None]) -> None:
    """On all ways: DatabaseUnavailable, which names nobody of ours and may be tried again."""
    impatient = make_world(world.driver, "scope", world.url + "?timeout=0.05")

    def story(db: Both) -> None:
        world.in_scope(db, lambda db: insert(db, "before"))
        with held_elsewhere(path_of(world)), pytest.raises(DatabaseUnavailable) as caught:
            world.in_scope(db, way)
        assert caught.value.nothing_was_stored
        assert "connection or process holds: database is locked." in str(caught.value)
        world.in_scope(db, way)

    impatient.play(story)
    assert world.items() == ["before", "a"]
