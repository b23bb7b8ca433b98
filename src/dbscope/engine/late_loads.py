"""What a statement of SQLAlchemy's loads late, for one object."""

# ruff: noqa: SLF001  (what a loader asks for shows only from inside)

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy.sql import Select

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy.orm import Session

NOTHING: dict[str, Any] = {}
PLAIN = frozenset({bool, bytes, date, Decimal, float, int, str})


class Load:
    """An attribute, or several columns, that are loaded late for one object.

    Args:
        state: of the object.
        names: of its attributes that are loaded.
        column: of the object, whose value is the only parameter of the statement.
    """

    __slots__ = ("column", "key", "names", "state")

    def __init__(self, state: Any, names: frozenset[str], column: Any) -> None:
        self.state = state
        self.names = names
        self.column = column
        self.key: str = state.mapper.get_property_by_column(column).key

    def others(self, session: Session) -> Iterator[Any]:
        """Give the parameters of others that were loaded with it and have not got it yet."""
        mine = self.state
        is_expired = self.names.issuperset(mine.mapper._primary_key_propkeys)
        states: list[Any] = session.identity_map.all_states()
        for each in states:
            if (
                each.mapper is mine.mapper
                and self.names.isdisjoint(each.dict)
                and each.load_path == mine.load_path
                and each.load_options == mine.load_options
            ):
                yield each.key[1][0] if is_expired else each.dict.get(self.key)


def load_of(statement: Any, params: Any, given: Mapping[str, Any]) -> Load | None:
    """Return the late load that a statement is; None: it is none, or has to be sent as it is."""
    loading = (given.get("execution_options") or NOTHING).get("_sa_orm_load_options")
    compiling = getattr(statement, "_compile_options", None)
    if loading is None or compiling is None or not is_single(statement, params):
        return None
    if getattr(loading, "_is_user_refresh", True) or loading._populate_existing:
        return None
    if loading._identity_token is not None or not all(map(is_plain, params.values())):
        return None
    state = loading._lazy_loaded_from
    if state is not None and compiling._current_path:
        return _of_relationship(state, compiling._current_path[-1])
    state, names = loading._refresh_state, compiling._only_load_props
    if state is None or not names or len(state.mapper.primary_key) != 1:
        return None
    return Load(state, frozenset(names), state.mapper.primary_key[0])


def is_plain(value: Any) -> bool:
    """Tell whether rows can be looked for by a value: what is equal here is equal to the server.

    A class of the application's may find more equal than that, as datetimes of two zones are.
    """
    return type(value) in PLAIN or isinstance(value, UUID | Enum)


def is_single(statement: Any, params: Any) -> bool:
    """Tell whether a statement is for one object, by one column, and gives all its rows."""
    return (
        issubclass(type(statement), Select)
        and params is not None
        and len(params) == 1
        and statement._limit_clause is None
        and statement._offset_clause is None
        and statement._fetch_clause is None
        and statement._for_update_arg is None
        and not statement._distinct
        and not statement._group_by_clauses
        and not statement._having_criteria
    )


def _of_relationship(state: Any, relationship: Any) -> Load | None:
    columns = tuple(getattr(relationship, "local_columns", ()))
    if len(columns) != 1 or columns[0] not in state.mapper._columntoproperty:
        return None
    return Load(state, frozenset({relationship.key}), columns[0])
