"""Which drivers a fault program runs on."""

import pytest

ON_POSTGRESQL = ["psycopg", "asyncpg"]
on_all = pytest.mark.parametrize("url", ["aiosqlite", *ON_POSTGRESQL], indirect=True)
on_postgresql = pytest.mark.parametrize("url", ON_POSTGRESQL, indirect=True)
