"""What both kinds of database do with the current session, in one line: queries and locks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Self, overload

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from typing_extensions import TypeVar

from dbscope.aio import concurrency
from dbscope.database.base import CommonDatabase
from dbscope.scopes import locks
from dbscope.scopes.atomic import AsyncAtomic, SyncAtomic
from dbscope.scopes.entering import Entered, Plain, Waiting
from dbscope.unit.current import unit_of

A = TypeVar("A", bound=AsyncSession, default=AsyncSession)
S = TypeVar("S", bound=Session, default=Session)
K = TypeVar("K")
M = TypeVar("M")
T = TypeVar("T")

if TYPE_CHECKING:

    class Like(Generic[M]):
        """A member with the type that a session has for it, in the SQLAlchemy that is installed."""

        def __init__(self, kind: type[K], find: Callable[[K], M]) -> None: ...
        @overload
        def __get__(self, instance: None, owner: Any) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> M: ...
        def __get__(self, instance: object, owner: Any) -> Any: ...


class Locked(Entered):
    """What both kinds of `with_lock()` share."""

    called = "with_lock"

    def __init__(self, block: Any) -> None:
        super().__init__(None)
        self.block = block

    def used(self) -> Any:
        """Return the block, to be entered."""
        self.is_used = True
        return self.block


class AsyncLocked(Locked, Waiting):
    """`with_lock()` of an `AsyncDatabase`."""

    async def __aenter__(self) -> Any:
        return await self.used().__aenter__()

    async def __aexit__(self, *raised: Any) -> bool | None:
        ignored: bool | None = await self.block.__aexit__(*raised)
        return ignored


class PlainLocked(Locked, Plain):
    """`with_lock()` of a `Database`."""

    def __enter__(self) -> Any:
        return self.used().__enter__()

    def __exit__(self, *raised: Any) -> bool | None:
        ignored: bool | None = self.block.__exit__(*raised)
        return ignored


class AsyncQueries(CommonDatabase[A]):
    """The queries and locks of an `AsyncDatabase`."""

    if TYPE_CHECKING:
        execute: Final = Like(AsyncSession, lambda session: session.execute)
        # https://github.com/python/mypy/issues/20651
        scalar: Final = Like(AsyncSession, lambda session: session.scalar)  # type: ignore[arg-type, return-value]
        scalars: Final = Like(AsyncSession, lambda session: session.scalars)
        get_by_pk: Final = Like(AsyncSession, lambda session: session.get)
    else:

        async def execute(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
            """Run a statement on the current session; see `AsyncSession.execute`."""
            return await self.session.execute(statement, *args, **kwargs)

        async def scalar(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
            """Return the first column of the first row; see `AsyncSession.scalar`."""
            return await self.session.scalar(statement, *args, **kwargs)

        async def scalars(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
            """Return the first column of all rows; see `AsyncSession.scalars`."""
            return await self.session.scalars(statement, *args, **kwargs)

        async def get_by_pk(self, entity: Any, ident: Any, **kwargs: Any) -> Any:
            """Return an object by its primary key, or None; see `AsyncSession.get`."""
            return await self.session.get(entity, ident, **kwargs)

    @overload
    async def lock(
        self,
        instance: T,
        *,
        nowait: bool = False,
        skip_locked: Literal[False] = False,
        of: Any = (),
    ) -> T: ...
    @overload
    async def lock(
        self, instance: T, *, nowait: bool = False, skip_locked: bool, of: Any = ()
    ) -> T | None: ...
    async def lock(
        self, instance: T, *, nowait: bool = False, skip_locked: bool = False, of: Any = ()
    ) -> T | None:
        """Lock an object's row until the transaction ends, and load it afresh (Rails' `lock!`).

        SQLite has no locks on rows: there the transaction becomes the one that may write.

        Args:
            instance: an object of the current session, without changes.
            nowait: an error of the database at once, if somebody else has it.
            skip_locked: None at once, if somebody else has it.
            of: the tables or entities to lock, of a mapping over several.

        Raises:
            TransactionRequired: outside a transaction, where the lock would be gone at once.
            TransactionManagementError: the object has changes, or is not in this session.

        Example:
            >>> async with db.atomic():
            ...     account = await db.lock(account)
            ...     account.balance -= amount
        """
        return await concurrency.in_greenlet(
            locks.lock,
            unit_of(self._source),
            instance,
            nowait=nowait,
            skip_locked=skip_locked,
            of=of,
        )

    @overload
    def with_lock(
        self,
        instance: T,
        *,
        nowait: bool = False,
        skip_locked: Literal[False] = False,
        of: Any = (),
    ) -> AbstractAsyncContextManager[T]: ...
    @overload
    def with_lock(
        self, instance: T, *, nowait: bool = False, skip_locked: bool, of: Any = ()
    ) -> AbstractAsyncContextManager[T | None]: ...
    def with_lock(self, instance: Any, **how: Any) -> Any:
        """Open an atomic block in which the row of the object is locked (Rails' `with_lock`).

        Args:
            instance: see `lock`.
            how: `nowait`, `skip_locked`, `of`; see `lock`.
        """
        return AsyncLocked(self._locked(instance, how))

    @asynccontextmanager
    async def _locked(self, instance: Any, how: dict[str, Any]) -> AsyncGenerator[Any, None]:
        async with AsyncAtomic(self._source):
            yield await self.lock(instance, **how)

    async def release(self) -> None:
        """Give the connection back now, before a slow call; the next statement takes one again.

        The transaction ends by that, and what comes later is a new one.

        Raises:
            TransactionManagementError: something was written or locked, an object has changes,
                or an `atomic` block is open.

        Example:
            >>> user = await db.get_by_pk(User, 1)
            >>> await db.release()
            >>> weather = await client.get(user.town)  # takes seconds
        """
        await concurrency.in_greenlet(locks.release, unit_of(self._source))


class Queries(CommonDatabase[S]):
    """The queries and locks of a `Database`."""

    if TYPE_CHECKING:
        execute: Final = Like(Session, lambda session: session.execute)
        scalar: Final = Like(Session, lambda session: session.scalar)  # type: ignore[arg-type, return-value]
        scalars: Final = Like(Session, lambda session: session.scalars)
        get_by_pk: Final = Like(Session, lambda session: session.get)
    else:

        def execute(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
            """Run a statement on the current session; see `Session.execute`."""
            return self.session.execute(statement, *args, **kwargs)

        def scalar(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
            """Return the first column of the first row; see `Session.scalar`."""
            return self.session.scalar(statement, *args, **kwargs)

        def scalars(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
            """Return the first column of all rows; see `Session.scalars`."""
            return self.session.scalars(statement, *args, **kwargs)

        def get_by_pk(self, entity: Any, ident: Any, **kwargs: Any) -> Any:
            """Return an object by its primary key, or None; see `Session.get`."""
            return self.session.get(entity, ident, **kwargs)

    @overload
    def lock(
        self,
        instance: T,
        *,
        nowait: bool = False,
        skip_locked: Literal[False] = False,
        of: Any = (),
    ) -> T: ...
    @overload
    def lock(
        self, instance: T, *, nowait: bool = False, skip_locked: bool, of: Any = ()
    ) -> T | None: ...
    def lock(
        self, instance: T, *, nowait: bool = False, skip_locked: bool = False, of: Any = ()
    ) -> T | None:
        """Lock the row of an object, and load it afresh; see `AsyncDatabase.lock`."""
        unit = unit_of(self._source)
        return locks.lock(unit, instance, nowait=nowait, skip_locked=skip_locked, of=of)

    @overload
    def with_lock(
        self,
        instance: T,
        *,
        nowait: bool = False,
        skip_locked: Literal[False] = False,
        of: Any = (),
    ) -> AbstractContextManager[T]: ...
    @overload
    def with_lock(
        self, instance: T, *, nowait: bool = False, skip_locked: bool, of: Any = ()
    ) -> AbstractContextManager[T | None]: ...
    def with_lock(self, instance: Any, **how: Any) -> Any:
        """Open an atomic block in which the row of the object is locked (Rails' `with_lock`)."""
        return PlainLocked(self._locked(instance, how))

    @contextmanager
    def _locked(self, instance: Any, how: dict[str, Any]) -> Generator[Any, None, None]:
        with SyncAtomic(self._source):
            yield self.lock(instance, **how)

    def release(self) -> None:
        """Give the connection back now, before a slow call; see `AsyncDatabase.release`."""
        locks.release(unit_of(self._source))
