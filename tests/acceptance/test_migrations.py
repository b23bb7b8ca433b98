"""R19: processes that start at once, that are killed, and revisions that fail."""

from __future__ import annotations

import pytest
from sqlalchemy import make_url

from tests.acceptance.drivers import on_sqlite_and_postgresql
from tests.acceptance.migrating import ALL, HEADS, IDS, POINTS, Shop
from tests.support.look import Onlooker

pytestmark = pytest.mark.timeout(150)  # each process imports all of the application

PROCESSES = 8
SOME = ["prices half", "more ends"]
by_way = pytest.mark.parametrize("way", ["fail", "kill"])


@pytest.fixture
def shop(url, tmp_path) -> Shop:
    """An application on an empty database."""
    return Shop(tmp_path, url)


def start_over(shop: Shop) -> None:
    """Empty the database, in which there is no more than the revisions have made."""
    shop.log.write_text("")
    if make_url(shop.url).get_backend_name() == "sqlite":
        for file in shop.root.glob("faults.db*"):
            file.unlink()
        return
    with Onlooker(shop.url) as look:
        for table in ("item", "alembic_version"):
            look.execute(f"DROP TABLE IF EXISTS {table}")


@on_sqlite_and_postgresql
@pytest.mark.timeout(900)
def test_eight_processes_start_at_once_on_an_empty_database(shop, times, figures):
    """R19: each revision is begun once, by one of them, and all of them serve."""
    rounds = times(3, 20)
    for _ in range(rounds):
        start_over(shop)
        with shop.processes(PROCESSES) as processes:
            for each in processes:
                each.go()
            assert [each.answer() for each in processes] == [ALL] * PROCESSES
        assert shop.counts() == dict.fromkeys(POINTS, 1)
        assert shop.stored() == HEADS
    figures(
        f"R19 {PROCESSES} processes x {rounds} rounds: {PROCESSES * rounds} serve, "
        f"{len(IDS) * rounds} revisions run once each, 0 twice"
    )


@on_sqlite_and_postgresql
@pytest.mark.timeout(900)
def test_when_the_one_that_migrates_is_killed_another_takes_over(shop, times, figures):
    """The lock ends with the process; those that waited complete what it had begun."""
    rounds = times(1, 20)
    for _ in range(rounds):
        start_over(shop)
        with shop.process(STOP="seed half") as first, shop.processes(2) as others:
            first.until("loaded")
            first.go()
            first.until("stopped")
            for each in others:
                each.go()
            first.kill9()
            assert [each.answer() for each in others] == [ALL, ALL]
        assert shop.counts()["seed begins"] == 2
        assert [shop.counts()[f"{each} ends"] for each in IDS] == [1, 1, 1, 1]
        assert shop.stored() == HEADS
    figures(f"R19 kill -9 x {rounds} while 2 others wait: {2 * rounds} serve")


@on_sqlite_and_postgresql
@by_way
@pytest.mark.timeout(900)
def test_wherever_it_ends_the_next_start_completes_it(shop, way, times, figures):
    """R19: nothing of the revision that was interrupted stays, and all before it does."""
    points = times(SOME, POINTS)
    for point in points:
        start_over(shop)
        with shop.process(**{"FAIL" if way == "fail" else "STOP": point}) as process:
            process.until("loaded")
            process.go()
            if way == "fail":
                assert "failed: ValueError: told to fail. Stored now: " in process.refusal()
            else:
                process.until("stopped")
                process.kill9()
        unfinished = point.split()[0]
        ended = [each for each in IDS if shop.counts()[f"{each} ends"] and each != unfinished]
        with shop.processes(1) as (process,):
            process.go()
            assert process.answer() == ALL
        assert [shop.counts()[f"{each} begins"] for each in ended] == [1] * len(ended)
        assert shop.counts()[f"{unfinished} begins"] == 2
        assert shop.stored() == HEADS
    figures(f"R19 {way} at {len(points)} points: {len(points)} re-runs complete")


@on_sqlite_and_postgresql
def test_a_data_revision_that_fails_half_way_stops_the_start_with_a_sentence(shop):
    """Nothing of it stays, the version table is true, and no traceback is printed."""
    with shop.processes(1, FAIL="more half") as (process,):
        process.go()
        told = process.refusal()
    (line,) = told.splitlines()
    assert line.startswith("Revision more (about more) in migrations/data/more.py:")
    assert " failed: ValueError: told to fail. Stored now: " in line
    assert shop.rows() == ["a", "b"]
    assert set(shop.stored()) - {"prices", "items"} == {"seed"}


@on_sqlite_and_postgresql
def test_a_process_that_only_checks_refuses_to_serve_what_is_behind(shop):
    """And what is ahead; it serves what is neither."""
    with shop.processes(2, MODE="check") as (early, late):
        early.go()
        assert " is behind: items (schema) about items, " in early.refusal()
        assert shop.alembic("upgrade", "heads").returncode == 0
        late.go()
        assert late.answer() == ALL
    with Onlooker(shop.url) as look:
        look.execute("INSERT INTO alembic_version VALUES ('newer')")
    with shop.processes(2) as (upgrading, checking):
        for each in (upgrading, checking):
            each.go()
            assert "is ahead: it is at newer" in each.refusal()


@on_sqlite_and_postgresql
def test_a_process_does_not_wait_longer_than_it_may(shop):
    """R19: the wait for the lock is bounded, and who holds it is named where that is known."""
    with shop.process(STOP="seed half") as first, shop.processes(1, LOCK_TIMEOUT="0.3") as (late,):
        first.until("loaded")
        first.go()
        first.until("stopped")
        late.go()
        told = late.refusal()
        assert "Another process is migrating this database" in told
        assert "was not done within 0.3 s" in told
        assert f"process {first.pid} on " in told or "-migrate open)" in told
        first.go()
        assert first.answer() == ALL


@on_sqlite_and_postgresql
def test_two_heads_are_upgraded_and_downgraded_by_alembics_own_command(shop):
    """`heads` works where `head` fails, and one branch goes down while the other stays."""
    failed = shop.alembic("upgrade", "head")
    assert failed.returncode != 0
    assert "There are several heads, so 'head' is ambiguous" in failed.stdout + failed.stderr
    assert shop.alembic("upgrade", "heads").returncode == 0
    assert (shop.rows(), shop.stored()) == (["a", "b", "c", "d"], HEADS)
    assert shop.alembic("downgrade", "data@base").returncode == 0
    assert (shop.rows(), shop.stored()) == ([], ["prices"])
    with shop.processes(1) as (process,):
        process.go()
        assert process.answer() == ALL
