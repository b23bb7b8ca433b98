"""SQLAlchemy's suite for dialects, with what it has to know of ours."""

from typing import Any

from sqlalchemy.testing import suite
from sqlalchemy.testing.suite import *  # noqa: F403


class ServerSideCursorsTest(suite.ServerSideCursorsTest):
    def _is_server_side(self, cursor: Any) -> bool:
        """Ask the cursor: the suite knows those of some drivers, by the drivers' names."""
        return cursor.server_side
