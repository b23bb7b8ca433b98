"""SQLAlchemy's own plugin, which runs its suite for dialects, and what it has to know of ours."""

from typing import Any

import pytest
from sqlalchemy import Pool, event

pytest.register_assert_rewrite("sqlalchemy.testing.assertions")

from sqlalchemy.dialects.sqlite import provision  # noqa: E402
from sqlalchemy.testing.plugin.pytestplugin import *  # noqa: E402, F403
from sqlalchemy.testing.provision import update_db_opts  # noqa: E402

import dbscope.sqlite_inline  # noqa: E402, F401  (registers the dialect)

provision._drivernames.add("inline")  # it is a part of the names of the files


@update_db_opts.for_db("sqlite")
def use_one_connection(url: Any, options: dict[str, Any], config: Any) -> None:
    """Take the connection that was used last: it is the one that has the temporary tables."""
    options["pool_use_lifo"] = True


@event.listens_for(Pool, "connect")
def do_not_wait_for_the_disk(connection: Any, record: Any) -> None:
    """Let the suite take half of the time."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=OFF")
    cursor.close()
