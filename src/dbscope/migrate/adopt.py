"""A database that has tables but no version: made by `ensure_schema`, or before there were any."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.util import to_list
from sqlalchemy import inspect

from dbscope import MigrationError
from dbscope.migrate.revisions import Revision, Status

MADE = re.compile(r"""\bcreate_table\(\s*['"](\w+)['"]|\bCREATE\s+TABLE\s+["`]?(\w+)""")
SKIPS = re.compile(r"if_not_exists\s*=\s*True|IF\s+NOT\s+EXISTS", re.IGNORECASE)
SHORT = {"fk": "foreign key", "table_comment": "comment"}
MOST = 10  # differences that are told


def compared(status: Status, migration: MigrationContext) -> Status:
    """Return where a database is; with its differences from the models, if it has no version.

    Only if a revision would make a table that is there already: who began with revisions for what
    came later has none that does.
    """
    made = set(_made(status.pending))
    connection, metadata = migration.connection, migration.opts.get("target_metadata")
    if status.current or status.unknown or not made or connection is None or metadata is None:
        return status
    known = {table.name for each in to_list(metadata) for table in each.tables.values()}
    if not made.intersection(known, inspect(connection).get_table_names()):
        return status
    found = compare_metadata(migration, metadata)
    return replace(status, differences=tuple(_described(found, known)))


def refusal(database: object, status: Status) -> MigrationError | None:
    """Return why the revisions of such a database are not run."""
    if status.differences is None:
        return None
    has = (
        f"{database} has tables of the revisions, but no version: ensure_schema has made them, or "
        "somebody by hand, or a revision that failed half way"
    )
    if not status.differences:
        return MigrationError(
            f"{has}. All that the models have is there: `dbscope stamp heads` notes that, and "
            "`dbscope upgrade --adopt` does so too."
        )
    shown = "; ".join(status.differences[:MOST])
    more = len(status.differences) - MOST
    return MigrationError(
        f"{has}. It differs from the models: {shown}{f'; and {more} more' if more > 0 else ''}. "
        "Stamp the revision that it is at (`dbscope stamp <revision>`); or bring it to the models "
        "by hand, and `dbscope stamp heads`; or undo what was half done, and start again."
    )


# A change, or several of one column, as Alembic's compare_metadata gives them.
Difference = tuple[Any, ...] | list[tuple[Any, ...]]


def _made(pending: Iterable[Revision]) -> Iterator[str]:
    for each in pending:
        text = each.path.read_text(encoding="utf-8", errors="replace")
        if not SKIPS.search(text):
            yield from (found[1] or found[2] for found in MADE.finditer(text))


def _described(differences: Iterable[Difference], known: set[str]) -> Iterator[str]:
    """Tell each in words; a table that only the database has is somebody else's."""
    for each in differences:
        if isinstance(each, list):  # several changes of one column
            for kind, _, of, column, *_values in each:
                yield f"another {kind.removeprefix('modify_')} of the column {of}.{column}"
            continue
        kind, *about = each
        verb, _, what = kind.partition("_")
        table: Any = getattr(about[0], "table", about[0])
        has = "no" if verb == "add" else "one more"
        if what == "column":
            yield f"{has} column {about[1]}.{about[2].name}"
        elif kind == "add_table":
            yield f"no table {about[0].name}"
        elif table.name in known:
            yield f"{has} {SHORT.get(what, what)} {about[0].name or ''} of {table.name}"
