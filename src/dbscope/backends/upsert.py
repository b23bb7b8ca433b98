"""INSERT … ON CONFLICT … DO UPDATE, which PostgreSQL and SQLite spell alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sqlalchemy import Column, ColumnElement


def on_conflict(
    insert: Any,
    values: Any,
    *,
    key: Sequence[Column[Any]],
    where: ColumnElement[bool] | None,
    given: Collection[Column[Any]],  # noqa: ARG001
    changes: Callable[[Any], dict[str, Any]],
) -> Any:
    """Return the statement; see `Backend.upsert`.

    Args:
        insert: that of the dialect.
        values: of one row, or a list of those of several.
        key: the columns that are unique together.
        where: the condition of their index, if it is partial.
        given: the columns that have values.
        changes: given the columns as they would have been inserted, what is set.
    """
    return insert.values(values).on_conflict_do_update(
        index_elements=key, index_where=where, set_=changes(insert.excluded)
    )
