"""The fields of what is given: a pydantic model, or any mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy.orm import Mapper


def fields(
    mapper: Mapper[Any], data: object, more: Mapping[str, Any], *, only_set: bool = False
) -> dict[str, Any]:
    """Return the values by the names of the model's attributes; `more` wins.

    Args:
        mapper: the model's.
        data: what is given.
        more: what the program adds.
        only_set: leave out the fields of a pydantic model that were not set.

    Raises:
        TypeError: the model has no such attribute, or the data is of no known kind.
    """
    related = mapper.relationships.keys()
    values = {**values_of(data, only_set=only_set), **more}
    for name in values.keys() & set(related) - more.keys():
        if not isinstance(data, Mapping):  # a nested model knows which of its fields were set
            values[name] = getattr(data, name, values[name])
            if values[name] is None and name not in getattr(data, "model_fields_set", values):
                del values[name]  # the client has not said that there are none
    known = mapper.all_orm_descriptors.keys()
    if unknown := sorted(set(values) - set(known)):
        names = ", ".join(unknown)
        raise TypeError(f"{mapper.class_.__name__} has no {names}; it has {', '.join(known)}.")
    return values


def values_of(data: Any, *, only_set: bool) -> dict[str, Any]:
    """Return the values by their names."""
    if isinstance(data, Mapping):
        return dict(cast("Mapping[str, Any]", data))
    if isinstance(data, type) or not hasattr(data, "model_dump"):
        raise TypeError(f"The fields must be a pydantic model or a mapping, not {data!r}.")
    kind = cast("Any", type(data))
    options: dict[str, Any] = {"exclude_unset": only_set}
    if hasattr(kind, "model_computed_fields"):  # pydantic's own, which can dump more than fields
        options |= {"exclude": set(kind.model_computed_fields), "by_alias": False}
    dumped: dict[str, Any] = data.model_dump(**options)
    return dumped
