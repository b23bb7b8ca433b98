"""The metrics of connections, statements and transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import CallbackOptions, Observation

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

    from dbscope.observe.attaching import AnyDatabase
    from dbscope.observe.transactions import Follower
    from dbscope.watch.pools import PoolState

# The bounds that the conventions want for db.client.operation.duration, in seconds.
BOUNDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10]
POOL = "db.client.connection.pool.name"
STATE = "db.client.connection.state"


class Metrics:
    """The instruments of one meter, for all databases.

    Args:
        meter: it.
    """

    def __init__(self, meter: Meter) -> None:
        self.watched: dict[int, tuple[AnyDatabase, Follower]] = {}  # by their listeners
        self.operation = _seconds(
            meter, "db.client.operation.duration", "Duration of database client operations."
        )
        self.wait = _seconds(
            meter,
            "db.client.connection.wait_time",
            "The time it took to obtain an open connection from the pool.",
        )
        self.use = _seconds(
            meter,
            "db.client.connection.use_time",
            "The time between borrowing a connection and returning it to the pool.",
        )
        self.transaction = _seconds(
            meter, "dbscope.transaction.duration", "From BEGIN to the end, by outcome."
        )
        self.timeouts = meter.create_counter(
            "db.client.connection.timeouts",
            unit="{timeout}",
            description="Waits for a connection that were in vain.",
        )
        meter.create_observable_up_down_counter(
            "db.client.connection.count",
            [self._count],
            unit="{connection}",
            description="Connections that are in the given state.",
        )
        meter.create_observable_up_down_counter(
            "db.client.connection.max",
            [self._most],
            unit="{connection}",
            description="Connections that are allowed at most.",
        )
        meter.create_observable_up_down_counter(
            "db.client.connection.pending_requests",
            [self._pending],
            unit="{request}",
            description="Who waits for a connection.",
        )

    def watch(self, database: AnyDatabase, follower: Follower) -> Callable[[], None]:
        """Tell of the pools of a database, too; return what ends it.

        Args:
            database: it.
            follower: knows who waits for a connection of it.
        """
        watched = self.watched[id(database.events.listeners)] = (database, follower)

        def remove() -> None:
            if self.watched.get(id(database.events.listeners)) is watched:
                del self.watched[id(database.events.listeners)]

        return remove

    def _pools(self) -> list[PoolState]:
        watched = tuple(self.watched.values())
        return [pool for database, _ in watched for pool in database.watch.pools()]

    def _count(self, _: CallbackOptions) -> Iterable[Observation]:
        for pool in self._pools():
            yield Observation(pool.used, {POOL: pool.name, STATE: "used"})
            yield Observation(pool.idle, {POOL: pool.name, STATE: "idle"})

    def _most(self, _: CallbackOptions) -> Iterable[Observation]:
        for pool in self._pools():
            if pool.most is not None:
                yield Observation(pool.most, {POOL: pool.name})

    def _pending(self, _: CallbackOptions) -> Iterable[Observation]:
        for database, follower in tuple(self.watched.values()):
            waiting = follower.waiting()
            for pool in database.watch.pools():
                yield Observation(waiting[pool.name], {POOL: pool.name})


def _seconds(meter: Meter, name: str, told: str) -> Any:
    return meter.create_histogram(
        name, unit="s", description=told, explicit_bucket_boundaries_advisory=BOUNDS
    )
