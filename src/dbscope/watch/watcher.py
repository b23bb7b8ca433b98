"""`db.watch`: who did what with the database, and why it was kept or not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from dbscope import arguments
from dbscope.watch.findings import KEPT, Findings
from dbscope.watch.recorder import Recorder
from dbscope.watch.sampler import Sampler
from dbscope.watch.strict import Strict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from dbscope.watch.records import Record
    from dbscope.watch.share.asking import Everybody
    from dbscope.watch.share.serving import Sharing

PATIENCE = 1.0  # seconds


class Watch(Findings):
    """Records of the last scopes that have used a database.

    Nothing is recorded, and nothing is paid for, before `start()`.

    Args:
        source: of the database.
    """

    def __init__(self, source: Any) -> None:
        super().__init__(source)
        self.sharing: Sharing | None = None
        self.told: list[Callable[[Record], object]] = []  # of each record, whoever makes it
        watches.add(self)

    def start(self, *, keep: int = KEPT, values: bool = False, share: bool = True) -> None:
        """Record what happens from now on; both kinds of the database are watched.

        Args:
            keep: how many records; the oldest is forgotten first.
            values: keep the parameters of statements too, shortened. They are your users' data.
            share: answer the page, `dbscope top` and `dbscope mcp` of other processes of this user,
                by a socket in a folder of its own; where there are no such sockets, it is not done.

        Raises:
            ConfigurationError: an argument that cannot be.

        Example:
            >>> db.watch.start()
            >>> ...
            >>> print(*db.watch.recent())
        """
        arguments.check("keep", keep, arguments.at_least(1))
        arguments.check("values", values, arguments.FLAG)
        arguments.check("share", share, arguments.FLAG)
        if self.recorder is None:
            self.recorder = Recorder(keep, values=values, on_record=self.told)
            self._source.events.add(self.recorder)
            self._look_around()
        if share and self.sharing is None:
            self._share()

    def stop(self) -> None:
        """Record no longer; what was recorded is forgotten."""
        if self.recorder is not None:
            self._source.events.remove(self.recorder)
            self.recorder = None
        if self.sampler is not None:
            self.sampler.stop()
            self.sampler = None
        if self.sharing is not None:
            self.sharing.close()
            self.sharing = self.id = None

    def end_application(self) -> None:
        """Leave what was recorded to other processes: a server's signal may end this one at once.

        What waits at the end of a process (`atexit`) is not waited for then.
        """
        if self.sharing is not None and not self.sharing.is_closed:
            self.sharing.leave()
            self.sharing.join(PATIENCE)  # it takes its socket away

    def begin_application(self) -> None:
        """Answer others again, if an application has ended in this process."""
        if self.sharing is not None and self.sharing.is_closed:
            self._share(self.sharing.id)

    def _begin(self) -> None:
        """Record, as it was said where it has been started already."""
        if not self.is_on:
            self.start()

    def _look_around(self) -> None:
        assert self.recorder is not None
        self.sampler = Sampler(self.recorder, self._source)
        self.sampler.start()

    def _share(self, name: str | None = None) -> None:
        from dbscope.watch.share import serving

        if serving.IS_POSSIBLE:
            self.sharing = serving.Sharing(self, self._source, name)
            self.id = self.sharing.id
            self.sharing.start()

    def start_anew(self) -> None:
        """Have threads again, in a process that was forked: they were the parent's."""
        sharing, self.sharing = self.sharing, None
        if self.recorder is not None:
            self.recorder.start_anew()
            self._look_around()
        if sharing is not None:
            sharing.close()
            self._share()

    def everybody(self) -> Everybody:
        """Return this process and all others that watch the same database, to be asked."""
        from dbscope.watch.share import asking, folder

        return asking.Everybody(lambda: folder.of_database(self._source), self)

    def heal(self, *, on: bool = True) -> None:
        """Load for all objects of a query at once what is loaded late for one of them.

        For sessions that are opened from now on, whether anything is recorded or not. What each
        object gets is what its own statement would have given; see docs/watch.md for what is left
        alone. `session_options={"info": {"heal": True}}` is the same from the beginning.

        Args:
            on: False: no longer.

        Example:
            >>> db.watch.heal()
            >>> for order in await db.session.scalars(select(Order)):
            ...     print(await order.awaitable_attrs.lines)  # two statements in all
        """
        arguments.check("on", on, arguments.FLAG)
        self._source.events.listeners.heals = on

    def on_record(self, function: Callable[[Record], object]) -> None:
        """Call the function with each record from now on; it must not wait.

        Args:
            function: it is called in the task or thread of the work; its errors are logged.
        """
        self._begin()
        self.told.append(function)

    def forget(self, function: Callable[[Record], object]) -> None:
        """Call the function no longer."""
        if function in self.told:
            self.told.remove(function)

    def mount(
        self,
        app: Any,
        path: str = "/_db",
        *,
        auth: Callable[[Any], Any] | None = None,
        hosts: Collection[str] | None = None,
        migrations: Any = None,
    ) -> None:
        """Show all of it on a page of the application, and start to record.

        Nothing of it is in the OpenAPI document. In debug mode, whoever opens the address that the
        log tells once has the token; everywhere else `auth` decides.

        Args:
            app: of Starlette or FastAPI.
            path: of the page.
            auth: given Starlette's `Request`, whether to let it in; plain or async.
            hosts: names that the page may be asked for by, without ports; None: those of this
                machine, or with `auth` any.
            migrations: the `Migrations` of the database, to be shown too.

        Raises:
            ConfigurationError: the application is not in debug mode, and there is no `auth`.

        Example:
            >>> db.watch.mount(app, auth=lambda request: request.session.get("is_admin"))
        """
        from dbscope.watch.page.mounting import mount

        self._begin()
        mount(self, self.everybody(), app, path, auth=auth, hosts=hosts, migrations=migrations)

    def strict(self, *, allow: Mapping[str, str] | None = None) -> Strict:
        """Raise a problem where it is found, as long as the block lasts: for tests.

        Args:
            allow: what is allowed, and why: patterns of an attribute (`Order.lines`), or of a line
                (`*/reports.py:*`).

        Raises:
            ConfigurationError: something is allowed without a reason.

        Example:
            >>> with db.watch.strict(allow={"Order.lines": "three at most"}):
            ...     client.get("/orders")
        """
        allowed = allow or {}
        for pattern, reason in allowed.items():
            arguments.check(f"reason for allowing {pattern!r}", reason, arguments.REASON)
        return Strict(self, allowed)

    def __repr__(self) -> str:
        state = "off" if self.recorder is None else f"{len(self.recorder.ring)} records"
        return f"<Watch of {self._source}, {state}>"


watches: WeakSet[Watch] = WeakSet()


def _start_anew() -> None:
    for watch in tuple(watches):
        watch.start_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
