"""The shop keeps to its OpenAPI document, whatever it is asked (schemathesis, from outside)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.acceptance.shop import Shop, log_in, new_item, register, shop

# All checks but these:
EXCLUDED = {
    # What is no cursor, or no decimal above zero, is a 422: JSON Schema has no words for either.
    "positive_data_acceptance",
    # Starlette answers 405 from the first of several routes of a path, so `Allow` has its method.
    "allow_header_conformance",
}


# Besides the usual ones: `If-Match` is looked at before the body is.
REJECTING = ["400", "401", "403", "404", "405", "406", "409", "412", "413", "415", "422", "429"]
CONFIG = f"""
suppress-health-check = ["too_slow"] # that is the machine
[checks.negative_data_rejection]
expected-statuses = {REJECTING}
"""


@pytest.fixture
def running(request, tmp_path) -> Iterator[Shop]:
    """A shop with no limit to attempts, and much credit."""
    url = f"sqlite:///{tmp_path}/shop.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").new_database("schema", None)
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    plenty = {"WELCOME_CREDIT": "999999", "LOGIN_ATTEMPTS": "1000000/minute"}
    with shop(url, tmp_path, **plenty) as running:
        yield running


def on(usual: str, other: str) -> pytest.MarkDecorator:
    """Run on one database always, and on the other one if there is time."""
    where = [usual, pytest.param(other, marks=pytest.mark.long)]
    return pytest.mark.parametrize("running", where, indirect=True)


@pytest.fixture
def cookie(running) -> str:
    """The cookie of a user who owns an item."""
    with running.visitor() as client:
        register(client, "anna@example.com")
        cookie = log_in(client, "anna@example.com")
        new_item(client, "cup", stock=1000)
    return cookie


def explore(running: Shop, examples: int, *options: str) -> None:
    """Ask whatever comes to schemathesis' mind; fail if an answer is not as documented."""
    log = running.log.with_name("schemathesis")
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{running.base}/openapi.json"),
        *("--exclude-checks", ",".join(sorted(EXCLUDED))),
        *("--max-examples", str(examples), "--continue-on-failure", "--no-shrink", "--no-color"),
        *("--generation-deterministic", *options),
    ]
    with log.open("wb") as file:
        done = subprocess.run(
            command, cwd=running.log.parent, stdout=file, stderr=file, timeout=1500, check=False
        )
    assert done.returncode == 0, log.read_text(errors="replace")
    assert "Traceback" not in running.text


@on("sqlite", "postgresql")
@pytest.mark.timeout(1600)
def test_a_stranger_gets_only_documented_answers(running, times):
    """No 500, no undocumented status, and each body as its schema: for who is not logged in."""
    explore(running, times(5, 200))


@on("postgresql", "sqlite")
@pytest.mark.timeout(1600)
def test_a_user_gets_only_documented_answers(running, cookie, times):
    """The same for who is logged in, and stays so: nobody logs out meanwhile."""
    stay = ["--exclude-path", "/logout", "--exclude-path", "/login", "--exclude-path", "/users"]
    explore(running, times(25, 500), "-H", f"Cookie: session={cookie}", *stay)
