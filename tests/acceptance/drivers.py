"""Which drivers a fault program runs on."""

import pytest

ON_SQLITE = ["inline", "aiosqlite"]
ON_POSTGRESQL = ["psycopg", "asyncpg"]
on_all = pytest.mark.parametrize("url", [*ON_SQLITE, *ON_POSTGRESQL, "asyncmy"], indirect=True)
on_sqlite_and_postgresql = pytest.mark.parametrize(
    "url", [*ON_SQLITE, *ON_POSTGRESQL], indirect=True
)
on_servers = pytest.mark.parametrize("url", [*ON_POSTGRESQL, "asyncmy"], indirect=True)
on_postgresql = pytest.mark.parametrize("url", ON_POSTGRESQL, indirect=True)
