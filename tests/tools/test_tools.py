"""Tools of others see each statement once, and name the line of the application."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url

from tests.tools.application import REQUESTS, Base
from tests.worlds import DRIVERS, SYNC

APPLICATION = Path(__file__).parent / "application.py"
TOOLS = ["asgi-profiler", "opentelemetry", "queryspy", "sentry", "tracepanel"]
NO_LINE = {("queryspy", "flush")}  # it looks at what the ORM reads

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(params=["sqlite and postgresql", "mysql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Return the URLs of databases with the table, for each driver."""
    if request.param == "mysql":
        servers = {"mysql": request.getfixturevalue("mysql_server").new_database("tools")}
    else:
        servers = {"sqlite": f"sqlite:///{tmp_path}/tools.db"}
        servers["postgresql"] = request.getfixturevalue("postgres_url")
    for url in servers.values():
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        engine.dispose()
    return {
        name: make_url(url).set(drivername=driver).render_as_string(hide_password=False)
        for name, driver in DRIVERS.items()
        for server, url in servers.items()
        if driver.startswith(server)
    }


def line_of(driver: str, name: str) -> str:
    """Return the place in the application that a request's statement comes from."""
    word = f"# {'plain' if driver in SYNC else 'async'} {name}"
    lines = APPLICATION.read_text(encoding="utf-8").splitlines()
    return f"application.py:{next(n for n, line in enumerate(lines, 1) if line.endswith(word))}"


@pytest.mark.parametrize("tool", TOOLS)
def test_each_statement_is_seen_once_and_at_its_line(
    tool: str, urls: dict[str, str], python: str, tmp_path: Path
) -> None:
    """In requests and read-only ones, of statements, flushes and conveniences, for every driver."""
    command = [python, "-m", "tests.tools.look", tool, json.dumps(urls)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert set(told) == set(urls)
    for driver, requests in told.items():
        assert set(requests) == set(REQUESTS)
        for name, seen in requests.items():
            assert len(seen) == 1, (driver, name, seen)
            if (tool, name) not in NO_LINE:
                assert line_of(driver, name) in str(seen[0][1]), (driver, name)
