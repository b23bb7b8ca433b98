"""Tables that come in without a join: every row would be paired with all of theirs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ClauseElement, Dialect, Select, inspect, select
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.sql.compiler import COLLECT_CARTESIAN_PRODUCTS


def refuse_strangers(session: Session, model: type[Any], statement: Select[Any]) -> None:
    """Raise TypeError if the statement has a table that nothing joins to the model's.

    Subqueries have tables of their own. A condition that compares columns of both is a join.

    Args:
        session: whose database it is for.
        model: whose rows are wanted.
        statement: with its conditions; what it is ordered by is among its columns.
    """
    if len(statement.get_final_froms()) == 1:
        return
    strangers = unjoined(statement, session.get_bind(model).dialect, inspect(model))
    if strangers:
        raise TypeError(
            f"{', '.join(strangers)} comes in without a join, and would be paired with every row"
            f" of {model.__name__}: use the relationship's any() or has(), or a subquery."
        )


def unjoined(statement: Select[Any], dialect: Dialect, mapper: Mapper[Any]) -> list[str]:
    """Return the names of what is not joined, directly or by others, to the model's tables."""
    compiled: Any = statement.compile(dialect=dialect, linting=COLLECT_CARTESIAN_PRODUCTS)
    linter = compiled.from_linter
    own = next((each for each in linter.froms if each in mapper.tables), None)
    alone, _ = linter.lint(own)
    return sorted(linter.froms[each] for each in alone or ())


def refuse_foreign_values(mapper: Mapper[Any], values: dict[str, Any]) -> None:
    """Raise TypeError if a value is SQL of another table's column."""
    for name, value in values.items():
        if strangers := foreign(mapper, value):
            raise TypeError(
                f"{mapper.class_.__name__}.{name} cannot be set to a column of"
                f" {', '.join(strangers)}, which is not joined: use a scalar subquery."
            )


def foreign(mapper: Mapper[Any], clause: Any) -> list[str]:
    """Return the names of the tables in a piece of SQL that are not the model's."""
    if hasattr(clause, "__clause_element__"):
        clause = clause.__clause_element__()
    if not isinstance(clause, ClauseElement):
        return []
    found: list[Any] = list(select(clause).get_final_froms())  # type: ignore[call-overload]
    own = {*mapper.tables, mapper.persist_selectable}
    strangers: list[Any] = [each for each in found if each not in own]
    return sorted(_name_of(each) for each in strangers)


def _name_of(source: Any) -> str:
    source = getattr(source, "element", source)
    return str(getattr(source, "name", source))
