"""OpenTelemetry: spans of transactions and statements, and metrics of connections.

Names are those of the semantic conventions for databases; what these do not know begins with
`dbscope.`: https://opentelemetry.io/docs/specs/semconv/database/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dbscope import __version__
from dbscope.extras import needed
from dbscope.observe.attaching import AnyDatabase, all_of, attach
from dbscope.observe.otel_metrics import Metrics
from dbscope.observe.otel_spans import Spans

with needed("opentelemetry", "OpenTelemetry"):
    from opentelemetry import metrics, trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["install"]

SCHEMA = "https://opentelemetry.io/schemas/1.34.0"

_metrics: WeakKeyDictionary[Any, Metrics] = WeakKeyDictionary()  # each instrument is made once


def install(
    *databases: AnyDatabase,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> Callable[[], None]:
    """Make spans and metrics of what happens in these databases from now on.

    A transaction is a span below the one that was current when it began, that of a request say; its
    statements and its COMMIT are below it. A statement inside a span that the application has begun
    meanwhile is below that one, and has a link to its transaction.

    Args:
        *databases: either kind; its companion is told of as well.
        tracer_provider: None: the global one.
        meter_provider: None: the global one.

    Returns:
        What ends it.

    Raises:
        ConfigurationError: opentelemetry-api is not installed.

    Example:
        >>> opentelemetry.install(db)
    """
    tracer = trace.get_tracer("dbscope", __version__, tracer_provider, SCHEMA)
    provider = meter_provider or metrics.get_meter_provider()
    if provider not in _metrics:
        _metrics[provider] = Metrics(provider.get_meter("dbscope", __version__, SCHEMA))
    meter = _metrics[provider]
    removes: list[Callable[[], None]] = []
    for database in databases:
        spans = Spans(tracer, meter, attributes_of(database))
        removes += [attach(database, spans), meter.watch(database, spans)]
    return all_of(removes)


SYSTEMS = {"mssql": "microsoft.sql_server", "oracle": "oracle.db"}  # of the semantic conventions


def attributes_of(database: AnyDatabase) -> dict[str, Any]:
    """Return what all spans and metrics of a database have."""
    url = database.url
    system = url.get_backend_name()
    found = {
        "db.system.name": SYSTEMS.get(system, system),
        "db.namespace": url.database,
        "server.address": url.host,
        "server.port": url.port,
    }
    return {name: value for name, value in found.items() if value is not None}
