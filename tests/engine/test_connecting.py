"""What a failure to connect means: somebody has to configure something, or the server is away."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import URL, event, select
from sqlalchemy.engine import make_url
from sqlalchemy.util import await_only

from dbscope import ConfigurationError, DatabaseUnavailable, DBScopeError
from tests.asgi import Answer, ask
from tests.support import wire
from tests.support.pgbouncer import PROGRAM, pgbouncer
from tests.support.proxy import Proxy
from tests.worlds import MYSQL, Both, Item, World, is_postgresql, is_sqlite, plain_engine

servers = pytest.mark.worlds(drivers=lambda driver: not is_sqlite(driver), places=["scope"])
postgres = pytest.mark.worlds(drivers=is_postgresql, places=["scope"])
mysql = pytest.mark.worlds(drivers=lambda driver: driver in MYSQL, places=["scope"])
sqlite = pytest.mark.worlds(drivers=is_sqlite, places=["scope"])


def connect(world: World, url: str | URL) -> None:
    """Let the world have this URL."""
    world.place = "scope"  # `request` may have been here
    world.database = type(world.database)(url)


def failures(world: World, kind: type[DBScopeError]) -> list[str]:
    """Fail unless ping, scopes and a read-only one fail by that; return what they say."""

    def story(db: Both) -> list[str]:
        told = []
        for scope in ({}, {"atomic": False}, {"readonly": True}):
            with pytest.raises(kind) as raised, db.scope(**scope):
                db.execute(select(Item))
            told.append(str(raised.value))
            assert not db.is_retryable(raised.value)
        with pytest.raises(kind) as raised:
            db.ping()
        return [*told, str(raised.value)]

    told: list[str] = world.play(story)
    assert len(set(told)) == 1, "the same at the request as at ping()"
    return told


def is_configuration(world: World) -> None:
    """Fail unless it is a ConfigurationError, and at HTTP an ordinary error."""
    for told in failures(world, ConfigurationError):
        assert "try again" not in told
    answer = request(world)
    assert isinstance(answer.error, ConfigurationError)
    assert answer.status in (None, 500)  # of Starlette, outside of us


def is_away(world: World) -> None:
    """Fail unless it is a DatabaseUnavailable, and 503 at HTTP."""
    failures(world, DatabaseUnavailable)
    assert request(world).status == 503


def request(world: World) -> Answer:
    """Return the answer to a request that reads."""
    app, db = FastAPI(), Both(world.database)

    def read() -> None:
        db.execute(select(Item))

    if world.is_async:
        app.get("/")(db.awaitable(read))
    else:
        app.get("/")(read)
    world.database.install(app)
    world.place = "request"
    answer: Answer = world.play(lambda db: await_only(ask(app, "GET", "/")))
    return answer


# -- what has to be configured otherwise -----------------------------------------------------------


@servers
def test_an_unknown_database(world: World) -> None:
    """It will be unknown for ever."""
    connect(world, make_url(world.url).set(database="nowhere"))
    is_configuration(world)


@servers
def test_an_unknown_role(world: World) -> None:
    """Or user, as MariaDB says."""
    connect(world, make_url(world.url).set(username="nobody_at_all"))
    is_configuration(world)


@mysql
def test_a_wrong_password(world: World) -> None:
    """Of a user that there is."""
    connect(world, make_url(world.url).set(password="wrong"))
    is_configuration(world)


@sqlite
def test_a_missing_folder(world: World, tmp_path: Path) -> None:
    """SQLite makes files, and no folders."""
    connect(world, make_url(world.url).set(database=str(tmp_path / "missing" / "test.db")))
    is_configuration(world)


@sqlite
def test_a_folder_in_place_of_a_file(world: World, tmp_path: Path) -> None:
    """It is none for as long as it is there."""
    connect(world, make_url(world.url).set(database=str(tmp_path)))
    is_configuration(world)


# What cannot be meant, by the name of the driver: some say so before they connect, and some after.
WRONG = {
    "psycopg": [
        {"nosuch": "1"},
        {"connect_timeout": "soon"},
        {"sslmode": "sometimes"},
        {"options": "5"},
    ],
    "asyncpg": [{"nosuch": "1"}, {"command_timeout": "soon"}, {"ssl": "sometimes"}],
    "pymysql": [{"nosuch": "1"}, {"connect_timeout": "soon"}, {"ssl_ca": "/nowhere/ca.pem"}],
    "asyncmy": [
        {"nosuch": "1"},
        {"connect_timeout": "soon"},
        {"init_command": "NONSENSE"},
        {"init_command": "SET nosuch = 1"},
        {"charset": "nosuch"},
        {"sql_mode": "NOSUCH"},
    ],
    "sqlite": [{"timeout": "soon"}, {"cached_statements": "many"}],
}
WRONG["pymysql"] += [*WRONG["asyncmy"], {"collation": "nosuch"}]


@pytest.mark.worlds(places=["scope"])
def test_an_option_of_the_url_that_the_driver_cannot_take(world: World) -> None:
    """Whatever error the driver has for it, and whether it has asked the server before."""
    url = make_url(world.url)
    for query in WRONG["sqlite" if world.is_sqlite else url.get_driver_name()]:
        connect(world, url.update_query_dict(query))
        is_configuration(world)


# What a driver takes, and trips over: some when they connect, some by the first question. The names
# are those that a message has.
TRIPPED: dict[str, list[dict[str, Any]]] = {
    "psycopg": [
        {"prepare_threshold": "soon"},
        {"cursor_factory": 5},
        {"row_factory": lambda _: 5},
    ],
    "asyncpg": [
        {"prepared_statement_cache_size": "x"},
        {"prepared_statement_name_func": 5},
        {"server_settings": 5},
        {"server_settings": {"jit": 5}},
        {"connection_class": 5},
    ],
    "pymysql": [{"cursorclass": 5}, {"cursorclass": dict}, {"conv": 5}, {"read_timeout": "x"}],
    "asyncmy": [{"cursor_cls": 5}, {"conv": 5}, {"init_command": 5}, {"unix_socket": 5}],
    "sqlite": [{"detect_types": "x"}, {"cached_statements": "x"}],
}


@pytest.mark.worlds(places=["scope"])
def test_an_argument_of_the_driver_that_it_trips_over(world: World) -> None:
    """The message names what was given, of which one is wrong."""
    kind = type(world.database)
    for args in TRIPPED["sqlite" if world.is_sqlite else make_url(world.url).get_driver_name()]:
        world.place = "scope"
        world.database = kind(world.url, engine_options={"connect_args": args})
        for told in failures(world, ConfigurationError):
            assert next(iter(args)) in told
        assert isinstance(request(world).error, ConfigurationError)


LEVELS = [{"isolation_level": "SNAPSHOT"}, {"execution_options": {"isolation_level": "SNAPSHOT"}}]
OF_ENGINE: list[dict[str, Any]] = [*LEVELS, {"pool_events": 5}]


@pytest.mark.worlds(places=["scope"])
@pytest.mark.parametrize("options", OF_ENGINE, ids=str)
def test_an_option_of_the_engine_that_shows_when_it_is_made(
    world: World, options: dict[str, Any]
) -> None:
    """No database of ours has such an isolation level, which SQLAlchemy looks at late."""
    world.database = type(world.database)(world.url, engine_options=options)
    for told in failures(world, ConfigurationError):
        assert "isolation_level" in told or next(iter(options)) in told


class Trouble(Exception):
    """Of the application's own."""


@pytest.mark.worlds(places=["scope"])
def test_what_listeners_of_the_application_raise(world: World) -> None:
    """Its own errors come as they are; those of a wrong value, and of being away, are ours."""
    raised = {ValueError: ConfigurationError, OSError: DatabaseUnavailable, Trouble: Trouble}
    for kind, meant in raised.items():
        world.place = "scope"
        world.database = type(world.database)(world.url)

        def fail(*args: Any, kind: Any = kind) -> None:
            raise kind("of the listener")

        event.listen(plain_engine(world.database), "connect", fail)

        def story(db: Both, meant: Any = meant) -> None:
            for way in (db.ping, lambda: read_in(db), lambda: read_in(db, readonly=True)):
                with pytest.raises(meant, match="of the listener"):
                    way()

        world.play(story)


def read_in(db: Both, **scope: Any) -> None:
    with db.scope(**scope):
        db.execute(select(Item))


@postgres
def test_a_server_that_does_not_encrypt(world: World) -> None:
    """Where the URL asks for that: the test's own server has no certificate."""
    url = make_url(world.url)
    option = "ssl" if url.get_driver_name() == "asyncpg" else "sslmode"
    connect(world, url.update_query_dict({option: "require"}))
    is_configuration(world)


@postgres
def test_a_server_that_ends_while_it_is_asked_for_encryption(world: World, proxy: Proxy) -> None:
    """It is away: who has connected before has nothing to configure."""
    connect(world, proxy.through(world.url))

    def story(db: Both) -> None:
        db.ping()
        proxy.say_over()
        proxy.cut_all()
        for _ in range(2):  # the pool's connection is lost, and no new one can be had
            with pytest.raises(DatabaseUnavailable):
                db.ping()
        proxy.pass_through()
        db.ping()

    world.play(story)


# -- whatever the server's language is -------------------------------------------------------------


@contextmanager
def refusing(state: str, told: str = "das geht hier leider nicht") -> Iterator[int]:
    """Be a server that refuses everybody by this SQLSTATE; give its port."""
    fields = {"S": "FATAL", "V": "FATAL", "C": state, "M": told, "R": "somewhere"}
    body = b"".join(f"{key}{value}\0".encode() for key, value in fields.items()) + b"\0"
    answer = b"E" + (len(body) + 4).to_bytes(4, "big") + body

    def serve(client: socket.socket) -> None:
        with client, suppress(OSError):
            messages = wire.Messages(from_client=True)
            while data := client.recv(65536):
                for _, message in messages.feed(data):
                    if wire.asks_for_encryption(message):
                        client.sendall(b"N")
                    else:
                        client.sendall(answer)
                        return

    def accept() -> None:
        with suppress(OSError):  # the end
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


PERMANENT = ["28000", "28P01", "3D000", "42501", "42704", "22023"]
TEMPORARY = ["53300", "57P01", "57P02", "57P03", "55000", "08006", "08P01"]


@postgres
@pytest.mark.parametrize("state", PERMANENT)
def test_a_code_that_will_come_again(world: World, state: str) -> None:
    """By code: the words are in the server's language, and all that libpq keeps are the words."""
    with refusing(state) as port:
        connect(world, make_url(world.url).set(host="127.0.0.1", port=port))
        is_configuration(world)


@postgres
@pytest.mark.parametrize("state", TEMPORARY)
def test_a_code_that_will_pass(world: World, state: str) -> None:
    """Too many connections, and a server that is starting or ending."""
    with refusing(state) as port:
        connect(world, make_url(world.url).set(host="127.0.0.1", port=port))
        is_away(world)


@servers
def test_nobody_is_there(world: World) -> None:
    """The connection is refused: that may be otherwise in a moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    connect(world, make_url(world.url).set(host="127.0.0.1", port=port))
    is_away(world)


@postgres
def test_too_many_connections_of_a_role(world: World) -> None:
    """53300 of a real server, whose words psycopg alone has."""
    world.look.execute("DROP ROLE IF EXISTS crowd")
    world.look.execute("CREATE ROLE crowd LOGIN PASSWORD 'few' CONNECTION LIMIT 0")
    try:
        connect(world, make_url(world.url).set(username="crowd", password="few"))
        is_away(world)
    finally:
        world.look.execute("DROP ROLE crowd")


# -- a pooler --------------------------------------------------------------------------------------

WORDS = {
    "no such database: nowhere": ConfigurationError,
    "no such user: nobody": ConfigurationError,
    "password authentication failed": ConfigurationError,
    "SASL authentication failed": ConfigurationError,
    "unsupported startup parameter: options": ConfigurationError,
    'server login failed: FATAL: role "nobody" does not exist': ConfigurationError,
    "no more connections allowed (max_client_conn)": DatabaseUnavailable,
    "query_wait_timeout": DatabaseUnavailable,
    "pgbouncer cannot connect to server": DatabaseUnavailable,
    "server login failed: FATAL: sorry, too many clients already": DatabaseUnavailable,
}


@postgres
@pytest.mark.parametrize(("told", "kind"), WORDS.items(), ids=WORDS)
def test_pgbouncer_has_one_code_for_all(world: World, told: str, kind: type[DBScopeError]) -> None:
    """08P01 until 1.20; its words are in no language but one."""
    with refusing("08P01", told) as port:
        connect(world, make_url(world.url).set(host="127.0.0.1", port=port))
        assert told in failures(world, kind)[0]


@postgres
@pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")
def test_a_database_that_pgbouncer_does_not_know(world: World) -> None:
    """A real one."""
    with pgbouncer(world.url, "transaction") as url:
        connect(world, make_url(url).set(database="nowhere"))
        is_configuration(world)
