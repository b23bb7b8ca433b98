"""Mount the page, where it may be."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from dbscope.errors import ConfigurationError
from dbscope.watch.page.app import Page
from dbscope.watch.page.safety import Guard

if TYPE_CHECKING:
    from collections.abc import Collection

    from dbscope.watch.findings import Findings
    from dbscope.watch.page.safety import Auth
    from dbscope.watch.share.asking import Everybody

logger = logging.getLogger("dbscope.watch")  # the commands of dbscope silence it


def mount(
    watch: Findings,
    everybody: Everybody,
    app: Any,
    path: str,
    *,
    auth: Auth | None,
    hosts: Collection[str] | None,
    migrations: Any,
) -> Guard:
    """Mount the page in an application.

    Raises:
        ConfigurationError: anybody could see it, or the path is none.
    """
    if not path.startswith("/") or path.endswith("/"):
        raise ConfigurationError(f"path={path!r} must begin with a slash, and not end with one.")
    if auth is None and not getattr(app, "debug", False):
        raise ConfigurationError(
            "db.watch.mount() shows what the application does with its database. Outside of debug "
            "mode it needs to know whom to let in: `auth=lambda request: ...`."
        )
    guard = Guard(auth, hosts)
    app.mount(path, Page(watch, everybody, guard, migrations))
    if auth is None:
        logger.warning("The watch is at %s/?token=%s", path, guard.token)
    return guard
