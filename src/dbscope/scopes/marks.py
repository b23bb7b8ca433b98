"""What is said about one function or route by a decorator of the database."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

from dbscope.scopes import guards
from dbscope.scopes.backoff import checked as checked_number
from dbscope.scopes.keep import keep
from dbscope.scopes.routes import Readonly, choose, choose_retries
from dbscope.unit.policy import Mode

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")


class Marks:
    """What both kinds of database have for that."""

    _source: Any  # a `Source`

    def keep(self, response: R) -> R:
        """Keep the work of this request, though the status of the response is 400 or above.

        Args:
            response: of Starlette or FastAPI; it is returned, and the client sees nothing of it.

        Example:
            >>> return db.keep(JSONResponse({"detail": "wrong password"}, 403))
        """
        return keep(response)

    @property
    def transaction_required(self) -> guards.RequiredVerb:
        """A decorator, and a context manager: TransactionRequired unless in a transaction.

        Example:
            >>> @db.transaction_required
            ... async def transfer(amount: int) -> None: ...
        """
        return guards.RequiredVerb(self._source)

    def durable(self, function: F) -> F:
        """Decorate a function that must not be called inside a transaction (Django's word).

        Raises:
            DurableError: when called inside a transaction.
            TransactionManagementError: it left a transaction open, which is rolled back.
        """
        return guards.durable(function, self._source)

    def non_atomic_requests(self, function: F) -> F:
        """Decorate a route: its requests autocommit, whatever `atomic_requests` says."""
        return choose(function, self._source, Mode.AUTOCOMMIT)

    def atomic_requests(self, function: F) -> F:
        """Decorate a route: its requests are one transaction, whatever `atomic_requests` says."""
        return choose(function, self._source, Mode.ATOMIC)

    @cached_property
    def readonly(self) -> Readonly:
        """A decorator of a route, and a dependency: its requests read, and nothing else.

        Reads autocommit; writing is a ReadOnlyViolation, by us before it is sent, and by the
        database.

        Example:
            >>> @app.get("/items", dependencies=[Depends(db.readonly)])
            ... async def read_items() -> list[ItemOut]: ...
        """
        self._source.require("readonly")
        return Readonly(self._source)

    def retry_requests(self, retries: int) -> Callable[[F], F]:
        """Decorate a route: its requests are done again as often as that after a conflict.

        All of the request is done again, with a session and hooks of its own, unless its response
        has started. What it does outside of its transaction is repeated.

        Args:
            retries: how often, whatever `DBSessionMiddleware(retry=)` says; 0: never.

        Example:
            >>> @app.post("/orders")
            ... @db.retry_requests(3)
            ... async def place_order(...): ...
        """
        times = checked_number(retries, "retry_requests", 0)
        return lambda function: choose_retries(function, times)
