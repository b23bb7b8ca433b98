"""Migrations on Alembic: two branches, one lock, before the application serves.

Alembic's own files and conventions stay, and its command works in the same tree.
"""

from dbscope.extras import needed

with needed("alembic", "Alembic"):
    from dbscope.migrate.environment import run
    from dbscope.migrate.migrations import Migrations
    from dbscope.migrate.naming import NAMING_CONVENTION
    from dbscope.migrate.revisions import Revision, Status
    from dbscope.migrate.start import StartupErrorMiddleware
    from dbscope.migrate.work import session

__all__ = [
    "NAMING_CONVENTION",
    "Migrations",
    "Revision",
    "StartupErrorMiddleware",
    "Status",
    "run",
    "session",
]
