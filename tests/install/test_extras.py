"""Each extra alone, and none, from the wheel: against the newest SQLAlchemy, and the oldest."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.install.environments import FLOOR, Environment, floors, make, told, wheel

TRIAL = Path(__file__).parent / "trial.py"
EXTRAS = [
    "none",
    "aiosqlite",
    "postgres",
    "asyncpg",
    "mysql",
    "fastapi",
    "migrations",
    "cli",
    "celery",
    "dramatiq",
    "faststream",
    "opentelemetry",
    "procrastinate",
    "prometheus",
    "saq",
    "sentry",
    "taskiq",
    "all",
]
SERVERS = {  # by extra: the driver, and the fixture that has a server for it
    "postgres": ("postgresql+psycopg", "postgres_url"),
    "asyncpg": ("postgresql+asyncpg", "postgres_url"),
    "all": ("postgresql+asyncpg", "postgres_url"),
}

pytestmark = [pytest.mark.ci, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Bare:
    """The wheel, which versions are allowed, and an environment with no more than it needs."""

    wheel: Path
    constraints: Path
    environment: Environment


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel."""
    return wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def bare(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bare]:
    """Return the environment without an extra, which is made once."""

    @functools.cache
    def of(versions: str) -> Bare:
        folder = tmp_path_factory.mktemp(versions)
        constraints = folder / "constraints.txt"
        constraints.write_text("\n".join(floors(built)) if versions == "oldest" else "")
        environment = make(folder / "environment")
        environment.install("--constraint", str(constraints), str(built))
        environment.compile()
        return Bare(built, constraints, environment)

    return of


def test_every_extra_is_tried(built: Path):
    """What the wheel offers is what is tried below; and it has a floor for all that it needs."""
    assert {"none", *told(built, "Provides-Extra")} == set(EXTRAS)
    assert [line for line in told(built, "Requires-Dist") if not FLOOR.match(line)] == []


@pytest.mark.parametrize("versions", ["newest", "oldest"])
@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_alone_is_enough_for_what_it_promises(
    extra: str,
    versions: str,
    bare: Callable[[str], Bare],
    tmp_path: Path,
    request: pytest.FixtureRequest,
):
    """Plain and async code run with any; what is missing is a sentence that names its extra."""
    urls = []
    if extra in SERVERS:
        driver, fixture = SERVERS[extra]
        url = request.getfixturevalue(fixture)
        urls = [url.replace("postgresql+psycopg", driver, 1)]
    without = bare(versions)
    environment = without.environment.copy(tmp_path / "environment")
    if extra != "none":
        constraints = str(without.constraints)
        environment.install("--constraint", constraints, f"{without.wheel}[{extra}]")
    folder = tmp_path / "work"
    folder.mkdir()
    (version,) = told(without.wheel, "Version")
    command = [str(environment.python), "-I", str(TRIAL), extra, version, *urls]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
