"""A standby of a PostgreSQL of our own: made by `pg_basebackup`, and following its primary."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo

from tests.support.look import until
from tests.support.postgres import OwnServer, unavailable
from tests.support.processes import find_binaries
from tests.support.proxy import Proxy

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


def programs() -> Path:
    """Return the folder with the programs of PostgreSQL, of which the test is skipped for lack."""
    binaries = find_binaries()
    if binaries is None or not (binaries / "pg_basebackup").exists():
        unavailable("no PostgreSQL found of which a standby could be made")
    return binaries


def first_primary() -> OwnServer:
    """Start a server of which standbys can be made."""
    server = OwnServer(programs(), fsync=False)
    server.start()
    return server


class Standby(OwnServer):
    """A server that follows another one until it is promoted.

    Args:
        primary: which runs, and does not wait for another standby: neither will this one.
    """

    def __init__(self, primary: OwnServer) -> None:
        self.primary = primary
        self.is_promoted = False
        super().__init__(programs(), fsync=False)
        self._url = self._url.set(password=primary._url.password)

    def follow(self, *, synchronous: bool) -> None:
        """Start; the primary waits for it at each COMMIT from now on, or does not."""
        self.start()
        names = "*" if synchronous else ""
        with self.primary.connect() as connection:
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
            connection.execute("SELECT pg_reload_conf()")
        wanted = "sync" if synchronous else "async"
        assert until(lambda: self._replication() == wanted), f"{self._replication()}: {self.log}"

    def _replication(self) -> str | None:
        with self.primary.connect() as connection:
            row = connection.execute(
                "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'"
            ).fetchone()
        return None if row is None else str(row[0])

    def catch_up(self) -> None:
        """Wait until it has received all that the primary has."""
        with self.primary.connect() as connection, self.connect() as own:
            row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
            assert row is not None
            has_it = "SELECT coalesce(pg_last_wal_receive_lsn() >= %s::pg_lsn, false)"
            assert until(lambda: bool(own.execute(has_it, row).fetchone()[0]))  # type: ignore[index]

    def hear_nothing(self) -> None:
        """Receive nothing any more, as if there was no way to the primary."""
        with self.connect() as connection:
            connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            connection.execute("SELECT pg_reload_conf()")
        assert until(lambda: self._replication() is None)

    def hold_back(self) -> None:
        """Receive what comes, and do not show it until promoted."""
        with self.connect() as connection:
            connection.execute("SELECT pg_wal_replay_pause()")

    def promote(self) -> None:
        """Become the primary, and return as soon as it takes writes."""
        with self.connect() as connection:
            row = connection.execute("SELECT pg_promote(true, 60)").fetchone()
        assert row == (True,), self.log
        self.is_promoted = True

    def _make_cluster(self) -> None:
        data = self.folder / "data"
        conninfo = make_conninfo(self.primary.url(None), application_name="standby")
        command = [str(self._binaries / "pg_basebackup"), "-D", str(data), "-d", conninfo]
        command += ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, **self._surroundings()
        )
        if done.returncode:
            raise RuntimeError(f"pg_basebackup failed:\n{done.stdout}\n{done.stderr}")


class Cluster:
    """A primary, its standby, and the address by which an application reaches the primary."""

    def __init__(self, primary: OwnServer) -> None:
        self.primary = primary
        self.standby: Standby = Standby(primary)
        self.proxy = Proxy(primary)

    def follow_up(self) -> None:
        """Make a standby of the new primary."""
        self.primary = self.standby
        self.standby = Standby(self.primary)

    def fail_over(self) -> None:
        """Kill the primary, promote its standby, and lead everybody there."""
        self.primary.kill9()
        self.standby.promote()
        self.proxy.server = self.standby
        self.proxy.pass_through()

    def rows(self, server: OwnServer, sql: str) -> list[Any]:
        """Return what a query finds at one of the servers."""
        with server.connect() as connection:
            return connection.execute(sql).fetchall()

    def items(self) -> list[str]:
        """Return the names that are stored at the new primary."""
        return [name for (name,) in self.rows(self.standby, "SELECT name FROM item ORDER BY id")]

    def lead_to_standby(self) -> None:
        """Kill the primary, and lead everybody to the standby as it is."""
        self.primary.kill9()
        self.proxy.server = self.standby
        self.proxy.pass_through()

    def is_cut(self) -> bool:
        """Tell whether the answer to COMMIT was lost."""
        return self.proxy.cuts == 1

    def is_waiting(self) -> bool:
        """Tell whether a COMMIT waits for the standby."""
        return self.rows(self.primary, WAITING) == [(1,)]
