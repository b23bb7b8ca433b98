"""The way of a COMMIT through the house, walked: which rooms stand between the answer and the wire.

`docs/architecture.md` prints what is counted here.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from greenlet import getcurrent
from sqlalchemy import ForeignKey
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

import dbscope
from dbscope import AsyncDatabase
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
    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
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
    entered: list[str] = []
    send, roll_back = CommitState.send, rollback.roll_back

    def note(frame: FrameType, what: str, argument: Any) -> None:
        name = frame.f_code.co_filename
        if what == "call" and name.startswith(HOUSE):
            entered.append(name.removeprefix(HOUSE))

    def look(state: CommitState) -> None:
        send(state)
        sys.setprofile(note)

    def decided(unit: Any, error: Any = None) -> None:
        sys.setprofile(None)
        assert isinstance(error, IntegrityError)
        roll_back(unit, error)

    monkeypatch.setattr(CommitState, "send", look)
    monkeypatch.setattr("dbscope.unit.commit.roll_back", decided)
    assert client.post("/?of=999").status_code == 500
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
