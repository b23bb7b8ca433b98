"""SQLAlchemy's `AsyncSession`, whose operations run in greenlets that are kept."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.asyncio.result import _ensure_sync_result  # pyright: ignore[reportPrivateUsage]
from sqlalchemy.util import immutabledict

from dbscope.aio.greenlets import carry

if TYPE_CHECKING:
    from collections.abc import Callable

BUFFERED: immutabledict[str, Any] = immutabledict({"prebuffer_rows": True})  # as SQLAlchemy has it


def carried(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of `AsyncSession` that carries the one of its `Session`."""
    name = method.__name__

    @wraps(method)
    async def run(self: AsyncSession, *args: Any, **kwargs: Any) -> Any:
        return await carry(getattr(self.sync_session, name), *args, **kwargs)

    return run


def buffered(options: Any) -> immutabledict[str, Any]:
    """Return execution options by which all rows are read at once."""
    return immutabledict(options).union(BUFFERED) if options else BUFFERED


class CarriedSession(AsyncSession):
    """An `AsyncSession` as it is; only what an await costs is less."""

    if not TYPE_CHECKING:  # the types are SQLAlchemy's
        get = carried(AsyncSession.get)
        get_one = carried(AsyncSession.get_one)
        refresh = carried(AsyncSession.refresh)
        merge = carried(AsyncSession.merge)
        delete = carried(AsyncSession.delete)
        flush = carried(AsyncSession.flush)

        async def execute(
            self,
            statement: Any,
            params: Any = None,
            *,
            execution_options: Any = None,
            **kwargs: Any,
        ) -> Any:
            """Execute a statement and return a buffered result; see `AsyncSession.execute`."""
            execute, options = self.sync_session.execute, buffered(execution_options)
            result = await carry(execute, statement, params, execution_options=options, **kwargs)
            return await _ensure_sync_result(result, self.execute)

        async def scalar(
            self,
            statement: Any,
            params: Any = None,
            *,
            execution_options: Any = None,
            **kwargs: Any,
        ) -> Any:
            """Execute a statement and return a scalar result; see `AsyncSession.scalar`."""
            scalar, options = self.sync_session.scalar, buffered(execution_options)
            return await carry(scalar, statement, params, execution_options=options, **kwargs)
