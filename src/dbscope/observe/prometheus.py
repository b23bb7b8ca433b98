"""Prometheus: a collector of transactions by route and outcome, of statements, and of connections.

A route is named by its template, never by a path, so that the number of series is that of routes.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dbscope import PoolTimeout
from dbscope.extras import needed
from dbscope.observe.attaching import AnyDatabase, all_of, attach
from dbscope.observe.transactions import Follower, Transaction
from dbscope.watch import events
from dbscope.watch.sql import WRITES

with needed("prometheus_client", "The client of Prometheus"):
    from prometheus_client import REGISTRY, Counter, Histogram
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector, CollectorRegistry

if TYPE_CHECKING:
    from dbscope.unit.unit import Unit

__all__ = ["install"]

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # seconds
KINDS = WRITES | {"SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK"}  # all others are one

Sums = Count[tuple[str, ...]]  # by labels
_collectors: WeakKeyDictionary[CollectorRegistry, Databases] = WeakKeyDictionary()


def install(*databases: AnyDatabase, registry: CollectorRegistry = REGISTRY) -> Callable[[], None]:
    """Count what happens in these databases from now on.

    Args:
        *databases: either kind; its companion is counted as well.
        registry: what is scraped.

    Returns:
        What ends it.

    Raises:
        ConfigurationError: prometheus-client is not installed.

    Example:
        >>> prometheus.install(db)
        >>> app.mount("/metrics", prometheus_client.make_asgi_app())
    """
    collector = _collectors.get(registry)
    if collector is None:
        collector = _collectors[registry] = Databases()
        registry.register(collector)
    return all_of([collector.watch(database) for database in databases])


class Databases(Collector):
    """What is scraped: all databases of one registry."""

    def __init__(self) -> None:
        self.watched: dict[int, tuple[AnyDatabase, Counts]] = {}  # by their listeners
        self.transactions = _counter(
            "transactions", "Transactions, by outcome.", "kind", "route", "outcome"
        )
        self.seconds = _histogram("transaction_seconds", "From BEGIN to the end.", "kind", "route")
        self.statements = _histogram("statement_seconds", "Time of statements.", "operation")
        self.failed = _counter("statement_errors", "Statements that failed.", "operation")
        self.wait = _histogram("connection_wait_seconds", "Time until there is a connection.")
        self.use = _histogram("connection_use_seconds", "Time that a connection is held.")
        self.timeouts = _counter("connection_timeouts", "Waits for a connection in vain.")

    def watch(self, database: AnyDatabase) -> Callable[[], None]:
        """Count what happens in a database; return what ends it."""
        key, counts = id(database.events.listeners), Counts(self, database.name)
        detach = attach(database, counts)
        watched = self.watched[key] = (database, counts)

        def remove() -> None:
            detach()
            if self.watched.get(key) is watched:
                del self.watched[key]

        return remove

    def collect(self) -> Iterator[Metric]:
        """Give all metrics, as they are now."""
        for each in vars(self).values():
            if isinstance(each, Counter | Histogram):
                yield from each.collect()
        yield from self._connections()
        yield self._events()

    def describe(self) -> list[Metric]:
        """Tell nothing before there is something: the registry need not ask a database for it."""
        return []

    def _connections(self) -> Iterator[Metric]:
        """Return the figures of the pools; those of databases of one name are added up."""
        by_state, most, pending = Sums(), Sums(), Sums()
        for database, counts in tuple(self.watched.values()):
            waiting = counts.waiting()
            for pool in database.watch.pools():
                by_state[pool.name, "used"] += pool.used
                by_state[pool.name, "idle"] += pool.idle
                pending[pool.name,] += waiting[pool.name]
                if pool.most is not None:
                    most[pool.name,] += pool.most
        yield _gauge("connections", "Connections, by what they do.", by_state, "pool", "state")
        yield _gauge("connections_max", "Connections that there may be.", most, "pool")
        yield _gauge("connections_pending", "Who waits for a connection.", pending, "pool")

    def _events(self) -> Metric:
        """Return what `db.stats()` counts anyhow."""
        numbers = Sums()
        for database, _ in tuple(self.watched.values()):
            for name, number in database.stats().items():
                if not name.startswith("pool_"):
                    numbers[database.name, name] += number
        labels = ["database", "event"]
        told = CounterMetricFamily("dbscope_events", "What db.stats() counts.", labels=labels)
        _fill(told, numbers)
        return told


class Counts(Follower):
    """Counts for one database.

    Args:
        told: the metrics.
        name: of the database.
    """

    def __init__(self, told: Databases, name: str) -> None:
        super().__init__()
        self.told = told
        self.name = name
        self.sent: dict[Unit, tuple[str, float]] = {}
        self.handlers |= {
            events.StatementBegun: self._statement,
            events.StatementEnded: self._statement_ended,
        }

    def start_anew(self) -> None:
        """Forget the statements of the parent, too."""
        super().start_anew()
        self.sent.clear()

    def waited(
        self,
        unit: Unit,  # noqa: ARG002
        seconds: float,
        error: BaseException | None,
        *,
        was_full: bool,  # noqa: ARG002
    ) -> None:
        """Count it."""
        self.told.wait.labels(self.name).observe(seconds)
        if isinstance(error, PoolTimeout):
            self.told.timeouts.labels(self.name).inc()

    def used(self, unit: Unit, seconds: float) -> None:  # noqa: ARG002
        """Count it."""
        self.told.use.labels(self.name).observe(seconds)

    def ended(self, transaction: Transaction) -> None:
        """Count it."""
        place = self.name, transaction.kind, transaction.route
        self.told.transactions.labels(*place, transaction.outcome).inc()
        self.told.seconds.labels(*place).observe(transaction.seconds)

    def _statement(self, event: events.StatementBegun) -> None:
        kind = event.unit.source.watching.statements[event.sql].kind
        self.sent[event.unit] = (kind if kind in KINDS else "OTHER", perf_counter())

    def _statement_ended(self, event: events.StatementEnded) -> None:
        sent = self.sent.pop(event.unit, None)
        if sent is None:
            return
        kind, began = sent
        self.told.statements.labels(self.name, kind).observe(perf_counter() - began)
        if event.error is not None:
            self.told.failed.labels(self.name, kind).inc()


def _counter(name: str, told: str, *labels: str) -> Counter:
    return Counter(f"dbscope_{name}", told, ["database", *labels], registry=None)


def _histogram(name: str, told: str, *labels: str) -> Histogram:
    return Histogram(f"dbscope_{name}", told, ["database", *labels], registry=None, buckets=BOUNDS)


def _gauge(name: str, told: str, sums: Sums, *labels: str) -> Any:
    family: Any = GaugeMetricFamily(f"dbscope_{name}", told, labels=labels)
    _fill(family, sums)
    return family


def _fill(family: Any, sums: Sums) -> None:
    for labels, number in sums.items():
        family.add_metric(labels, number)
