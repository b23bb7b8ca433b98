"""The state of a session of PostgreSQL: as it was when it had been set up, and so again.

What DISCARD ALL does, but for the statements that drivers have prepared and believe to be there:
only those go that were prepared by SQL (https://www.postgresql.org/docs/current/sql-discard.html).
"""

from __future__ import annotations

from typing import Any

from dbscope.backends.postgresql import simple

# A lock that all may have at once, beside one that is held on purpose: by it others (`dbscope
# doctor`) can tell.
MARK = 0x64627363
# What was SET since the login, and by whom it is used, as the statement that says so again. A name
# with a dot that no extension knows is in no list of the server's.
KEPT = """SELECT 'SELECT ' || string_agg(format('pg_catalog.set_config(%L, %L, false)',
 name, setting), ', ' ORDER BY place, name) FROM (
 SELECT 1 AS place, name, setting FROM pg_catalog.pg_settings
 WHERE source = 'session' AND name NOT LIKE 'transaction\\_%'
 UNION ALL SELECT 2, 'session_authorization', pg_catalog.current_setting('session_authorization')
 UNION ALL SELECT 3, 'role', pg_catalog.current_setting('role')) AS kept"""
RESET = """SELECT pg_catalog.pg_advisory_unlock_all();
CLOSE ALL;
UNLISTEN *;
SET SESSION AUTHORIZATION DEFAULT;
RESET ALL;
DO LANGUAGE plpgsql $dbscope$ DECLARE prepared text; BEGIN
 FOR prepared IN SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql LOOP
 EXECUTE pg_catalog.format('DEALLOCATE %I', prepared); END LOOP; END $dbscope$;
DISCARD TEMP;
DISCARD SEQUENCES;
"""


def remember(connection: Any, dialect: Any) -> str:  # noqa: ARG001
    """Return how to make a session what it is now, when all have set it up: once for its life."""
    return RESET + str(simple.value(connection, KEPT))


def reset(connection: Any, kept: str) -> None:
    """Make a session what it was: one round trip, by the simple protocol."""
    simple.run(connection, kept)
    driver = simple.driver_of(connection)
    if simple.is_asyncpg(driver):  # which would believe that it still listens
        driver._listeners.clear()  # noqa: SLF001
