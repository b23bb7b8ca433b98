"""What the ORM loads by a statement: a query of the application, or an attribute of an object.

SQLAlchemy tells it listeners to `do_orm_execute`, for which it prepares each statement twice; here
it is read where that comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

NOTHING: dict[str, Any] = {}
LOADING = "_sa_orm_load_options"  # an option of what a loader executes


@dataclass(frozen=True, slots=True)
class Load:
    """What a statement of the ORM is.

    Args:
        kind: query, get, relationship, column, or refresh.
        what: the attribute, or the class that is read again; None for a query.
        root: the mapper or alias of the query that has loaded the object, or that this one loads.
        path: the attributes from there to the one that is loaded.
        also: columns that are loaded with it.
        is_written: the query itself defers the column.
    """

    kind: str
    what: str | None
    root: Any
    path: tuple[Any, ...] = ()
    also: tuple[Any, ...] = ()
    is_written: bool = False

    def remedy(self, *, is_get: bool, eager: Collection[str] = ()) -> str:
        """Return what to write.

        Args:
            is_get: the object comes from a `session.get`.
            eager: attributes on the way that the query loads already, in whichever way.
        """
        if self.kind in {"get", "refresh"}:
            name = self.root.class_.__name__
            key = self.root.get_property_by_column(self.root.primary_key[0]).key
            query = f"select({name}).where({name}.{key}.in_(...))"
            again = ".execution_options(populate_existing=True)" if self.kind == "refresh" else ""
            return f"read all of them at once, `{query}{again}`"
        if self.is_written:
            return f"take `defer({self.what})` out of its options"
        ends = [(*self.path[:-1], last) for last in (*self.path[-1:], *self.also)]
        alias = "alias" if self.root.is_aliased_class else None
        told = ", ".join(_options(path, eager, alias) for path in ends)
        named = f", where `alias` is that of {self.root.class_.__name__}" if alias else ""
        return f"add `options=[{told}]`" if is_get else f"add `.options({told})`{named}"


def load_of(statement: Any, given: Mapping[str, Any], compiled: Any) -> Load | None:
    """Return what is loaded; None if it is no SELECT of objects.

    Args:
        statement: what `execute` of the session was called with, by the application or a loader.
        given: the same, by name.
        compiled: what SQLAlchemy has made of it, and keeps for others that are like it.
    """
    options: Mapping[str, Any] = given.get("execution_options") or NOTHING
    loading = options.get(LOADING)
    if loading is not None:
        return _of_loader(statement, loading)
    try:
        query: Load | None = compiled.dbscope_load
    except AttributeError:
        query = _of_query(statement)
        if compiled is not None:
            compiled.dbscope_load = query
    return query


def _of_query(statement: Any) -> Load | None:
    path = getattr(getattr(statement, "_compile_options", None), "_current_path", None)
    # What a loader asks for itself, `selectinload` say, has a path.
    mapper = None if getattr(path, "path", ()) else _entity_of(statement)
    return None if mapper is None else Load("query", None, mapper)


def _of_loader(statement: Any, loading: Any) -> Load | None:
    compiling = getattr(statement, "_compile_options", None)
    path = getattr(compiling, "_current_path", None)
    if path is None:
        return _of_query(statement)
    state = loading._lazy_loaded_from  # noqa: SLF001
    if state is not None:
        return _of_attribute(state, path[-1], "relationship")
    state = loading._refresh_state  # noqa: SLF001
    if state is not None:
        return _of_refresh(state, getattr(compiling, "_only_load_props", None))
    mapper = _entity_of(statement)
    return None if mapper is None else Load("get", mapper.class_.__name__, mapper)


def _of_attribute(state: Any, attribute: Any, kind: str, also: tuple[Any, ...] = ()) -> Load:
    steps = [each for each in state.load_path.path if hasattr(each, "key")]
    root = state.load_path.path[0] if state.load_path.path else state.mapper
    root = root if hasattr(root, "class_") else state.mapper
    return Load(kind, str(attribute), root, (*steps, attribute), also)


def _of_refresh(state: Any, only: Any) -> Load:
    mapper = state.mapper
    columns = [mapper.attrs[key] for key in sorted(only or ()) if key in mapper.column_attrs]
    if columns and state.expired_attributes.isdisjoint(only):  # deferred, by whomever
        load = _of_attribute(state, columns[0], "column", tuple(columns[1:]))
        return replace(load, is_written=_is_named(columns[0], state.load_options))
    return Load("refresh", mapper.class_.__name__, mapper)


def _is_named(attribute: Any, options: Any) -> bool:
    """Tell whether an option is for this very attribute; SQLAlchemy takes no second one."""
    parts = [part for option in options or () for part in getattr(option, "context", ())]
    return any(part.path[-1] is attribute for part in parts)


def _entity_of(statement: Any) -> Any:
    """Return the mapper of the first thing that a SELECT reads."""
    columns: Any = getattr(statement, "_raw_columns", ())
    found = getattr(columns[0], "_annotations", NOTHING) if columns else NOTHING
    entity = found.get("parententity")
    return entity if hasattr(entity, "class_") and hasattr(entity, "mapper") else None


def _options(path: tuple[Any, ...], eager: Collection[str], alias: str | None) -> str:
    names = [f"{each.parent.class_.__name__}.{each.key}" for each in path]
    if alias is not None:
        names[0] = f"{alias}.{path[0].key}"
    return ".".join(
        f"defaultload({name})" if str(each) in eager else _option(each, name)
        for each, name in zip(path, names, strict=True)
    )


def _option(attribute: Any, name: str) -> str:
    if not hasattr(attribute, "uselist"):
        return f"undefer({name})"
    return f"selectinload({name})" if attribute.uselist else f"joinedload({name})"
