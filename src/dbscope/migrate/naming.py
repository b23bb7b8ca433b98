"""How constraints are called, so that a later revision can name what it drops."""

from __future__ import annotations

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""For `MetaData(naming_convention=NAMING_CONVENTION)`: else the database invents the names, and
SQLite gives none (https://alembic.sqlalchemy.org/en/latest/naming.html)."""
