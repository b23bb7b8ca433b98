"""How a revision writes the type of a column: as what is stored, without the application."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from typing import Any, Literal

import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.base import SchemaEventTarget
from sqlalchemy.types import PickleType, TypeDecorator, TypeEngine

from dbscope import MigrationError
from dbscope.backends import registry
from dbscope.backends.stored_types import Existing, Original, stored, variants_of

FAMILIES = {each.features.family for each in registry.known()}
PREFIXES: dict[str, Any] = {
    "sa": sa,
    **{name: import_module(f"sqlalchemy.dialects.{name}") for name in sorted(FAMILIES)},
    "sa.types": sa.types,
}
UNTOLD = {"astext_type", "text_type", "metadata", "quote"}  # what no table shows
OF_ENUM = [
    "name",
    "schema",
    "native_enum",
    "create_constraint",
    "length",
    "collation",
    "create_type",
    "charset",
    "ascii",
    "unicode",
    "binary",
    "national",
]
Type = TypeEngine[Any]


def render_item(kind: str, item: Any, autogenerate: Any) -> str | Literal[False]:
    """Write a type, for Alembic's `render_item`; False for what Alembic writes by itself.

    A type of SQLAlchemy is written as it is. A type of the application, a `TypeDecorator` say, is
    written as what it stores in each database: `sa.CHAR(length=36).with_variant(sa.UUID(),
    'postgresql')`. A revision is a record: it goes on working, and goes on making the same table,
    when the class has moved or changed. Only what no type of SQLAlchemy can say is imported from
    its module: a type with SQL of its own.

    What is returned has been tried: it makes the column that the type itself makes.

    Raises:
        MigrationError: nothing that could be written does.
    """
    if isinstance(item, Existing):
        there = f".with_variant({_written(item.there)}, {item.dialect!r})"
        autogenerate.imports.update(_imports(f"sa{there}"))
        return f"{render_item(kind, item.original, autogenerate)}{there}"
    if isinstance(item, Original):
        item = item.original
    if kind != "type" or any(each.migrating().renders(item) for each in registry.known()):
        return False
    dialects = _dialects(autogenerate.migration_context.dialect)
    asked = [each for each in dialects if _column(item, each) is not None]
    if dialects[0] not in asked:
        return False
    for text in _candidates(item, asked):
        if _is_true(text, item, asked):
            autogenerate.imports.update(_imports(text))
            return text
    raise MigrationError(
        f"The type {item!r} of {type(item).__module__} cannot be written into a revision. Define "
        "its class at the top of a module, and keep its arguments in attributes of their names."
    )


def bring_originals(operations: Iterable[Any]) -> None:
    """Let the tables that are about to be written have the types of the models, not copies."""
    for operation in operations:
        if isinstance(operation, ops.CreateTableOp):
            operation.columns = [*map(_uncopied, operation.columns)]


def _is_column(item: object) -> bool:
    return isinstance(item, sa.Column)


def _uncopied(item: Any) -> Any:
    if not _is_column(item):
        return item
    other: Any = copy.copy(item)  # this one is the model's
    if isinstance(other.type, sa.Enum):
        other.type = Original(other.type)
    return other


# -- what it could be ------------------------------------------------------------------------------


def _candidates(type_: Type, dialects: list[Dialect]) -> Iterator[str]:
    """Give texts, the best first."""
    yield from _tried(lambda: _nested(type_))
    yield from _as_stored(type_, dialects)
    for each in (type_, stored(type_, dialects[0])):
        yield from _tried(lambda each=each: f"{type(each).__module__}.{each!r}")
        yield from _tried(lambda each=each: _call(type(each), type(each).__module__, each))


def _tried(write: Any) -> Iterator[str]:
    try:
        yield write()
    except Exception:  # it is only one of several ways, and a class of theirs may do anything
        return


def _bare(type_: Type) -> Type:
    if isinstance(type_, TypeDecorator) and not isinstance(type_, sa.Interval):
        raise TypeError(type_)
    return type_


def _variants(type_: Type) -> str:
    """Write what other databases have instead."""
    variants = sorted(variants_of(type_).items())
    return "".join(f".with_variant({_written(_bare(each))}, {name!r})" for name, each in variants)


def _as_stored(type_: Type, dialects: list[Dialect]) -> Iterator[str]:
    """Write what is stored in most databases, and for each in which that is wrong what is right.

    What most store may not be fit to be the first: a copy of an `Enum` loses its variants, and
    Alembic copies columns.
    """
    each_is = [stored(type_, each) for each in dialects]
    fit = [each for each in each_is if not isinstance(each, SchemaEventTarget)]
    for base in (stored(type_, DefaultDialect()), *fit, sa.String(1)):
        yield from _tried(lambda base=base: _with_others(base, type_, dialects))


def _with_others(base: Type, type_: Type, dialects: Iterable[Dialect]) -> str:
    text = _written(base)
    others: dict[str, list[str]] = {}
    for each in dialects:
        if not _is_true(text, type_, [each]):
            others.setdefault(_written(stored(type_, each)), []).append(each.name)
    for other, names in others.items():
        text += f".with_variant({other}, {', '.join(map(repr, sorted(names)))})"
    return text


# -- how it is written -----------------------------------------------------------------------------


def _written(type_: Type) -> str:
    """Write a type by the nearest public class of SQLAlchemy."""
    if isinstance(type_, PickleType):
        type_ = type_.impl_instance
    for kind in type(type_).__mro__:
        for prefix, module in PREFIXES.items():
            if getattr(module, kind.__name__, None) is kind:
                return _call(kind, prefix, type_)
    raise TypeError(type_)


def _call(kind: type, prefix: str, type_: Any) -> str:
    values = getattr(type_, "enums", None) or getattr(type_, "values", None) or ()
    arguments = [repr(str(each)) for each in values]
    for name, default in dict(reversed([*_parameters(kind, type_)])).items():
        value: Any = getattr(type_, name, getattr(type_, f"_{name}", default))
        if isinstance(value, TypeEngine):
            arguments.append(f"{name}={_nested(value)}")  # pyright: ignore[reportUnknownArgumentType]
        elif value != default and isinstance(value, bool | int | float | str):
            plain = str(value) if isinstance(value, str) else value
            arguments.append(f"{name}={plain!r}")
    return f"{prefix}.{kind.__qualname__}({', '.join(arguments)})"


def _nested(type_: Type) -> str:
    return _written(_bare(type_)) + _variants(type_)


def _parameters(kind: type, type_: Any) -> Iterator[tuple[str, Any]]:
    """Give what the class takes by name, with the defaults."""
    if isinstance(type_, sa.Enum):
        usual = kind("a", name="a")
        length = getattr(type_, "length", None) if type_.native_enum else None
        for name in OF_ENUM:
            yield name, length if name == "length" else getattr(usual, name, None)
        return
    for each in kind.__mro__:
        if "__init__" not in vars(each):
            continue
        parameters = inspect.signature(vars(each)["__init__"]).parameters.values()
        for one in list(parameters)[1:]:
            if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD) and one.name not in UNTOLD:
                yield one.name, one.default
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            return


# -- whether it is true ----------------------------------------------------------------------------


def _dialects(connected: Dialect) -> list[Dialect]:
    """Return the database that is connected, and the others that may run the revision."""
    names = (name for name in registry.BACKENDS if name != connected.name)
    return [connected, *map(_unconnected, names)]


@cache
def _unconnected(name: str) -> Dialect:
    return sa.make_url(f"{name}://").get_dialect()()


def _is_true(text: str, type_: Type, dialects: Iterable[Dialect]) -> bool:
    """Tell whether what is written makes the column that the type makes."""
    try:
        made = eval(text, _namespace(text))  # noqa: S307 (we have written it)
    except Exception:
        return False
    return all(_column(made, each, copied=True) == _column(type_, each) for each in dialects)


def _column(type_: Type, dialect: Dialect, *, copied: bool = False) -> str | None:
    """Return the SQL of a column of the type; None: there is none of it in such a database.

    Args:
        type_: of the column.
        dialect: of the database.
        copied: look at a copy of the column, which is what Alembic makes a table of.
    """
    try:
        table = sa.Table("t", sa.MetaData(), sa.Column("c", type_, primary_key=True))
        if copied:
            table = table.to_metadata(sa.MetaData())
        return str(CreateTable(table).compile(dialect=dialect))
    except Exception:
        return None


def _namespace(text: str) -> dict[str, Any]:
    names = dict(PREFIXES)
    for line in _imports(text):
        if line.startswith("import "):
            module = line.removeprefix("import ")
            import_module(module)
            names[module.partition(".")[0]] = import_module(module.partition(".")[0])
    return names


def _imports(text: str) -> set[str]:
    """Return the lines that a text needs above it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text, mode="eval")):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            prefix = ast.unparse(node.func.value)
            if prefix in FAMILIES:
                found.add(f"from sqlalchemy.dialects import {prefix}")
            elif prefix not in PREFIXES and isinstance(node.func.value, ast.Name | ast.Attribute):
                found.add(f"import {prefix}")
    return found
