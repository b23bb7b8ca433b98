"""An application in a folder of its own, and the command run there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from dbscope.cli.commands import app

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = '[tool.fastapi]\nentrypoint = "shop:app"\n'
APPLICATION = """\
from fastapi import FastAPI
from sqlalchemy import MetaData, String, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dbscope import AsyncDatabase, Database
from dbscope.migrate import NAMING_CONVENTION

db = {kind}({url!r}{options})


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


app = FastAPI()
db.install(app)
"""
ON_CONNECT = """

@event.listens_for({engine}, "connect")
def on_connect(connection, record):
    cursor = connection.cursor()
    cursor.execute({sql!r})
    cursor.close()
"""


class Project:
    """A folder with `shop.py`, which `pyproject.toml` names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "pyproject.toml").write_text(PYPROJECT)
        self.write()

    def write(
        self,
        url: str = "sqlite:///shop.db",
        *,
        kind: str = "Database",
        options: str = "",
        more: str = "",
        file: str = "shop.py",
    ) -> None:
        """Write the application."""
        text = APPLICATION.format(kind=kind, url=url, options=f", {options}" if options else "")
        (self.root / file).write_text(text + more)

    def forget(self) -> None:
        """Forget all modules of this folder."""
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(f"{self.root}{os.sep}"):
                del sys.modules[name]

    def run(self, *arguments: str, given: str | None = None) -> Result:
        """Run the command in this process, as if it were a new one."""
        self.forget()
        return CliRunner().invoke(app, list(arguments), input=given, prog_name="dbscope")

    def do(self, *arguments: str) -> str:
        """Run a command that has to work, and return what it prints."""
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def migrate(self) -> None:
        """Write a first revision, and run it."""
        self.do("init")
        self.do("revision", "-m", "first", "--autogenerate")
        self.do("upgrade")

    def revisions(self) -> list[Path]:
        """Return the files of the revisions."""
        return sorted((self.root / "migrations").glob("*/*.py"))

    def doctor(self, *arguments: str) -> dict[str, Finding]:
        """Return what the doctor found, by check; the status has to go with it."""
        result = self.run("doctor", "--json", *arguments)
        report = json.loads(result.stdout)
        assert result.exit_code == (1 if report["count"]["serious"] else 0), result.output
        return {each["check"]: Finding(each) for each in report["findings"]}

    def spawn(
        self, *arguments: str, given: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "dbscope", *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
            cwd=self.root,
            env=os.environ | environment,
        )


class Finding:
    """One finding of the doctor."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.subject = told["subject"]
        self.level = told["level"]
        self.found = told["found"]
        self.remedy = told["remedy"]

    def __repr__(self) -> str:
        return f"{self.level}: {self.found}"

    def is_bad(self, level: str, words: str) -> bool:
        """Tell whether it is of this level, says this, and has a remedy."""
        return (self.level, bool(self.remedy)) == (level, True) and words in self.found


@contextmanager
def imports_restored():
    """Forget afterwards where Python was told to import from."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before
