"""`AsyncCRUD` and `CRUD`: the operations on `db.session`. They only carry them."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import ColumnElement, ColumnExpressionArgument
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.orm.interfaces import ORMOption

from dbscope import AsyncDatabase, Database
from dbscope.crud import operations, page
from dbscope.crud.common import CommonCRUD, Create, Model, Update
from dbscope.crud.order import OrderBy
from dbscope.crud.page import Page, Wanted
from dbscope.crud.upsert import upsert, upsert_many

P = ParamSpec("P")
T = TypeVar("T")


class AsyncCRUD(CommonCRUD[Model, Create, Update]):
    """What is done with the rows of one model, on the session of the current scope.

    Everything is flushed, so that ids exist and errors come where they belong; nothing commits.
    What is given to be stored is a pydantic model, a dataclass or any mapping.

    Args:
        db: the database; its `session` is used.

    Raises:
        ConfigurationError: the class does not say its model, or the database is of the other kind.

    Example:
        >>> class Items(AsyncCRUD[Item, ItemCreate, ItemUpdate]):
        ...     sortable = ("name", "price")  # what a client may sort by
        >>> items = Items(db)
    """

    db: AsyncDatabase[Any]
    _kind = AsyncDatabase

    def __init__(self, db: AsyncDatabase[Any]) -> None:
        super().__init__(db)

    async def get(self, pk: Any, **get_options: Any) -> Model | None:
        """Return a row by its primary key, or None.

        Args:
            pk: a tuple if it has several columns.
            get_options: those of `Session.get`: `with_for_update=True`, `options=[...]`.
        """
        return await self._run(operations.get, self.model, pk, get_options)

    async def get_or_404(self, pk: Any, **get_options: Any) -> Model:
        """Return a row by its primary key.

        Args:
            pk: a tuple if it has several columns.
            get_options: those of `Session.get`.

        Raises:
            NotFound: there is none; with Starlette it is an `HTTPException` too: 404.
        """
        return await self._run(operations.get_or_404, self.model, pk, get_options)

    async def list(
        self,
        *filters: ColumnExpressionArgument[bool],
        order_by: OrderBy = (),
        limit: int = 20,
        offset: int = 0,
        after: str | None = None,
        total: bool = False,
        options: Sequence[ORMOption] = (),
    ) -> Page[Model]:
        """Return a page of the rows.

        The order always ends with the primary key, so it is complete. NULL comes last, in either
        direction. Going on by cursor costs the same on every page, and neither repeats nor leaves
        out a row when others come and go; an offset does both.

        Args:
            filters: conditions, as for `Select.where`.
            order_by: columns, `.desc()` or not; or the words of a client, "-price,name", whose
                names must be in `sortable`.
            limit: rows on a page, from 1 to `max_limit`.
            offset: rows to leave out.
            after: the `next` of the page before, in the same order.
            total: count all rows too, which takes a statement more.
            options: of the loader: `selectinload(...)`.

        Raises:
            BadRequest: a limit, an offset or a name that cannot be; with Starlette 422.
            BadCursor: the cursor is none of this list; likewise.
        """
        wanted = Wanted(filters, order_by, limit, offset, after, total, options)
        return await self._run(
            page.list_page, self.model, wanted, sortable=self.sortable, max_limit=self.max_limit
        )

    async def create(self, data: Create, /, **more: Any) -> Model:
        """Store a new row.

        Args:
            data: its fields.
            more: further attributes, which win.

        Raises:
            TypeError: the model has no such attribute.
        """
        return await self._run(operations.create, self.model, data, more)

    async def create_many(self, data: Iterable[Create], /, **more: Any) -> builtins.list[Model]:
        """Store new rows: those with the same fields by one statement for each batch.

        Args:
            data: the fields of each; the rows are returned in this order.
            more: further attributes of all of them, which win.
        """
        return await self._run(operations.create_many, self.model, data, more)

    async def update(self, obj: Model, data: Update, /, **more: Any) -> Model:
        """Change a row.

        Args:
            obj: the row.
            data: the new values; of a pydantic model only the fields that were set.
            more: further attributes, which win.

        Raises:
            TypeError: the model has no such attribute.
        """
        return await self._run(operations.update, self.model, obj, data, more)

    async def delete(self, obj: Model) -> None:
        """Delete a row."""
        await self._run(operations.delete, obj)

    async def upsert(
        self,
        data: Create,
        /,
        on: Sequence[str],
        *,
        where: ColumnElement[bool] | None = None,
        **more: Any,
    ) -> Model:
        """Store a new row, or change the one that is there: one statement, safe at any load.

        The model's `@validates` and `onupdate` are run as in `create` and `update`.

        Args:
            data: the fields; where a row is there, only those that were set are changed.
            on: the attributes that are unique together.
            where: the condition of the unique index, if it is a partial one.
            more: further attributes, which win.

        Raises:
            TypeError: a name that is not one of a column, or no value for one of `on`.
            NullRefused: a None that the column does not take; with Starlette 422.
        """
        return await self._run(upsert, self.model, data, on, more, where=where)

    async def upsert_many(
        self,
        data: Iterable[Create],
        /,
        on: Sequence[str],
        *,
        where: ColumnElement[bool] | None = None,
        **more: Any,
    ) -> builtins.list[Model]:
        """Do the same with many rows: one statement for each batch that has the same fields.

        Args:
            data: the rows, which are returned in this order; of two that are the same, the later
                one changes what the earlier one has stored.
            on: the attributes that are unique together.
            where: the condition of the unique index, if it is a partial one.
            more: further attributes of all of them, which win.
        """
        return await self._run(upsert_many, self.model, data, on, more, where=where)

    async def exists(self, *filters: ColumnExpressionArgument[bool]) -> bool:
        """Tell whether there is a row that meets the conditions."""
        return await self._run(operations.exists, self.model, filters)

    async def count(self, *filters: ColumnExpressionArgument[bool]) -> int:
        """Return how many rows meet the conditions."""
        return await self._run(operations.count, self.model, filters)

    async def _run(
        self, function: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        session: AsyncSession = self.db.session
        return await session.run_sync(function, *args, **kwargs)


class CRUD(CommonCRUD[Model, Create, Update]):
    """What is done with the rows of one model, in plain code; see `AsyncCRUD`."""

    db: Database[Any]
    _kind = Database

    def __init__(self, db: Database[Any]) -> None:
        super().__init__(db)

    def get(self, pk: Any, **get_options: Any) -> Model | None:
        """Return a row by its primary key, or None; see `AsyncCRUD.get`."""
        return self._run(operations.get, self.model, pk, get_options)

    def get_or_404(self, pk: Any, **get_options: Any) -> Model:
        """Return a row by its primary key, or raise NotFound; see `AsyncCRUD.get_or_404`."""
        return self._run(operations.get_or_404, self.model, pk, get_options)

    def list(
        self,
        *filters: ColumnExpressionArgument[bool],
        order_by: OrderBy = (),
        limit: int = 20,
        offset: int = 0,
        after: str | None = None,
        total: bool = False,
        options: Sequence[ORMOption] = (),
    ) -> Page[Model]:
        """Return a page of the rows; see `AsyncCRUD.list`."""
        wanted = Wanted(filters, order_by, limit, offset, after, total, options)
        return self._run(
            page.list_page, self.model, wanted, sortable=self.sortable, max_limit=self.max_limit
        )

    def create(self, data: Create, /, **more: Any) -> Model:
        """Store a new row; see `AsyncCRUD.create`."""
        return self._run(operations.create, self.model, data, more)

    def create_many(self, data: Iterable[Create], /, **more: Any) -> builtins.list[Model]:
        """Store new rows; see `AsyncCRUD.create_many`."""
        return self._run(operations.create_many, self.model, data, more)

    def update(self, obj: Model, data: Update, /, **more: Any) -> Model:
        """Change a row; see `AsyncCRUD.update`."""
        return self._run(operations.update, self.model, obj, data, more)

    def delete(self, obj: Model) -> None:
        """Delete a row; see `AsyncCRUD.delete`."""
        self._run(operations.delete, obj)

    def upsert(
        self,
        data: Create,
        /,
        on: Sequence[str],
        *,
        where: ColumnElement[bool] | None = None,
        **more: Any,
    ) -> Model:
        """Store a new row, or change the one that is there; see `AsyncCRUD.upsert`."""
        return self._run(upsert, self.model, data, on, more, where=where)

    def upsert_many(
        self,
        data: Iterable[Create],
        /,
        on: Sequence[str],
        *,
        where: ColumnElement[bool] | None = None,
        **more: Any,
    ) -> builtins.list[Model]:
        """Do the same with many rows; see `AsyncCRUD.upsert_many`."""
        return self._run(upsert_many, self.model, data, on, more, where=where)

    def exists(self, *filters: ColumnExpressionArgument[bool]) -> bool:
        """Tell whether there is a row that meets the conditions."""
        return self._run(operations.exists, self.model, filters)

    def count(self, *filters: ColumnExpressionArgument[bool]) -> int:
        """Return how many rows meet the conditions."""
        return self._run(operations.count, self.model, filters)

    def _run(
        self, function: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        session: Session = self.db.session
        return function(session, *args, **kwargs)
