"""A shop with four revisions in two branches, and processes that serve it by `uvicorn`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from dbscope.migrate import Migrations
from tests.support import warm
from tests.support.look import Onlooker

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 100  # seconds: eight processes share what cores there are

APPLICATION = """\
import os
import sys
from contextlib import asynccontextmanager

from sqlalchemy import MetaData, text
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from dbscope import AsyncDatabase
from dbscope.migrate import NAMING_CONVENTION, Migrations, StartupErrorMiddleware

db = AsyncDatabase({url!r})
metadata = MetaData(naming_convention=NAMING_CONVENTION)
migrations = Migrations(db, lock_timeout=float(os.environ["LOCK_TIMEOUT"]))


def note(point):
    with open({log!r}, "a") as log:  # outside the transaction: a rollback does not undo it
        log.write(point + "\\n")
    if point == os.environ.get("FAIL"):
        raise ValueError("told to fail")
    if point == os.environ.get("STOP"):
        wait("stopped")


def wait(word):
    print(word, flush=True)
    if not sys.stdin.readline():
        os._exit(1)  # the test was killed


@asynccontextmanager
async def lifespan(app):
    wait("loaded")
    async with db.lifespan():
        await migrations.at_start(os.environ["MODE"])
        yield


async def items(request):
    async with db.scope():
        return JSONResponse(list(await db.scalars(text("SELECT name FROM item ORDER BY name"))))


app = Starlette(
    routes=[Route("/", items)], lifespan=lifespan, middleware=[Middleware(StartupErrorMiddleware)]
)
"""

REVISION = """\
\"\"\"about {id}\"\"\"

from alembic import op
from sqlalchemy import Column, Integer, String, text

from dbscope.migrate import session
from shop import note

revision = {id!r}
down_revision = {down!r}
branch_labels = {label!r}
depends_on = {depends_on!r}


def upgrade():
    note("{id} begins")
{first}
    note("{id} half")
{second}
    note("{id} ends")


def downgrade():
{downgrade}
"""

INSERT = "session().execute(text(\"INSERT INTO item (name) VALUES ('{}')\"))"
COLUMNS = 'Column("id", Integer, primary_key=True), Column("name", String)'
BATCH = 'with op.batch_alter_table("item") as batch:\n    batch.{}'
DELETE = "op.execute(\"DELETE FROM item WHERE name IN ('{}', '{}')\")"
REVISIONS: list[dict[str, Any]] = [
    {
        "id": "items",
        "branch": "schema",
        "first": f'op.create_table("item", {COLUMNS})',
        "second": 'op.create_index("ix_item_name", "item", ["name"])',
        "downgrade": 'op.drop_table("item")',
    },
    {
        "id": "prices",
        "branch": "schema",
        "down": "items",
        "first": 'op.add_column("item", Column("price", Integer))',
        "second": BATCH.format('alter_column("name", nullable=False)'),
        "downgrade": BATCH.format('drop_column("price")'),
    },
    {
        "id": "seed",
        "branch": "data",
        "depends_on": "items",
        "first": INSERT.format("a"),
        "second": INSERT.format("b"),
        "downgrade": DELETE.format("a", "b"),
    },
    {
        "id": "more",
        "branch": "data",
        "down": "seed",
        "first": INSERT.format("c"),
        "second": INSERT.format("d"),
        "downgrade": DELETE.format("c", "d"),
    },
]
IDS = [each["id"] for each in REVISIONS]
POINTS = [f"{each} {point}" for each in IDS for point in ("begins", "half", "ends")]
HEADS = ["more", "prices"]
ALL = b'["a","b","c","d"]'


class Shop:
    """An application in a folder of its own, its database, and what its revisions have noted."""

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        self.url = url
        self.log = root / "log"
        self.log.touch()
        self._numbers = 0
        (root / "shop.py").write_text(APPLICATION.format(url=url, log=str(self.log)))
        Migrations.init(database="shop:db", metadata="shop:metadata", root=root)
        for each in REVISIONS:
            path = root / "migrations" / each["branch"] / f"{each['id']}.py"
            path.write_text(_revision(**each))

    def counts(self) -> Counter[str]:
        """Return how often each point was reached, by any process."""
        return Counter(self.log.read_text().splitlines())

    def stored(self) -> list[str]:
        """Return what the version table says."""
        with Onlooker(self.url) as look:
            return sorted(row[0] for row in look.rows("SELECT version_num FROM alembic_version"))

    def rows(self) -> list[str]:
        """Return the names of the items."""
        with Onlooker(self.url) as look:
            return [row[0] for row in look.rows("SELECT name FROM item ORDER BY name")]

    def alembic(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Alembic's own command in the folder."""
        command = [sys.executable, "-W", "error", "-m", "alembic", *arguments]
        return warm.run(command, cwd=self.root, env=_environment(), timeout=100)

    @contextmanager
    def process(self, **settings: str) -> Iterator[Process]:
        """Start a process that serves, which waits at "loaded"; end it afterwards."""
        self._numbers += 1
        log = self.root / f"stderr{self._numbers}"
        with (
            log.open("wb") as stderr,
            warm.Popen(
                [sys.executable, "-W", "error", "-m", "uvicorn", "shop:app", "--port", "0"],
                cwd=self.root,
                env=_environment(**settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            ) as process,
        ):
            try:
                yield Process(process, log)
            finally:
                process.kill()

    @contextmanager
    def processes(self, count: int, **settings: str) -> Iterator[list[Process]]:
        """Start several, which have all loaded and wait."""
        with ExitStack() as stack:
            made = [stack.enter_context(self.process(**settings)) for _ in range(count)]
            for each in made:
                each.until("loaded")
            yield made


class Process:
    """A process that serves the shop, or wants to."""

    def __init__(self, process: warm.Popen, log: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._log = log

    def until(self, word: str) -> None:
        """Wait until it says the word: it has loaded, or has stopped in a revision."""
        assert self._process.stdout is not None
        told = self._process.stdout.readline().decode().strip()
        assert told == word, self._log.read_text()

    def go(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def kill9(self) -> None:
        """Kill it, and wait until it is dead."""
        self._process.kill()
        self._process.wait(40)

    def answer(self) -> bytes:
        """Wait until it serves, and return what it answers."""
        connection = HTTPConnection("127.0.0.1", self._port(), timeout=PATIENCE)
        connection.request("GET", "/")
        answer = connection.getresponse().read()
        connection.close()
        return answer

    def refusal(self) -> str:
        """Wait until it has refused to start, and return what it says, but for uvicorn's frame."""
        assert self._process.wait(PATIENCE) == 3  # uvicorn's
        told = self._log.read_text()
        assert "Traceback" not in told
        (said,) = re.findall(r"(?s)startup\.\n(.*)\nERROR: +Application startup failed", told)
        return said.removeprefix("ERROR:").strip()

    def _port(self) -> int:
        deadline = time.monotonic() + PATIENCE
        while True:
            told = self._log.read_text()
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", told):
                return int(found[1])
            assert self._process.poll() is None, told
            assert time.monotonic() < deadline, told
            time.sleep(0.02)


def _revision(
    *, down: str | None = None, depends_on: str | None = None, branch: str, **parts: str
) -> str:
    code = {name: parts.pop(name) for name in ("first", "second", "downgrade")}
    indented = {name: textwrap.indent(text, "    ") for name, text in code.items()}
    label = None if down else branch
    return REVISION.format(down=down, label=label, depends_on=depends_on, **indented, **parts)


def _environment(**settings: str) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    defaults = {"PYTHONPATH": path, "MODE": "upgrade", "LOCK_TIMEOUT": "60"}
    return {**os.environ, **defaults, **settings}
