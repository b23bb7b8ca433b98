"""An application with migrations, in a folder of its own, and what its database has."""

from __future__ import annotations

import importlib
import itertools
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from dbscope.migrate import Migrations
from tests.support import warm
from tests.support.look import Onlooker

ROOT = Path(__file__).resolve().parents[2]
WORLDS = {  # the kind of database, and the driver
    "sqlite3": ("Database", "pysqlite"),
    "inline": ("AsyncDatabase", "inline"),
    "aiosqlite": ("AsyncDatabase", "aiosqlite"),
    "psycopg sync": ("Database", "psycopg"),
    "psycopg async": ("AsyncDatabase", "psycopg"),
    "asyncpg": ("AsyncDatabase", "asyncpg"),
    "pymysql": ("Database", "pymysql"),
    "asyncmy": ("AsyncDatabase", "asyncmy"),
}
ON_SQLITE = ["sqlite3", "inline", "aiosqlite"]
ON_POSTGRESQL = ["psycopg sync", "psycopg async", "asyncpg"]
ON_MYSQL = ["pymysql", "asyncmy"]
USUAL = [*ON_SQLITE, *ON_POSTGRESQL]  # MySQL cannot undo a revision that fails half way

APPLICATION = """\
from sqlalchemy import ForeignKey, MetaData, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dbscope import AsyncDatabase, Database
from dbscope.migrate import NAMING_CONVENTION, Migrations

db = {kind}({url!r})
migrations = Migrations(db, {config!r})


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
"""

REVISION = """\
\"\"\"{message}\"\"\"

import sqlalchemy as sa
from alembic import context, op

from dbscope.migrate import session

revision = {id!r}
down_revision = {down!r}
branch_labels = {labels!r}
depends_on = {depends_on!r}


def upgrade() -> None:
{upgrade}


def downgrade() -> None:
{downgrade}
"""

ITEMS = """
op.create_table(
    "item",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(50), nullable=False),
    sa.PrimaryKeyConstraint("id", name="pk_item"),
    sa.UniqueConstraint("name", name="uq_item_name"),
)
"""


class Project:
    """A folder with an application, and what its database looks like from outside."""

    numbers = itertools.count(1)

    def __init__(self, root: Path, kind: str, url: str) -> None:
        self.root = root
        self.url = url
        self.module = f"shop{next(self.numbers)}"
        self.config = root / "alembic.ini"
        code = APPLICATION.format(kind=kind, url=url, config=str(self.config))
        (root / f"{self.module}.py").write_text(code)
        self.application: Any = importlib.import_module(self.module)
        self.db = self.application.db
        self.migrations: Migrations = self.application.migrations

    def init(self) -> None:
        """Write the folders of the migrations, and the settings."""
        Migrations.init(
            database=f"{self.module}:db",
            metadata=f"{self.module}:Base.metadata",
            root=self.root,
        )

    def write(
        self,
        name: str,
        upgrade: str,
        *,
        branch: str = "schema",
        label: str | None = None,
        down: str | tuple[str, ...] | None = None,
        depends_on: str | None = None,
        downgrade: str = "pass",
    ) -> Path:
        """Write a revision; the first of a branch, which follows none, makes the label."""
        path = self.root / "migrations" / branch / f"{name}.py"
        text = REVISION.format(
            message=f"about {name}",
            id=name,
            down=down,
            labels=None if down else label or branch,
            depends_on=depends_on,
            upgrade=textwrap.indent(textwrap.dedent(upgrade).strip(), "    "),
            downgrade=textwrap.indent(textwrap.dedent(downgrade).strip(), "    "),
        )
        path.write_text(text)
        return path

    def write_shop(self) -> None:
        """Write one revision of each branch: a table, and a row in it."""
        self.write("items", ITEMS, downgrade='op.drop_table("item")')
        self.write(
            "seed",
            "session().execute(sa.text(\"INSERT INTO item (name) VALUES ('a')\"))",
            branch="data",
            depends_on="items",
            downgrade='op.execute("DELETE FROM item")',
        )

    def stored(self) -> list[str]:
        """Return what the version table says."""
        if "alembic_version" not in self.tables():
            return []
        return sorted(self.column("SELECT version_num FROM alembic_version"))

    def tables(self) -> set[str]:
        """Return the tables that are there."""
        if make_url(self.url).get_backend_name() == "sqlite":
            return set(self.column("SELECT name FROM sqlite_master WHERE type = 'table'"))
        if make_url(self.url).get_backend_name() == "mysql":
            return set(self.column("SHOW TABLES"))
        return set(self.column("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))

    def column(self, sql: str) -> list[Any]:
        """Return the first column of a query, as another client sees it."""
        with Onlooker(self.url) as look:
            return [row[0] for row in look.rows(sql)]

    def execute(self, sql: str) -> None:
        """Run a statement as another client."""
        with Onlooker(self.url) as look:
            look.execute(sql)

    def alembic(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Alembic's own command in the folder."""
        return self.python("-m", "alembic", *arguments)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the folder, and wait."""
        command = [sys.executable, "-W", "error", *arguments]
        return warm.run(command, cwd=self.root, env=environment(), timeout=100)

    @contextmanager
    def spawn(self, *arguments: str) -> Iterator[warm.Popen]:
        """Start Python in the folder; it is ended afterwards, if it has not."""
        with warm.Popen(
            [sys.executable, "-W", "error", *arguments],
            cwd=self.root,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def environment() -> dict[str, str]:
    """Return the environment of another process, which finds the library."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
