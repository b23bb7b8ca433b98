"""Where a process that is watched stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.worlds import World

SCRIPT = """
import asyncio, os, sys
from sqlalchemy import text
from dbscope import AsyncDatabase, Database
os.mkdir("gone")
os.chdir("gone")
os.rmdir(os.getcwd())
if sys.argv[2] == "True":
    db = AsyncDatabase(sys.argv[1])
    async def work():
        db.watch.start()
        async with db.scope():
            await db.execute(text("SELECT 1"))
        await db.dispose()
    asyncio.run(work())
else:
    db = Database(sys.argv[1])
    db.watch.start()
    with db.scope():
        db.execute(text("SELECT 1"))
    db.dispose()
print(db.watch.recent(1)[0])
"""


@pytest.mark.worlds(places=["scope"])
def test_a_process_is_watched_whose_working_directory_was_deleted(world: World, tmp_path: Path):
    """By the next deployment, say; files have their whole names there."""
    command = [sys.executable, "-c", SCRIPT, world.url, str(world.is_async)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 statement" in done.stdout
