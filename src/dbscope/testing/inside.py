"""What the test kit needs of a database that its public face does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbscope import AsyncDatabase, Database
    from dbscope.engine.source import EngineSource

    AnyDatabase = AsyncDatabase[Any] | Database[Any]


def source_of(db: AnyDatabase) -> EngineSource:
    """Return where the sessions of a database come from."""
    source: EngineSource = db._source  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (a part of us)
    return source


def sources_of(db: AnyDatabase) -> list[EngineSource]:
    """Return those of a database and of its companion, if there is one."""
    known = [each() for each in source_of(db).sandboxes.sources]
    return [source for source in known if source is not None]


def dialects_of(db: AnyDatabase) -> list[Any]:
    """Return the dialects of both, as far as they were made; that of the database itself is."""
    main = source_of(db).sync_engine.dialect
    others = [source.engines.plain for source in sources_of(db)]
    return list({main: None, **{each.dialect: None for each in others if each is not None}})
