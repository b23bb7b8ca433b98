"""The ways through the house, walked: which rooms stand between what is asked and the wire.

`docs/architecture.md` prints what is counted here.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from greenlet import getcurrent
from sqlalchemy import ForeignKey, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

import dbscope
from dbscope import AsyncDatabase, Database
from dbscope.sqlite_inline.connection import InlineConnection
from dbscope.unit import rollback
from dbscope.unit.commit_state import CommitState

HOUSE = str(Path(dbscope.__file__).parent) + "/"
PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"


class Base(DeclarativeBase):
    """The tables of the walk."""


class Part(Base):
    """One that belongs to another, which COMMIT looks for."""

    __tablename__ = "parts"

    id: Mapped[int] = mapped_column(primary_key=True)
    of: Mapped[int | None] = mapped_column(
        ForeignKey("parts.id", deferrable=True, initially="DEFERRED")
    )


def frames() -> Iterator[FrameType]:
    """Give the calls that wait for this one, the innermost first, through all greenlets."""
    carrier: Any = getcurrent()
    frame = inspect.currentframe()
    while frame is not None or carrier.parent is not None:
        if frame is None:
            carrier = carrier.parent
            frame = carrier.gr_frame
        else:
            yield frame
            frame = frame.f_back


def rooms() -> list[str]:
    """Return the modules of ours that wait for this call, the outermost first."""
    names = [frame.f_code.co_filename for frame in frames()]
    ours = [name.removeprefix(HOUSE) for name in names if name.startswith(HOUSE)]
    return list(dict.fromkeys(reversed(ours)))


def noting(called: list[tuple[str, str]]) -> Callable[[FrameType, str, Any], None]:
    """Return who notes, for `sys.setprofile`, the functions of ours that are called and where."""

    def note(frame: FrameType, what: str, argument: Any) -> None:
        name = frame.f_code.co_filename
        if what == "call" and name.startswith(HOUSE):
            called.append((name.removeprefix(HOUSE), frame.f_code.co_qualname))

    return note


async def read(request: Request) -> Response:
    """Ask for something."""
    db: AsyncDatabase[Any] = request.app.state.db
    await db.session.execute(text("SELECT 1"))
    return PlainTextResponse("")


async def endpoint(request: Request) -> Response:
    """Store what the URL says."""
    db: AsyncDatabase[Any] = request.app.state.db
    db.session.add(Part(of=request.query_params.get("of")))
    await db.session.flush()
    return PlainTextResponse("")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """Return who asks; the tables are there."""
    db = AsyncDatabase(f"sqlite:///{tmp_path}/walk.db")
    app = Starlette(routes=[Route("/", endpoint, methods=["POST"]), Route("/", read)])
    app.state.db = db
    db.install(app)
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.portal is not None
        client.portal.call(db.ensure_schema, Base.metadata)
        yield client


def told(heading: str) -> list[str]:
    """Return the modules that the page lists below a heading, in their order."""
    part = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\d+\. `([^`]+)`", part, re.MULTILINE)


def test_the_way_of_a_commit_is_the_one_that_is_told(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most nine rooms, from the answer that is about to leave to the driver."""
    found: list[list[str]] = []
    send = CommitState.send

    def look(state: CommitState) -> None:
        found.append(rooms())
        send(state)

    monkeypatch.setattr(CommitState, "send", look)
    assert client.post("/").status_code == 200
    way = found[0][found[0].index("scopes/request.py") :]
    assert way == told("The way of a COMMIT")
    assert len(way) <= 9


def test_the_way_of_a_failed_commit_is_the_one_that_is_told(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most four rooms decide what it means: first the engine's, then the unit's."""
    called: list[tuple[str, str]] = []
    send, roll_back = CommitState.send, rollback.roll_back

    def look(state: CommitState) -> None:
        send(state)
        sys.setprofile(noting(called))

    def decided(unit: Any, error: Any = None) -> None:
        sys.setprofile(None)
        assert isinstance(error, IntegrityError)
        roll_back(unit, error)

    monkeypatch.setattr(CommitState, "send", look)
    monkeypatch.setattr("dbscope.unit.commit.roll_back", decided)
    assert client.post("/?of=999").status_code == 500
    entered = [room for room, _ in called]
    asked = [room for room in entered[entered.index("engine/events.py") :] if decides(room)]
    assert list(dict.fromkeys(asked)) == told("The way of a COMMIT that fails")
    of_unit = asked.index("unit/commit.py")
    assert not any(room.startswith("engine/") for room in asked[of_unit:])


def decides(room: str) -> bool:
    """Tell whether a room has a say: not the driver, nor who is told, nor who waits outside."""
    passed = (
        "sqlite_inline/",
        "watch/",
        "unit/ownership.py",
        "engine/notes.py",
        "backends/base.py",
    )
    return not room.startswith(passed)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_way_of_a_begin_of_sqlite_is_the_one_that_is_told(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """At most six rooms, from the door of all transactions; a statement or a flush come to it."""
    found: list[list[str]] = []
    begin = InlineConnection._begin

    def look(connection: InlineConnection, sql: str, *, immediate: bool) -> None:
        found.append(rooms())
        begin(connection, sql, immediate=immediate)

    monkeypatch.setattr(InlineConnection, "_begin", look)
    assert client.request(method, "/").status_code == 200
    (way,) = (each[each.index("engine/session_transaction.py") :] for each in found)
    assert way == told("The way of a BEGIN of SQLite")
    assert len(way) <= 6


# Who is only asked for what it has: the block, its deadline, the driver's connection.
ASKED = {"unit/unit.py", "unit/faults.py", "backends/sqlite/recipe.py", "backends/sandbox.py"}


def called_by_a_statement(db: Database, timeout: float | None) -> list[tuple[str, str]]:
    """Return what a statement calls in a block that has begun, and in which room."""
    called: list[tuple[str, str]] = []
    with db.atomic(timeout=timeout):
        db.execute(text("SELECT 1"))
        sys.setprofile(noting(called))
        try:
            db.execute(text("SELECT 1"))
        finally:
            sys.setprofile(None)
    return called


def test_the_way_of_a_time_limit_is_the_one_that_is_told(tmp_path: Path) -> None:
    """At most four rooms, which a statement without one does not come to."""
    db = Database(f"sqlite:///{tmp_path}/walk.db")
    without = called_by_a_statement(db, None)
    limited = called_by_a_statement(db, 60)
    db.dispose()
    added = dict.fromkeys(call[0] for call in limited if call not in without)
    way = [room for room in added if room not in ASKED]
    assert way == told("The way of a time limit")
    assert len(way) <= 4


def test_every_room_that_the_page_names_is_there() -> None:
    """Who looks for something finds it where the page says."""
    named = re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", PAGE.read_text())
    homes = [HOUSE, PAGE.parents[1]]
    assert len(named) > 20
    assert [name for name in named if not any(Path(home, name).exists() for home in homes)] == []
