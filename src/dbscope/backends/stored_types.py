"""Types as what they are in a database, whatever the application has around them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from sqlalchemy.types import NullType, TypeDecorator, TypeEngine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Dialect

Type = TypeEngine[Any]


class Original(TypeDecorator[Any]):
    """Brings a type through Alembic's copies of a table; those of SQLAlchemy's Enum lose much."""

    impl = NullType
    cache_ok = True

    def __init__(self, original: Type) -> None:
        super().__init__()
        self.original = original


class Existing(Original):
    """A type that one database has already, by its name.

    Args:
        original: as it is for the others.
        there: as it is there.
        dialect: which that is.
    """

    def __init__(self, original: Type, there: Type, dialect: str) -> None:
        super().__init__(original)
        self.there = there
        self.dialect = dialect


def variants_of(type_: Type) -> Mapping[str, Type]:
    """Return what it is on other databases, by the names of their dialects."""
    return type_._variant_mapping  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def stored(type_: Type, dialect: Dialect) -> Type:
    """Return the type of SQLAlchemy that a type is on a database, whatever is around it."""
    if isinstance(type_, Original):
        return stored(type_.original, dialect)
    type_ = variants_of(type_).get(dialect.name, type_)
    if isinstance(type_, TypeDecorator):
        below = type_.type_engine(dialect)
        return below if below is type_ else stored(below, dialect)
    if (item := getattr(type_, "item_type", None)) is not None:
        array: Any = copy.copy(type_)
        array.item_type = stored(item, dialect)
        return array  # type: ignore[no-any-return]
    return type_
