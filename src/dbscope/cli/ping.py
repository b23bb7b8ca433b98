"""`dbscope ping`: does it answer, what is it, and how fast."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated, Any

import typer
from sqlalchemy import Connection, Integer, Select, literal_column, select
from sqlalchemy.exc import DBAPIError

from dbscope import DatabaseUnavailable, masked
from dbscope.backends.doctor import Doctor
from dbscope.cli.ask import ask, file_of, plain_engine
from dbscope.cli.find import AnyDatabase, Found
from dbscope.cli.say import one_line, say
from dbscope.cli.versions import driver_version, server_version

ROUNDS = 10
SIGN_OF_LIFE: Select[Any] = select(literal_column("1", Integer))
Seconds = Annotated[float, typer.Option("--timeout", help="Seconds to wait for an answer.")]


def ping(found: Found, timeout: Seconds = 10.0) -> None:
    """Ask the database for a sign of life, and how fast it is."""
    name, db = found.name, found.database
    file = file_of(db)
    if file is not None and not file.exists():
        raise DatabaseUnavailable(f"There is no file {file}.")
    started = time.perf_counter()
    try:
        server, connected, fastest = ask(db, partial(answers, db.backend.doctor()), timeout)
    except (DBAPIError, TimeoutError) as error:
        raise DatabaseUnavailable(f"{shown(db)}: {one_line(error)}.") from error
    say(f"database    {name}: {shown(db)}")
    say(f"server      {server}")
    say(f"driver      {driver_version(plain_engine(db))}")
    say(f"connect     {(connected - started) * 1000:.1f} ms")
    say(f"round trip  {fastest * 1000:.2f} ms (the fastest of {ROUNDS})")


def answers(doctor: Doctor, connection: Connection) -> tuple[str, float, float]:
    """Return server, when it was connected, and seconds of a round trip."""
    connected = time.perf_counter()
    times: list[float] = []
    for _ in range(ROUNDS):
        before = time.perf_counter()
        connection.execute(SIGN_OF_LIFE).close()
        times.append(time.perf_counter() - before)
    return server_version(connection, doctor), connected, min(times)


def shown(db: AnyDatabase) -> str:
    """Return the URL without its password."""
    return masked(db.url)
