"""A database that is away, and one that refuses us: one sentence, status 1, no password."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from tests.cli.project import Project
from tests.support.postgres import OwnServer, PostgresServer

SECRET = "hunter2-hunter2"
COMMANDS = [["ping"], ["current"], ["upgrade"], ["check"], ["stamp"]]


@pytest.fixture(params=["Database psycopg", "AsyncDatabase psycopg", "AsyncDatabase asyncpg"])
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    kind, driver = request.param.split()
    return kind, driver


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port that is taken, where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def silence() -> Iterator[int]:
    """A port where connections are accepted, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def refused(project: Project, *arguments: str, status: int = 1) -> str:
    """Run what has to fail in one sentence, and return that."""
    result = project.run(*arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.startswith("dbscope: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    assert SECRET not in result.stderr
    return result.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_server_that_is_away(project: Project, kind, nobody: int, command: list[str]):
    """It says which one."""
    project.do("init")
    project.write(f"postgresql+{kind[1]}://me:{SECRET}@127.0.0.1:{nobody}/shop", kind=kind[0])
    assert f":{nobody}" in refused(project, *command)


def test_a_server_that_says_nothing(project: Project, kind, silence: int):
    """`ping` waits no longer than it was told, whatever the driver does."""
    project.write(f"postgresql+{kind[1]}://me:{SECRET}@127.0.0.1:{silence}/shop", kind=kind[0])
    assert "did not answer within 0.3 seconds" in refused(project, "ping", "--timeout", "0.3")
    seen = project.doctor("--timeout", "0.3")
    assert seen["connection"].is_bad("serious", "did not answer within 0.3 seconds")


def test_a_wrong_password(project: Project, kind, private_postgres: OwnServer):
    """It says whose it is, and not what it is."""
    url = make_url(private_postgres.url(kind[1])).set(password=SECRET)
    project.write(url.render_as_string(hide_password=False), kind=kind[0])
    assert 'password authentication failed for user "postgres"' in refused(
        project, "ping", status=2
    )
    seen = project.doctor()
    assert seen["connection"].is_bad("serious", "password authentication failed")


def test_a_database_that_does_not_exist(project: Project, kind, postgres: PostgresServer):
    """It says so."""
    project.write(postgres.url(kind[1], "no_such_database"), kind=kind[0])
    assert 'database "no_such_database" does not exist' in refused(project, "ping", status=2)


def test_a_driver_that_is_not_installed(project: Project):
    """It says what to install; nothing could begin."""
    project.do("init")
    project.write(f"mysql+mysqldb://me:{SECRET}@127.0.0.1/shop")
    for command in COMMANDS:
        told = refused(project, *command, status=2)
        assert "The driver 'mysqldb' is not installed" in told
        assert "pip install mysqlclient." in told


def test_ping_makes_no_file(project: Project):
    """A SQLite database that is not there is not made by asking for it."""
    assert "There is no file shop.db" in refused(project, "ping")
    assert not (project.root / "shop.db").exists()


def test_ping_says_what_answers(project: Project, postgres_url: str, kind):
    """Driver, server, and how fast."""
    url = make_url(postgres_url).set(drivername=f"postgresql+{kind[1]}")
    project.write(url.render_as_string(hide_password=False), kind=kind[0])
    lines = dict(line.split(maxsplit=1) for line in project.do("ping").splitlines())
    assert lines["server"].startswith("PostgreSQL ")
    assert lines["driver"].startswith(f"{kind[1]} ")
    assert lines["connect"].endswith(" ms")
