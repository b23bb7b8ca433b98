"""`Outbox`: send with the work of plain code, relay afterwards."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from dbscope.aio import threads
from dbscope.outbox import store, wake
from dbscope.outbox.base import AWAY, ISOLATION, PATIENCE, OutboxBase, dead_messages, logger
from dbscope.outbox.message import Message, message_of
from dbscope.outbox.store import Report
from dbscope.outbox.wake import Bell
from dbscope.scopes.outside import outside
from dbscope.unit.current import unit_of


class Outbox(OutboxBase):
    """The outbox of a `Database`; see `AsyncOutbox`."""

    def send(
        self,
        topic: str,
        body: Any,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Store a message with the work of the current transaction; see `AsyncOutbox.send`."""
        unit = unit_of(self.db._source)  # noqa: SLF001
        return self._add(unit, topic, body, key, headers)

    def relay_once(self) -> int:
        """Publish what is due, one batch of it; see `AsyncOutbox.relay_once`."""
        if self._alone is None:
            with self.db.atomic(isolation=ISOLATION):
                rows = store.take(self.db.session, self.batch, lock=True)
                self._settle(self.db.session, self._publish(rows))
            return len(rows)
        if not self._alone.take():
            return 0
        try:
            return self._relay_alone()
        finally:
            self._alone.give_back()

    def _relay_alone(self) -> int:
        with self.db.scope(readonly=True):
            rows = store.take(self.db.session, self.batch, lock=False)
        if rows:
            report = self._publish(rows)
            with self.db.scope():
                self._settle(self.db.session, report)
        return len(rows)

    def _publish(self, rows: list[Any]) -> Report:
        report = Report()
        for row in rows:
            if self._is_to_be_published(row, report):
                try:
                    with outside():
                        self.publish(message_of(row))
                except Exception as error:
                    self._failed(report, row, error)
                else:
                    report.published.append(row.id)
        return report

    def relay(self) -> None:
        """Publish what is due and what comes, until `stop()`; see `AsyncOutbox.relay`."""
        bell = Bell()
        self.bells.add(bell)
        self._stopped = False
        try:
            with wake.listening_in_thread(self, bell.ring):
                while not self._stopped:
                    if self._round() < self.batch and not self._stopped:
                        bell.wait(self.poll)
        finally:
            self.bells.discard(bell)

    def _round(self) -> int:
        try:
            return 0 if self.rests else self.relay_once()
        except AWAY as error:
            logger.error("The relay of %s will try again: %s", self.db, error)
            return 0

    def dead(self) -> list[tuple[Message, str]]:
        """Return the messages that have failed too often, each with its last error."""
        with self.db.scope(readonly=True):
            return dead_messages(self.db.session)

    def revive(self) -> int:
        """Let the dead be tried again; return how many."""
        with self.db.scope():
            return store.revive(self.db.session)

    def waiting(self) -> int:
        """Return how many messages are still to be relayed."""
        with self.db.scope(readonly=True):
            return store.waiting(self.db.session)

    @contextmanager
    def running(self) -> Generator[None]:
        """Relay in a thread while it lasts."""
        thread = self._start()
        try:
            yield
        finally:
            self.stop()
            thread.join(PATIENCE)

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self.relay, name="dbscope outbox", daemon=True)
        thread.start()
        return thread

    def install(self, app: Any) -> None:
        """Relay in the processes of a Starlette or FastAPI application, while it runs."""
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def with_relay(app: Any) -> AsyncGenerator[Any]:
            async with inner(app) as state:
                thread = self._start()
                try:
                    yield state
                finally:
                    self.stop()
                    await threads.in_thread(thread.join, PATIENCE)

        app.router.lifespan_context = with_relay
