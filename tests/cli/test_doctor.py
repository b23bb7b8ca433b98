"""The doctor: it finds what is set up wrongly on purpose, and nothing else."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, make_url, text

from dbscope import Database
from tests.cli.project import ON_CONNECT, Project
from tests.support.look import until
from tests.support.pgbouncer import PROGRAM, made_up_process, pgbouncer
from tests.support.postgres import PostgresServer

DRIVERS = {
    "psycopg sync": ("Database", "psycopg"),
    "psycopg async": ("AsyncDatabase", "psycopg"),
    "asyncpg": ("AsyncDatabase", "asyncpg"),
}
ON_POSTGRESQL = pytest.mark.parametrize("driver", DRIVERS.values(), ids=DRIVERS)
ON_SQLITE = pytest.mark.parametrize("kind", ["Database", "AsyncDatabase"])
SETTINGS = """
from pydantic import SecretStr
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    secret_key: SecretStr = SecretStr("0123456789" * 4)


settings = Settings()
"""
FEW = "engine_options={'pool_size': 2, 'max_overflow': 0}"


@pytest.fixture
def database(postgres: PostgresServer, postgres_url: str) -> str:
    """A database of PostgreSQL as it should be."""
    alter(postgres_url, "SET idle_in_transaction_session_timeout = '60s'")
    return postgres_url


@pytest.fixture
def role(postgres: PostgresServer, database: str) -> Iterator[str]:
    """A role of PostgreSQL, its own password, and the URL to be it."""
    name, password = f"dbscope_{secrets.token_hex(4)}", secrets.token_hex(8)
    execute(database, f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    url = make_url(database).set(username=name, password=password)
    yield url.render_as_string(hide_password=False)
    execute(database, f"DROP ROLE {name}")


def execute(url: str, sql: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(sql)
    engine.dispose()


def alter(url: str, how: str) -> None:
    execute(url, f'ALTER DATABASE "{make_url(url).database}" {how}')


def use(project: Project, url: str, driver: tuple[str, str], **more: str) -> None:
    """Let the application use this database of PostgreSQL."""
    url = make_url(url).set(drivername=f"postgresql+{driver[1]}").render_as_string(False)
    project.write(url, kind=driver[0], **more)


def on_connect(project: Project, kind: str, sql: str) -> dict:
    """Let a listener of the application run this on each connection, and ask the doctor."""
    project.migrate()
    engine = "db.engine.sync_engine" if kind == "AsyncDatabase" else "db.engine"
    project.write(kind=kind, more=ON_CONNECT.format(engine=engine, sql=sql))
    return project.doctor()


# -- nothing to find ---------------------------------------------------------------------------


@ON_SQLITE
def test_nothing_is_wrong_with_a_healthy_application_on_sqlite(project: Project, kind: str):
    """Every check that applies is told, in the same order each time, and all are well."""
    project.write(kind=kind)
    project.migrate()
    seen = project.doctor()
    assert {each.level for each in seen.values()} == {"ok"}
    assert list(seen) == [
        "session_middleware",
        "driver",
        "pool_size",
        "database_file",
        "connection",
        "server",
        "journal_mode",
        "busy_timeout",
        "foreign_keys",
        "synchronous",
        "migrations",
    ]


@ON_POSTGRESQL
def test_nothing_is_wrong_with_a_healthy_application_on_postgresql(
    project: Project, database: str, driver
):
    """There is nothing to remedy, and at most something to know."""
    use(project, database, driver)
    project.migrate()
    seen = project.doctor()
    assert {each.level for each in seen.values()} <= {"ok", "note"}
    assert {"pooler", "max_connections", "idle_in_transaction", "migrations"} <= set(seen)


# -- SQLite ------------------------------------------------------------------------------------


@ON_SQLITE
def test_it_finds_a_journal_that_is_no_wal(project: Project, kind: str):
    """The journal mode that is in force counts, not the one that was asked for first."""
    seen = on_connect(project, kind, "PRAGMA journal_mode=DELETE")
    assert seen["journal_mode"].is_bad("warning", "DELETE")


@ON_SQLITE
def test_it_finds_foreign_keys_that_are_switched_off(project: Project, kind: str):
    """Rows that refer to nothing are serious."""
    seen = on_connect(project, kind, "PRAGMA foreign_keys=OFF")
    assert seen["foreign_keys"].is_bad("serious", "not enforced")


@ON_SQLITE
def test_it_finds_writes_that_do_not_reach_the_disk(project: Project, kind: str):
    """A file that a power failure destroys is serious."""
    seen = on_connect(project, kind, "PRAGMA synchronous=OFF")
    assert seen["synchronous"].is_bad("serious", "OFF")


@pytest.mark.parametrize(("workers", "level"), [("1", "warning"), ("2", "serious")])
def test_it_finds_a_writer_that_does_not_wait(project: Project, workers: str, level: str):
    """With several workers it is serious: they fail as soon as two of them write."""
    project.migrate()
    project.write(options="engine_options={'connect_args': {'timeout': 0}}")
    seen = project.doctor("--workers", workers)
    assert seen["busy_timeout"].is_bad(level, "0 ms")


def test_it_finds_workers_that_share_a_database_in_memory(project: Project, monkeypatch):
    """They do not share it. WEB_CONCURRENCY says how many there are."""
    project.write("sqlite://")
    assert project.doctor()["in_memory"].level == "note"
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    assert project.doctor()["in_memory"].is_bad("serious", "2 workers: each has its own")


def test_it_finds_a_folder_that_is_not_there(project: Project):
    """And makes neither folder nor file."""
    project.write("sqlite:///data/shop.db")
    assert project.doctor()["database_file"].is_bad("serious", "no folder")
    project.write()
    assert project.doctor()["database_file"].level == "note"
    assert not (project.root / "shop.db").exists()


# -- PostgreSQL --------------------------------------------------------------------------------


@ON_POSTGRESQL
def test_it_finds_a_pool_that_is_bigger_than_the_server(project: Project, database: str, driver):
    """All connections of all workers count."""
    use(project, database, driver, options="engine_options={'pool_size': 1000}")
    told = "1 worker of 1010 connections may open 1010, and the server has room for"
    assert project.doctor()["max_connections"].is_bad("serious", told)
    use(project, database, driver, options=FEW)
    assert project.doctor()["max_connections"].level == "ok"
    seen = project.doctor("--workers", "1000")
    assert seen["max_connections"].is_bad("serious", "1000 workers of 2 connections")


def test_the_limit_of_a_role_counts_too(project: Project, database: str, role: str):
    """As `ALTER ROLE … CONNECTION LIMIT` sets it."""
    execute(database, f"ALTER ROLE {make_url(role).username} CONNECTION LIMIT 3")
    use(project, role, DRIVERS["psycopg sync"], options=FEW)
    assert project.doctor()["max_connections"].level == "note"
    assert project.doctor("--workers", "2")["max_connections"].is_bad("serious", "room for 3")


def test_the_limit_of_a_database_counts_too(project: Project, database: str, role: str):
    """As `ALTER DATABASE … CONNECTION LIMIT` sets it."""
    alter(database, "CONNECTION LIMIT 7")
    use(project, role, DRIVERS["psycopg sync"])
    assert project.doctor()["max_connections"].is_bad("serious", "room for 7")


@ON_POSTGRESQL
def test_it_finds_transactions_that_nobody_ends(project: Project, database: str, driver):
    """PostgreSQL's own default is to wait for ever."""
    use(project, database, driver)
    assert project.doctor()["idle_in_transaction"].found == "ended after 1min"
    alter(database, "SET idle_in_transaction_session_timeout = 0")
    seen = project.doctor()["idle_in_transaction"]
    assert seen.is_bad("warning", "holds its locks for ever")


@pytest.mark.parametrize(
    ("leave", "found"),
    [
        ("SELECT pg_advisory_lock(7)", "1 idle session with advisory locks"),
        ("CREATE TEMPORARY TABLE a (id int)", "1 idle session with temporary tables"),
    ],
    ids=["a lock", "a table"],
)
@ON_POSTGRESQL
def test_it_finds_what_was_left_in_a_session(
    project: Project, database: str, driver, leave: str, found: str
):
    """By the running application, in the pool: the doctor is another process."""
    use(project, database, driver)
    db = Database(make_url(database).set(drivername="postgresql+psycopg"))
    with db.scope():
        db.execute(text(leave))
    try:
        assert project.doctor()["session_state"].is_bad("warning", found)
    finally:
        db.dispose()
    assert until(lambda: project.doctor()["session_state"].level == "ok")


def test_a_lock_that_is_held_on_purpose_is_not_left(project: Project, database: str):
    """`db.advisory_lock` ends with its block."""
    use(project, database, DRIVERS["psycopg sync"])
    db = Database(make_url(database).set(drivername="postgresql+psycopg"))
    with db.advisory_lock("job"):
        assert project.doctor()["session_state"].level == "ok"
    assert project.doctor()["session_state"].level == "ok"
    db.dispose()


def test_what_is_reset_is_not_left(project: Project, database: str):
    """With `reset_session=True` the application leaves nothing."""
    use(project, database, DRIVERS["psycopg sync"])
    db = Database(make_url(database).set(drivername="postgresql+psycopg"), reset_session=True)
    with db.scope():
        db.execute(text("SELECT pg_advisory_lock(7)"))
        assert project.doctor()["session_state"].level == "ok"  # who is in it may still end it
    assert project.doctor()["session_state"].level == "ok"
    db.dispose()


def test_it_finds_too_few_connections_for_the_threads(project: Project, database: str):
    """Plain endpoints run in 40 threads, of which each may want one."""
    use(project, database, DRIVERS["psycopg sync"])
    assert project.doctor()["pool_size"].is_bad("note", "while 40 threads")
    use(
        project,
        database,
        DRIVERS["psycopg sync"],
        options="engine_options={'pool_size': 20, 'max_overflow': 20}",
    )
    assert project.doctor()["pool_size"].level == "ok"


# -- a pooler ----------------------------------------------------------------------------------

PREPARING = {"psycopg": "prepare_threshold", "asyncpg": "statement_cache_size"}


def preparing(driver: tuple[str, str]) -> str:
    """Return options by which a driver prepares statements, whatever is in between."""
    return f"engine_options={{'connect_args': {{'{PREPARING[driver[1]]}': 5}}}}"


WITH_PGBOUNCER = pytest.mark.skipif(
    PROGRAM is None and not os.environ.get("CI"), reason="PgBouncer is not installed"
)


@WITH_PGBOUNCER
@ON_POSTGRESQL
def test_it_finds_prepared_statements_behind_pgbouncer(project: Project, database: str, driver):
    """A real one, in transaction mode; what the remedy says helps."""
    with pgbouncer(database, "transaction") as url:
        use(project, url, driver, options=preparing(driver))
        seen = project.doctor()["pooler"]
        assert seen.is_bad("serious", "in another transaction")
        assert f"Leave '{PREPARING[driver[1]]}' out" in seen.remedy
        use(project, url, driver)
        assert project.doctor()["pooler"].level == "ok"


@WITH_PGBOUNCER
@ON_POSTGRESQL
def test_pgbouncer_in_session_mode_is_less_bad(project: Project, database: str, driver):
    """Each client has a connection of the server to itself, until somebody changes the mode."""
    with pgbouncer(database, "session") as url:
        use(project, url, driver, options=preparing(driver))
        assert project.doctor()["pooler"].is_bad("warning", "pools whole sessions")


@WITH_PGBOUNCER
@ON_POSTGRESQL
def test_the_doctor_leaves_nothing_prepared_behind(project: Project, database: str, driver):
    """Its own statements would be in the way of the next client of the same connection."""
    with pgbouncer(database, "transaction") as url:
        use(project, url, driver)
        project.doctor()
        engine = create_engine(url, connect_args={"prepare_threshold": None})
        with engine.connect() as connection:
            left = connection.exec_driver_sql("SELECT statement FROM pg_prepared_statements")
            assert left.all() == []
        engine.dispose()


@ON_POSTGRESQL
def test_it_finds_what_looks_like_a_pooler(project: Project, database: str, driver):
    """Without PgBouncer: something that changes what PgBouncer changes on the wire.

    That is BackendKeyData: PgBouncer makes up the process that it tells a client, and
    `pg_backend_pid()` tells the true one. It keeps no account of prepared statements, as PgBouncer
    before 1.21. Here each client has its own connection, so it looks like session mode.
    """
    with made_up_process(database) as url:
        use(project, url, driver, options=preparing(driver))
        seen = project.doctor()
        assert seen["pooler"].is_bad("warning", "prepare statements")
        assert "max_connections" not in seen  # the limit is the pooler's
        use(project, url, driver)
        assert project.doctor()["pooler"].level == "ok"


# -- migrations --------------------------------------------------------------------------------


def test_it_finds_a_database_that_is_behind(project: Project):
    """The remedy is the command that brings it up to date."""
    project.migrate()
    project.do("revision", "-m", "second")
    seen = project.doctor()["migrations"]
    assert seen.is_bad("serious", "1 revision behind, up to ")
    project.do(*seen.remedy.split()[1:])
    assert project.doctor()["migrations"].level == "ok"


def test_it_finds_a_database_that_is_ahead(project: Project):
    """Newer code has migrated it, and its file is not here."""
    project.migrate()
    project.do("revision", "-m", "second")
    project.do("upgrade")
    second = next(path for path in project.revisions() if path.stem.endswith("second"))
    second.unlink()
    assert project.doctor()["migrations"].is_bad("serious", "The database is ahead: it has ")


def test_it_finds_two_heads(project: Project):
    """Two people have each made a revision; upgrade would not know which."""
    project.migrate()
    project.do("revision", "-m", "second")
    second = next(path for path in project.revisions() if path.stem.endswith("second"))
    third = second.read_text().replace("second", "third")
    id_ = second.stem.split("_")[1]
    (second.parent / "third.py").write_text(third.replace(id_, "0123456789ab"))
    assert project.doctor()["migrations"].is_bad("serious", "2 heads of the branch schema")


def test_it_finds_that_there_are_no_migrations(project: Project):
    """The remedy of the settings that are missing is in the sentence."""
    (project.root / "shop.db").touch()
    assert project.doctor()["migrations"].is_bad("serious", "`dbscope init` writes it")


# -- the application ---------------------------------------------------------------------------


def test_it_finds_a_default_secret(project: Project, monkeypatch):
    """What the code has, others know. Only its name is shown."""
    project.write(more=SETTINGS)
    result = project.run("doctor", "--json")
    assert "0123456789" not in result.output
    seen = project.doctor()["default_secrets"]
    assert seen.is_bad("serious", "Settings.secret_key")
    monkeypatch.setenv("SECRET_KEY", secrets.token_urlsafe(32))
    assert project.doctor()["default_secrets"].level == "ok"


def test_it_finds_a_short_secret(project: Project, monkeypatch):
    """One that signs has as many bytes as the signature."""
    project.write(more=SETTINGS)
    monkeypatch.setenv("SECRET_KEY", "x" * 31)
    assert project.doctor()["short_secrets"].is_bad("serious", "Settings.secret_key")
    monkeypatch.setenv("SECRET_KEY", "x" * 64)
    assert project.doctor()["short_secrets"].is_bad("serious", "Settings.secret_key")
    monkeypatch.setenv("SECRET_KEY", secrets.token_urlsafe(24))
    assert project.doctor()["short_secrets"].level == "ok"


def test_it_finds_a_short_key_of_the_session_cookies(project: Project):
    """Starlette takes any."""
    more = (
        "\nfrom starlette.middleware.sessions import SessionMiddleware\n"
        "app.add_middleware(SessionMiddleware, secret_key='changeme')\n"
    )
    project.write(more=more)
    assert project.doctor()["short_secrets"].is_bad("serious", "SessionMiddleware")


def test_an_application_has_checks_of_its_own(project: Project):
    """Told by their names; one that finds nothing is not told, and one that fails is a warning."""
    more = (
        "\ndef demo_user():\n    return 'Everybody can log in.', 'Delete that user.'\n"
        "def nothing():\n    return None\n"
        "def broken():\n    raise ValueError('no table')\n"
        "app.state.doctor = [demo_user, nothing, broken]\n"
    )
    project.write(more=more)
    seen = project.doctor()
    assert seen["demo_user"].is_bad("serious", "Everybody can log in.")
    assert seen["broken"].is_bad("warning", "no table")
    assert "nothing" not in seen


def test_it_finds_a_password_that_everybody_tries(project: Project, database: str):
    """That of the database, too."""
    url = make_url(database).set(username="shop", password="changeme").render_as_string(False)
    project.write(url)
    assert project.doctor()["database_password"].is_bad("warning", "the database db")


def test_it_finds_an_application_without_the_middleware(project: Project):
    """Its requests have no session."""
    text = (project.root / "shop.py").read_text()
    (project.root / "shop.py").write_text(text.replace("db.install(app)\n", ""))
    assert project.doctor()["session_middleware"].is_bad("serious", "no DBSessionMiddleware")


# -- what cannot be looked at ------------------------------------------------------------------


def test_it_finds_a_driver_that_is_missing(project: Project):
    """The other checks of the same database are left out."""
    project.write("mysql+mysqldb://me:hunter2@127.0.0.1/shop")
    seen = project.doctor()
    assert seen["driver"].is_bad("serious", "The driver 'mysqldb' is not installed")
    assert list(seen) == ["session_middleware", "driver"]


def test_several_databases_are_all_looked_at(project: Project):
    """Or the one that is chosen."""
    project.write(more="\nother = Database('sqlite://', name='other')\n")
    report = json.loads(project.run("doctor", "--json").stdout)
    assert {each["subject"] for each in report["findings"]} == {"application", "db", "other"}
    report = json.loads(project.run("doctor", "--json", "--database", "other").stdout)
    assert {each["subject"] for each in report["findings"]} == {"application", "other"}


# -- how it is told ----------------------------------------------------------------------------


def test_the_json_is_stable(project: Project):
    """Its keys stay, and the same state gives the same text."""
    project.migrate()
    first, second = project.do("doctor", "--json"), project.do("doctor", "--json")
    assert first == second
    report = json.loads(first)
    assert list(report) == ["target", "count", "findings"]
    assert report["count"] == {"ok": 11, "note": 0, "warning": 0, "serious": 0}
    keys = ["subject", "check", "level", "found", "remedy"]
    assert all(list(each) == keys for each in report["findings"])


def test_the_text_has_each_finding_with_its_remedy(project: Project):
    """In plain words, and a sum at the end; the status is 1 if anything is serious."""
    project.migrate()
    project.do("revision", "-m", "second")
    result = project.run("doctor")
    assert result.exit_code == 1
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[0] == "application shop:app"
    assert lines[-1] == "1 serious, 0 warnings, 0 notes, 10 ok"
    at = next(place for place, line in enumerate(lines) if line.startswith("serious"))
    assert lines[at].startswith("serious  migrations")
    assert lines[at + 1] == "→ dbscope upgrade"
