"""What the routes have done lately: counted from the ring, by minute, and bounded."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from dbscope import Database
from dbscope.watch.records import COMMITTED, ROLLED_BACK, Record
from dbscope.watch.share.words import percentiles, printable, row, server_in, table
from dbscope.watch.tally import MINUTES, MOST, OTHERS, QUIET, REASONS, Tally, is_lost, newer

LOST = (("INSERT into item", 1),)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database[Any]]:
    """Return a database that is watched."""
    db = Database(f"sqlite:///{tmp_path}/a.db")
    db.watch.start(share=False)
    yield db
    db.watch.stop()
    db.dispose()


@pytest.fixture
def record(db: Database[Any]) -> Record:
    """Return a record of a request, of which others are made."""
    with db.scope():
        db.execute(text("SELECT 1"))
    (found,) = db.watch.recent()
    return replace(found, kind="request", route="GET /a", status=200)


@pytest.fixture
def tally(db: Database[Any], record: Record) -> Tally:
    """Return a tally of which nobody else is the thread."""
    assert db.watch.recorder is not None
    assert db.watch.sampler is not None
    db.watch.sampler.stop()
    db.watch.recorder.ring.clear()
    return Tally(db.watch.recorder)


def add(tally: Tally, *records: Record) -> dict[str, Any]:
    """Keep records, look, and return the first route."""
    start = len(tally.recorder.ring)
    numbered = [replace(each, number=start + place) for place, each in enumerate(records, 1)]
    tally.recorder.ring.extend(numbered)
    tally.look()
    return tally.told()[0]


def test_to_count_a_record_makes_nothing_of_it(tally: Tally, db: Database[Any]) -> None:
    """Most are never read, and whoever counts them looks at each."""
    with db.scope():
        db.execute(text("SELECT 1"))
    (counted,) = tally.look()
    assert counted._make is not None
    assert tally.told()[0]["minutes"][0][4] == 1
    assert counted.transactions[0].outcome == COMMITTED
    assert counted._make is None


def test_each_record_is_counted_once(tally: Tally, record: Record) -> None:
    """However often it is looked at; what came meanwhile is new."""
    add(tally, record, record)
    assert list(tally.look()) == []
    found = add(tally, record)
    assert percentiles(found)["times"] == 3
    assert len(newer(tally.recorder, 2)) == 1


@pytest.mark.parametrize(
    ("more", "lost"),
    [
        ({"outcome": COMMITTED}, False),
        ({"outcome": ROLLED_BACK, "status": 404}, False),  # nothing was there
        ({"outcome": ROLLED_BACK, "status": 409, "not_stored": LOST}, True),
        ({"outcome": ROLLED_BACK, "status": 409, "pending": LOST}, True),
        ({"outcome": ROLLED_BACK, "status": 503}, True),
        ({"outcome": ROLLED_BACK, "status": None}, True),
        ({"outcome": "COMMIT failed", "status": 404}, True),
        ({"outcome": ROLLED_BACK, "not_stored": LOST, "again": True}, False),  # it is done again
    ],
)
def test_what_is_not_stored_is_what_somebody_wanted_to_store(
    record: Record, more: dict[str, Any], lost: bool
) -> None:
    """A page that is not there has lost nothing, nor what is done once more."""
    assert is_lost(replace(record, **more)) is lost


def test_since_when_begins_anew_after_a_quiet_time(tally: Tally, record: Record) -> None:
    """And the reasons are those since then, the most frequent first."""
    bad = replace(record, outcome=ROLLED_BACK, not_stored=LOST)
    old, later = replace(bad, began=1000.0, reason="old"), 1000.0 + QUIET + 1
    new = [replace(bad, began=later + each, reason=f"new {each % 2}") for each in range(3)]
    found = add(tally, old, *new)
    assert found["since"] == later
    assert found["reasons"] == [("rolled back, new 0", 2), ("rolled back, new 1", 1)]
    shown = row(percentiles(found), found)
    assert shown[4].startswith("100 % since ")
    assert shown[5] == "2 times rolled back, new 0; 1 times rolled back, new 1"


def test_percentiles_are_right_to_five_percent(tally: Tally, record: Record) -> None:
    """Durations are counted by size, so that those of several processes can be added."""
    found = add(tally, *(replace(record, seconds=each / 1000) for each in range(1, 101)))
    sums = percentiles(found)
    assert sums["p50"] == pytest.approx(0.050, rel=0.06)
    assert sums["p95"] == pytest.approx(0.095, rel=0.06)


def test_nothing_grows_for_ever(tally: Tally, record: Record) -> None:
    """Neither minutes nor routes nor reasons."""
    add(tally, *(replace(record, began=60.0 * each) for each in range(MINUTES * 2)))
    assert len(tally.routes["GET /a"].minutes) == MINUTES
    add(tally, *(replace(record, route=f"GET /{each}") for each in range(MOST * 2)))
    assert len(tally.routes) == MOST + 1
    assert percentiles(tally.routes[OTHERS].told(OTHERS))["times"] == MOST + 1
    bad = replace(record, outcome=ROLLED_BACK, not_stored=LOST)
    add(tally, *(replace(bad, reason=str(each)) for each in range(REASONS * 2)))
    assert len(tally.routes["GET /a"].reasons) == REASONS


def test_a_terminal_is_shown_no_orders() -> None:
    """A path may have in it what clears a screen or worse."""
    assert printable("a\x1b[2J\x07b\n") == "a�[2J�b�"
    assert "\x1b" not in "".join(table(("A",), [("GET /\x1b]0;x\x07",)]))


def test_a_server_process_is_known_by_what_it_is_called() -> None:
    """As the database tells it of who is none of this worker's."""
    assert server_in("another program (process 12954, idle in transaction for 0.1 s)") == 12954
    assert server_in("GET /a (idle for 0.1 s)") is None
