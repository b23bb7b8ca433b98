"""What a database has to be listened to and watched by: `db.events`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbscope.watch.dispatch import Events
    from dbscope.watch.watcher import Watch


class Watched:
    """A database that can be listened to."""

    @property
    def events(self) -> Events:
        """What happens in this database, to listen to; `db.sync` and `db.async_` share it.

        Example:
            >>> db.events.listen(print)
        """
        database: Any = self
        events: Events = database._source.events  # noqa: SLF001
        return events

    @property
    def watch(self) -> Watch:
        """Records of what happens in this database: off until `db.watch.start()`.

        Example:
            >>> db.watch.start()
        """
        database: Any = self
        return watch_of(database._source)  # noqa: SLF001


def watch_of(source: Any) -> Watch:
    """Return the watch of a database, which its companion has as well.

    Args:
        source: of the database.
    """
    listeners = source.events.listeners
    if listeners.watch is None:
        from dbscope.watch.watcher import Watch  # a fifth of our import, and many never watch

        listeners.watch = Watch(source)
    watch: Watch = listeners.watch
    return watch


def begin_application(source: Any) -> None:
    """Tell the watch of a database, if there is one, that an application begins."""
    if (watch := source.events.listeners.watch) is not None:
        watch.begin_application()


def end_application(source: Any) -> None:
    """Tell it that the application ends; it may wait for a file."""
    if (watch := source.events.listeners.watch) is not None:
        watch.end_application()
