"""Brokers on loopback, which must be there in CI; a database; and the table of the guide."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.services import services  # noqa: F401  (a fixture)
from tests.support.look import Onlooker

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "how-to" / "jobs.md"
TABLES = """
    CREATE TABLE stored (id serial PRIMARY KEY, name text NOT NULL, message text);
    CREATE TABLE parent (id integer PRIMARY KEY);
    CREATE TABLE broken (parent integer NOT NULL REFERENCES parent DEFERRABLE INITIALLY DEFERRED)
"""
MADE = pytest.StashKey[dict[str, dict[str, str]]]()


@pytest.fixture
def jobs_url(postgres_url: str) -> str:
    """A database with the tables of the workers."""
    return with_tables(postgres_url)


@pytest.fixture
def jobs_urls(postgres: Any, request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Return what makes such databases."""
    made: list[str] = []

    def make() -> str:
        made.append(postgres.new_database(f"{request.node.name}{len(made)}"))
        return with_tables(made[-1])

    yield make
    for url in made:
        postgres.drop_database(url)


def with_tables(url: str) -> str:
    """Make the tables, and return the URL."""
    with Onlooker(url) as look:
        for statement in TABLES.split(";"):
            look.execute(statement)
    return url


def table_of_the_guide() -> dict[str, list[str]]:
    """Return the rows of the table in the guide, by their system."""
    rows = re.findall(r"^\| (.+?) \|$", GUIDE.read_text("utf-8"), re.MULTILINE)
    cells = [[cell.strip() for cell in row.split("|")] for row in rows]
    return {first: rest for first, *rest in cells}


@pytest.fixture
def made(request: pytest.FixtureRequest) -> dict[str, dict[str, str]]:
    """What became of the cases of each system: printed at the end."""
    return request.config.stash.setdefault(MADE, {})


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Print the table as the guide has it."""
    if made := config.stash.get(MADE, {}):
        terminalreporter.section("jobs: rows stored / runs")
        for system, cells in made.items():
            terminalreporter.write_line(f"| {system} | {' | '.join(cells.values())} |")
