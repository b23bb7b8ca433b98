"""What one kind of database can do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """What one kind of database can do; False is refused where it is asked for."""

    name: str  # how SQLAlchemy calls its dialect
    family: str = ""  # whose SQL it is; "": nobody's that we know
    commits_definitions: bool = False  # what changes the schema commits by itself
    commits_last: bool = False  # among several databases
    readonly: bool = False  # the database itself refuses to write
    reader: bool = False  # … in connections that are made for it
    statement_timeout: bool = False
    isolation: bool = False
    session_settings: bool = False
    verify_commit: bool = False
    advisory_locks: bool = False
    reset_session: bool = False
    upsert: bool = False
    upsert_returns: bool = False  # … the rows, from the same statement
    nulls_last: bool = True  # as the standard says it
    enums_by_position: bool = False  # its own ENUM is sorted as it lists its names
