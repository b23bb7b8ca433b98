"""Objects from what is given, with those of their relationships, however deep."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from sqlalchemy import inspect
from sqlalchemy.orm import Mapper, RelationshipProperty, Session, SynonymProperty
from sqlalchemy.orm.collections import collection_adapter
from sqlalchemy.orm.interfaces import ONETOMANY

from dbscope import ConfigurationError
from dbscope.crud.fields import fields
from dbscope.crud.nulls import columns_of, refuse_nulls, set_by_validators, takes_no_null
from dbscope.crud.refusals import NullRefused
from dbscope.crud.refusing import refusal
from dbscope.crud.sources import refuse_foreign_values

NOTHING: Mapping[str, Any] = {}


def build(
    session: Session,
    mapper: Mapper[Any],
    data: object,
    more: Mapping[str, Any] = NOTHING,
    path: str = "",
) -> Any:
    """Return a new object, which is not in the session yet.

    Args:
        session: where rows are looked for that relationships name by their primary key.
        mapper: the model's.
        data: its fields.
        more: what the program adds.
        path: of the fields in what was given, before their names.
    """
    values = fields(mapper, data, more)
    refuse_foreign_values(mapper, values)
    for name, value in list(values.items()):
        if prop := relationship_of(mapper, name):
            values[name] = related(session, prop, value, None, f"{path}{name}")
            if values[name] is None:  # as it is in a new object; to set it would clear its key
                del values[name]
    if not mapper.validators:
        refuse_nulls(mapper, values, is_new=True, path=path)
    with set_by_validators(mapper, values, is_new=True, path=path):
        row = mapper.class_(**values)
    refuse_nulls(mapper, _stands(row, values), is_new=True, path=path)
    return row


def change(
    session: Session,
    mapper: Mapper[Any],
    row: Any,
    data: object,
    more: Mapping[str, Any] = NOTHING,
    *,
    path: str = "",
) -> None:
    """Set what was given; nothing is set if something cannot be."""
    values = fields(mapper, data, more, only_set=True)
    refuse_foreign_values(mapper, values)
    plain = {name: value for name, value in values.items() if name not in mapper.validators}
    refuse_nulls(mapper, plain, is_new=False, path=path)
    for name, value in values.items():
        if prop := relationship_of(mapper, name):
            if not is_row(prop, value) or prop.uselist:
                _load(session, row, prop.key)
            values[name] = related(session, prop, value, row, f"{path}{name}")
    for name, value in values.items():
        prop = relationship_of(mapper, name)
        if prop is not None and prop.uselist:
            _replace(row, prop.key, value)
        else:
            with set_by_validators(mapper, {name: value}, is_new=False, path=path):
                setattr(row, name, value)
    refuse_nulls(mapper, _stands(row, values), is_new=False, path=path)


def _stands(row: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has come of the values: validators and `__init__` may have made others."""
    return {name: row.__dict__.get(name, value) for name, value in values.items()}


def relationship_of(mapper: Mapper[Any], name: str) -> RelationshipProperty[Any] | None:
    """Return the relationship of this name, if it is one."""
    prop: Any = mapper.attrs.get(name)
    while isinstance(prop, SynonymProperty):
        prop = mapper.attrs.get(prop.name)
    return cast("RelationshipProperty[Any]", prop) if is_relationship(prop) else None


def is_relationship(prop: Any) -> bool:
    """Tell it from a column."""
    return isinstance(prop, RelationshipProperty)


def is_row(prop: RelationshipProperty[Any], value: Any) -> bool:
    """Tell whether it is an object of the class that the relationship is with."""
    return isinstance(value, prop.mapper.class_)


def is_fields(value: Any) -> bool:
    """Tell whether it is what `fields` reads."""
    return isinstance(value, Mapping) or hasattr(value, "model_dump")


def related(
    session: Session, prop: RelationshipProperty[Any], value: Any, row: Any, path: str
) -> Any:
    """Return the object or the objects of a relationship.

    Args:
        session: where rows are looked for.
        prop: the relationship.
        value: what was given for it.
        row: whose it is; None if it is new.
        path: of the field.

    Raises:
        TypeError: it is no object of the class, and no fields of one.
        NullRefused: a list is None.
        ConfigurationError: the relationship cannot be set, or an object would lose its parent
            and has to have one.
    """
    if prop.viewonly or prop.lazy in ("dynamic", "write_only", "write-only"):
        raise ConfigurationError(
            f"{prop} cannot be set as a whole: add and remove its objects one by one."
        )
    now = [] if row is None else _held(row, prop.key)
    if not prop.uselist:
        found = None if value is None else _one(session, prop, value, now, path)
        _refuse_orphans(prop, [each for each in now if each is not found], path)
        return found
    several = _several(value, path)
    rows = [_one(session, prop, each, now, f"{path}[{n}]") for n, each in enumerate(several)]
    _refuse_orphans(prop, [each for each in now if each not in rows], path)
    return rows if row is not None else _collected(prop, rows)


def _several(value: Any, path: str) -> list[Any]:
    if value is None:
        raise refusal(NullRefused, f"{path} must not be null.")
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{path} must be a list of rows or of their fields, not {value!r}.")
    return list(value)


def _one(
    session: Session, prop: RelationshipProperty[Any], value: Any, now: Collection[Any], path: str
) -> Any:
    if is_row(prop, value):
        return value
    if not is_fields(value):
        name = prop.mapper.class_.__name__
        raise TypeError(f"{path} is of {name}: an object of it or its fields, not {value!r}.")
    there = _there(session, prop, value, now)
    if there is None:
        return build(session, prop.mapper, _without_parent(prop, value), path=f"{path}.")
    change(session, prop.mapper, there, value, path=f"{path}.")
    return there


def _without_parent(prop: RelationshipProperty[Any], value: Any) -> dict[str, Any]:
    """Return the fields of a new child, without those at None that its parent will give it."""
    values = fields(prop.mapper, value, NOTHING)
    if prop.direction is not ONETOMANY:
        return values
    copied = {remote for _, remote in prop.synchronize_pairs}
    empty = {name for name, given in values.items() if given is None}
    for name in empty:
        if copied.intersection(columns_of(prop.mapper, name)):
            del values[name]
    return values


def _there(
    session: Session, prop: RelationshipProperty[Any], value: Any, now: Collection[Any]
) -> Any:
    """Return the row that is meant: one of those that are held, or one that is nobody's own."""
    mapper = prop.mapper
    given = fields(mapper, value, {}, only_set=True)
    names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    key = tuple(given.get(name) for name in names)
    if None in key:
        is_same = not prop.uselist and prop.direction is ONETOMANY and not any(key)
        return next(iter(now), None) if is_same else None
    for each in now:
        if tuple(getattr(each, name) for name in names) == key:
            return each
    return None if prop.direction is ONETOMANY else session.get(mapper.class_, key)


def _held(row: Any, name: str) -> list[Any]:
    value = getattr(row, name)
    if value is None:
        return []
    adapter: Any = collection_adapter(value) if hasattr(value, "_sa_adapter") else None
    return [value] if adapter is None else list(adapter)


def _load(session: Session, row: Any, name: str) -> None:
    """Read a relationship that is not loaded, though it may not be read lazily."""
    state = inspect(row)
    if state.persistent and name in state.unloaded:
        with session.no_autoflush:
            session.refresh(row, [name])


def _collected(prop: RelationshipProperty[Any], rows: list[Any]) -> Any:
    """Return the rows as the relationship of a new object takes them."""
    kind: Any = cast("Any", prop).collection_class or list
    if isinstance(kind, type) and issubclass(kind, (list, set)):
        return cast("Any", kind)(rows)
    holder: Any = prop.parent.class_manager.new_instance()
    _replace(holder, prop.key, rows)
    return getattr(holder, prop.key)


def _replace(row: Any, name: str, rows: list[Any]) -> None:
    """Hold these rows; those that stay are neither removed nor added."""
    held: Any = getattr(row, name)
    if isinstance(held, list):
        setattr(row, name, rows)
        return
    adapter: Any = collection_adapter(held)
    for each in list(adapter):
        if each not in rows:
            adapter.remove_with_event(each)
    for each in rows:
        if each not in list(adapter):
            adapter.append_with_event(each)


def _refuse_orphans(prop: RelationshipProperty[Any], lost: list[Any], path: str) -> None:
    """Raise if rows would be left without a parent, who need one and do not end with it."""
    if not lost or prop.direction is not ONETOMANY or prop.cascade.delete_orphan:
        return
    needed = [str(c) for c in prop.remote_side if takes_no_null(cast("Any", c), is_new=False)]
    if needed:
        raise ConfigurationError(
            f"{path} leaves out a row that cannot exist without its parent: {', '.join(needed)} is "
            f"NOT NULL, and {prop} has no cascade of delete-orphan."
        )
