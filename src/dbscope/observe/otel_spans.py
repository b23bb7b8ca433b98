"""The spans of transactions and of what is sent in them; their durations are metrics as well."""

from __future__ import annotations

from asyncio import CancelledError
from functools import lru_cache
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from dbscope import PoolTimeout
from dbscope.observe import transactions
from dbscope.observe.transactions import Follower, Transaction
from dbscope.watch import events, reasons
from dbscope.watch.lines import line_here
from dbscope.watch.sent import is_many, rows_of
from dbscope.watch.sql import Literals, parse

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

    from dbscope.observe.otel_metrics import Metrics
    from dbscope.unit.unit import Unit

FIRST_OF_SERVER = 500  # among the answers that are errors
FAILED = frozenset({transactions.COMMIT_FAILED, transactions.UNKNOWN})


class Spans(Follower):
    """Makes the spans of one database.

    Args:
        tracer: makes them.
        metrics: are told how long it took.
        attributes: that all of them have.
    """

    def __init__(self, tracer: Tracer, metrics: Metrics, attributes: dict[str, Any]) -> None:
        super().__init__()
        self.tracer = tracer
        self.metrics = metrics
        self.attributes = attributes
        self.sent: dict[Unit, tuple[Span, dict[str, Any], float]] = {}
        self.handlers |= {
            events.StatementBegun: self._statement,
            events.StatementEnded: self._statement_ended,
        }

    # -- connections ---------------------------------------------------------------------------

    def start_anew(self) -> None:
        """Forget the statements of the parent, too."""
        super().start_anew()
        self.sent.clear()

    def waited(
        self, unit: Unit, seconds: float, error: BaseException | None, *, was_full: bool
    ) -> None:
        """Measure it; where somebody had to give a connection back first, it is a span."""
        pool = {"db.client.connection.pool.name": unit.source.pool_name}
        is_timeout = isinstance(error, PoolTimeout)
        if error is None:
            self.metrics.wait.record(seconds, pool)
        elif is_timeout:
            self.metrics.timeouts.add(1, pool)
        if was_full or is_timeout:
            since = time_ns() - int(seconds * 1e9)
            attributes = {**self.attributes, **pool}
            span = self.tracer.start_span(
                "wait for a connection", attributes=attributes, start_time=since
            )
            end(span, None if error is None else (error, unit))

    def used(self, unit: Unit, seconds: float) -> None:
        """Measure it."""
        pool = {"db.client.connection.pool.name": unit.source.pool_name}
        self.metrics.use.record(seconds, pool)

    # -- transactions --------------------------------------------------------------------------

    def begun(self, transaction: Transaction) -> None:
        """Begin its span, below the one that is current here."""
        transaction.around = trace.get_current_span()
        scope = {
            "dbscope.scope": transaction.kind,
            "dbscope.database": transaction.unit.source.name,
        }
        transaction.span = self.tracer.start_span(
            "transaction",
            attributes={**self.attributes, **scope},
            start_time=transaction.began_ns,
        )

    def ended(self, transaction: Transaction) -> None:
        """End its span, and measure it."""
        outcome = str(transaction.outcome)
        told = {**self.attributes, "dbscope.outcome": outcome}
        context = trace.set_span_in_context(transaction.span)
        self.metrics.transaction.record(transaction.seconds, told, context)
        if transaction.commit_sent_ns is not None:
            self._commit(transaction, context)
        span: Span = transaction.span
        span.set_attribute("dbscope.outcome", outcome)
        if transaction.route:
            span.set_attribute("http.route", transaction.route.partition(" ")[2])
        if outcome != transactions.COMMITTED:
            _tell_why(span, transaction)
        span.end(transaction.ended_ns)

    def _commit(self, transaction: Transaction, context: Any) -> None:
        """Make the span of COMMIT, now that it is known what became of it."""
        named = {"db.operation.name": "COMMIT", "db.query.summary": "COMMIT"}
        span = self.tracer.start_span(
            "COMMIT",
            context,
            kind=SpanKind.CLIENT,
            attributes={**self.attributes, **named},
            start_time=transaction.commit_sent_ns,
        )
        if transaction.outcome in FAILED and transaction.error is not None:
            mark(span, transaction.error, transaction.unit)
        span.end(transaction.commit_ended_ns)

    # -- statements ----------------------------------------------------------------------------

    def _statement(self, event: events.StatementBegun) -> None:
        unit = event.unit
        name, attributes = named(event.sql, unit.source.watching.literals)
        attributes = {**self.attributes, **attributes}
        context, links = self._around(unit)
        span = self.tracer.start_span(
            name, context, kind=SpanKind.CLIENT, attributes=attributes, links=links
        )
        if span.is_recording():
            span.set_attribute("db.query.text", unit.source.watching.statements[event.sql].text)
            _note_line(span)
            if is_many(event.context) and event.parameters:
                span.set_attribute("db.operation.batch.size", len(event.parameters))
        self.sent[unit] = (span, attributes, perf_counter())

    def _around(self, unit: Unit) -> tuple[Any, list[Link]]:
        """Return what a statement is below, and its transaction as a link where that is not it."""
        transaction = self.open.get(unit)
        if transaction is None:
            return None, []
        if trace.get_current_span() is transaction.around:
            return trace.set_span_in_context(transaction.span), []
        return None, [Link(transaction.span.get_span_context())]

    def _statement_ended(self, event: events.StatementEnded) -> None:
        sent = self.sent.pop(event.unit, None)
        if sent is None:
            return
        span, attributes, began = sent
        if event.error is not None:
            attributes |= mark(span, event.error, event.unit)
        elif span.is_recording() and attributes["db.operation.name"] == "SELECT":
            rows = rows_of(event.context)
            if rows is not None:
                span.set_attribute("db.response.returned_rows", rows)
        self.metrics.operation.record(
            perf_counter() - began, attributes, trace.set_span_in_context(span)
        )
        span.end()

    def _over(self, event: events.UnitEvent) -> None:
        super()._over(event)
        self.sent.pop(event.unit, None)


def span_of(unit: Unit) -> Span | None:
    """Return the span of the statement that a unit is about to send, if one was made."""
    for each in unit.source.events.listeners:
        if isinstance(each, Spans) and unit in each.sent:
            return each.sent[unit][0]
    return None


@lru_cache(2048)
def named(text: str, literals: Literals) -> tuple[str, dict[str, str]]:
    """Return what the span of a statement is called, and what the conventions say of it."""
    sql = parse(text, literals)
    kind = "query" if sql.kind == "?" else sql.kind
    name = f"{kind} {sql.table}" if sql.table else kind
    attributes = {"db.operation.name": kind, "db.query.summary": name}
    return name, attributes | ({"db.collection.name": sql.table} if sql.table else {})


def _note_line(span: Span) -> None:
    """Name the line of the application that has sent it."""
    place = line_here()
    if place is not None:
        span.set_attribute("code.file.path", place.code.co_filename)
        span.set_attribute("code.function.name", place.code.co_qualname)
        span.set_attribute("code.line.number", place.line)


def _tell_why(span: Span, transaction: Transaction) -> None:
    if transaction.reason is not None:
        span.set_attribute("dbscope.reason", transaction.reason)
    error, is_failed = transaction.error, transaction.outcome in FAILED
    if error is not None and (is_failed or is_of_server(error)):
        mark(span, error, transaction.unit)
    elif is_failed:
        span.set_status(Status(StatusCode.ERROR, transaction.reason))


def is_of_server(error: BaseException) -> bool:
    """Tell whether an error is none that was made for the client, nor a client that has left."""
    status = getattr(error, "status_code", FIRST_OF_SERVER)
    is_answer = isinstance(status, int) and status < FIRST_OF_SERVER
    return not is_answer and not isinstance(error, CancelledError)


def mark(span: Span, error: BaseException, unit: Unit) -> dict[str, str]:
    """Tell a span of an error, without the text, which may have what people have entered.

    Returns:
        What the conventions want to be told of it.
    """
    cls = type(error)
    told = {"error.type": f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")}
    code = unit.source.watching.code_of(getattr(error, "orig", None) or error)
    if code is not None:
        told["db.response.status_code"] = code
    span.set_attributes(told)
    span.set_status(Status(StatusCode.ERROR, reasons.describe(error, unit)))
    return told


def end(span: Span, failed: tuple[BaseException, Unit] | None) -> None:
    """End a span, by an error if there is one."""
    if failed is not None:
        mark(span, *failed)
    span.end()
