"""What a database has to be listened to and watched by: `db.events`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbscope.watch.dispatch import Events


class Watched:
    """A database that can be listened to."""

    @property
    def events(self) -> Events:
        """What happens in this database, to listen to; `db.sync` and `db.async_` share it.

        Example:
            >>> db.events.listen(print)
        """
        database: Any = self
        events: Events = database._source.events  # noqa: SLF001  (which a subclass makes)
        return events
