"""Who has sent a statement, as a comment at its end, which logs and views of the server show.

By the specification of sqlcommenter: https://google.github.io/sqlcommenter/spec/
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dbscope import ConfigurationError
from dbscope.extras import needed
from dbscope.observe.attaching import AnyDatabase, all_of, attach
from dbscope.watch.drafts import route_of
from dbscope.watch.sent import is_many
from dbscope.watch.sql import WRITES

if TYPE_CHECKING:
    from dbscope.unit.unit import Unit
    from dbscope.watch.events import Event

__all__ = ["install"]

COMMENTED = WRITES | {"SELECT"}  # never what begins or ends a transaction, or a savepoint
FORMATS = frozenset({"format", "pyformat"})  # styles of parameters in which a % is said twice
FRAMEWORKS = ("fastapi", "starlette")

logger = logging.getLogger("dbscope")


def install(
    *databases: AnyDatabase,
    traceparent: bool = False,
    tags: Mapping[str, str] | None = None,
) -> Callable[[], None]:
    """Add a comment to each statement: its route, its endpoint and the framework.

    Not to what is sent with many sets of parameters at once, which some drivers rewrite by its
    text, and not where there is a comment already.

    Args:
        *databases: either kind; the statements of its companion have it as well.
        traceparent: add the span of OpenTelemetry, where it is sampled. It makes a new text of each
            statement, so no driver finds it among those that it has prepared: that is logged once.
        tags: that all of them have, `{"application": "shop"}` say.

    Returns:
        What ends it.

    Raises:
        ConfigurationError: a tag is no text; or opentelemetry-api is not installed, and
            `traceparent` was asked for.

    Example:
        >>> sqlcommenter.install(db, tags={"application": "shop"})
    """
    if tags is not None and not are_texts(tags):
        raise ConfigurationError(f"tags must be a mapping of texts, not {tags!r}.")
    spans = Spans() if traceparent else None
    return all_of([_install(each, Commenter(tags or {}, spans)) for each in databases])


def are_texts(tags: Any) -> bool:
    """Tell whether these are tags, whose names and values are texts."""
    return issubclass(type(tags), Mapping) and all(
        isinstance(each, str) for tag in tags.items() for each in tag
    )


def _install(database: AnyDatabase, commenter: Commenter) -> Callable[[], None]:
    detach, listeners = attach(database, commenter), database.events.listeners
    listeners.comment = commenter.comment

    def remove() -> None:
        detach()
        if listeners.comment == commenter.comment:
            listeners.comment = None

    return remove


class Commenter:
    """Adds comments to the statements of one database.

    Args:
        tags: that all of them have.
        spans: knows who is traced; None: nobody is asked.
    """

    def __init__(self, tags: Mapping[str, str], spans: Spans | None) -> None:
        self.tags = dict(tags)
        self.spans = spans
        self.has_warned = False

    def __call__(self, event: Event) -> None:
        """Hear of nothing: statements are told only where somebody listens."""

    def comment(self, unit: Unit, sql: str, context: Any, has_parameters: bool) -> str:
        """Return the text of a statement with a comment in it.

        Args:
            unit: whose statement it is.
            sql: its text.
            context: that of SQLAlchemy.
            has_parameters: whether the driver looks for them in the text.
        """
        if is_many(context) or "/*" in sql or "--" in sql or self._kind(unit, sql) not in COMMENTED:
            return sql
        told = told_of(self._tags_of(unit, context))
        if has_parameters and context.dialect.paramstyle in FORMATS:
            told = told.replace("%", "%%")
        return with_comment(sql, told) if told else sql

    def _kind(self, unit: Unit, sql: str) -> str:
        kind: str = unit.source.watching.statements[sql].kind
        return kind

    def _tags_of(self, unit: Unit, context: Any) -> dict[str, str]:
        tags = {**self.tags, **of_scope(unit)}
        if self.spans is not None and (traced := self.spans.of(unit)):
            tags |= traced
            self._warn(unit, context)
        return tags

    def _warn(self, unit: Unit, context: Any) -> None:
        """Say once what it costs."""
        if self.has_warned:
            return
        self.has_warned = True
        cache = unit.source.watching.statement_cache(context.dialect)
        if cache:
            logger.warning(
                "sqlcommenter: with traceparent=True each traced statement of %s has a text of its "
                "own, and %s. Trace a few requests only, or leave it out.",
                unit.source,
                cache,
            )


def of_scope(unit: Unit) -> dict[str, str]:
    """Return the tags of a request: by its template, so that there are as many as routes."""
    route = route_of(unit.scope)
    if route is None:
        return {}
    scope: Any = unit.scope
    endpoint: Any = scope.asgi.get("endpoint")
    tags = {"route": route.rpartition(" ")[2], "framework": framework()}
    name = getattr(endpoint, "__name__", None)
    return tags | ({"controller": name} if isinstance(name, str) else {})


def framework() -> str:
    """Return the framework and its version."""
    for name in FRAMEWORKS:
        if (module := sys.modules.get(name)) is not None:
            return f"{name}:{module.__version__}"
    return "asgi"


def told_of(tags: Mapping[str, str]) -> str:
    """Return `key='value',…`: encoded as in a URL, in the order of the keys."""
    encoded = {quote(key, safe=""): quote(value, safe="") for key, value in tags.items()}
    return ",".join(f"{key}='{value}'" for key, value in sorted(encoded.items()))


def with_comment(sql: str, told: str) -> str:
    """Return the statement with a comment at its end, before its semicolon if it has one."""
    body = sql.rstrip()
    is_ended = body.endswith(";")
    return f"{body.rstrip(';').rstrip()} /*{told}*/{';' if is_ended else ''}"


class Spans:
    """Knows the span that a statement belongs to.

    Raises:
        ConfigurationError: opentelemetry-api is not installed.
    """

    def __init__(self) -> None:
        with needed("opentelemetry", "OpenTelemetry"):
            from opentelemetry import trace

            from dbscope.observe import otel_spans
        self.current = trace.get_current_span
        self.of_statement = otel_spans.span_of

    def of(self, unit: Unit) -> dict[str, str]:
        """Return the tags of what is traced, and sampled."""
        found = (self.of_statement(unit) or self.current()).get_span_context()
        if not (found.is_valid and found.trace_flags.sampled):
            return {}
        traced = f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"
        state = found.trace_state.to_header()
        return {"traceparent": traced} | ({"tracestate": state} if state else {})
