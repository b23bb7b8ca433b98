"""`db.sandbox()`, which both kinds of database have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

if TYPE_CHECKING:
    from dbscope.engine.source import EngineSource
    from dbscope.testing.sandbox import Sandbox


class HasSandboxes:
    """A database that tests can use without leaving anything in it."""

    _source: EngineSource

    def sandbox(self) -> Sandbox:
        """Open a test's world: what is done inside behaves as always, and at the end it is undone.

        For `with` and for `async with`, of both kinds of database; its companion is inside, too.
        Requests, scopes, blocks and commits by hand commit and roll back among each other, hooks
        run, constraints are looked at; at the end all is rolled back. There is one connection, so
        one transaction at a time: others wait for it, and what could never come to be is refused.

        Raises:
            TransactionManagementError: inside: work needs a transaction while code around it has
                written in one that is still open.
            ConfigurationError: inside: several are open, and the code belongs to none of them.

        Example:
            >>> with db.sandbox():
            ...     assert TestClient(app).post("/items", json={"name": "cup"}).status_code == 201
        """
        from dbscope.testing.sandbox import sandbox

        return sandbox(self._source)

    def _engine_of(self, given: Any) -> Any:
        """Return the engine of what was given instead of one: a connection in a transaction."""
        if not isinstance(given, Connection | AsyncConnection):
            return given
        from dbscope.testing.external import engine_on

        return engine_on(given)

    def _stay_on(self, given: Any) -> None:
        """Let all be a part of the transaction of the connection, if that is what was given."""
        if isinstance(given, Connection | AsyncConnection):
            from dbscope.testing.external import hold

            hold(self._source, given)

    def _share(self, companion: HasSandboxes) -> None:
        """Let the companion be in the sandboxes of this one."""
        self._source.sandboxes.add(companion._source)
