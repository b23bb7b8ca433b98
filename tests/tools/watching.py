"""What each tool has seen: `install` it, `clear` what it has, and give its `statements`.

Each is used as its own documents say, and as ours do (docs/how-to/observability.md).
"""

from __future__ import annotations

import os
from typing import Any

Seen = list[tuple[str, str | None]]


class AsgiProfiler:
    def install(self, app: Any, db: Any) -> None:
        import asgi_profiler
        from asgi_profiler import instrument

        ours = ("/dbscope/", "\\dbscope\\", "<sqlalchemy")
        instrument._IGNORED_FRAME_PARTS += ours
        self.profiler = asgi_profiler.install(app)

    def clear(self) -> None:
        self.profiler.clear()

    def statements(self) -> Seen:
        queries = [query for profile in self.profiler.profiles for query in profile.queries]
        return [(query.sql, query.stack[-1] if query.stack else None) for query in queries]


class QuerySpy:
    def install(self, app: Any, db: Any) -> None: ...

    def clear(self) -> None:
        import queryspy

        self.window = queryspy.record()
        self.recorder = self.window.__enter__()

    def statements(self) -> Seen:
        self.window.__exit__(None, None, None)
        frames = [str(record.frame) for record in self.recorder.orm_records]
        frames += [None] * (self.recorder.query_count - len(frames))
        return [("thing", frame) for frame in frames]


class Tracepanel:
    def __init__(self) -> None:
        os.environ |= {"TRACEPANEL_ENABLED": "1", "TRACEPANEL_DBAPI_ENABLED": "0"}
        os.environ |= {"TRACEPANEL_AGENT": "off"}
        self.traces: list[Any] = []

    def install(self, app: Any, db: Any) -> None:
        import tracepanel.fastapi
        from tracepanel.storage import transport

        tracepanel.fastapi.install(app)
        if not self.traces:
            transport.on_complete(self.traces.append)

    def clear(self) -> None:
        self.traces.clear()

    def statements(self) -> Seen:
        spans = [span for trace in self.traces for span in trace.spans if span.kind == "sql"]
        return [(span.attrs["db.statement"], span.attrs.get("code.origin")) for span in spans]


class OpenTelemetry:
    def __init__(self) -> None:
        from opentelemetry import trace
        from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
        from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from opentelemetry.trace import SpanKind

        from dbscope import callsite

        class NamesTheLine(SpanProcessor):
            def on_start(self, span: Any, parent_context: Any = None) -> None:
                if span.kind is SpanKind.CLIENT and (place := callsite()):
                    span.set_attribute("code.line", place)

        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(NamesTheLine())
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        trace.set_tracer_provider(provider)
        SQLAlchemyInstrumentor().instrument(skip_dep_check=True)

    def install(self, app: Any, db: Any) -> None: ...

    def clear(self) -> None:
        self.exporter.clear()

    def statements(self) -> Seen:
        spans = [span.attributes for span in self.exporter.get_finished_spans()]
        wanted = [span for span in spans if "db.statement" in span]
        return [(span["db.statement"], span.get("code.line")) for span in wanted]


class Sentry:
    def __init__(self) -> None:
        import sentry_sdk
        from sentry_sdk.integrations.asyncpg import AsyncPGIntegration
        from sqlalchemy import Engine, event

        from dbscope import callsite

        events = self.events = []

        class Transport(sentry_sdk.transport.Transport):
            def capture_envelope(self, envelope: Any) -> None:
                events.extend(item.payload.json for item in envelope.items)

            def flush(self, *args: Any, **kwargs: Any) -> None: ...

        sentry_sdk.init(
            dsn="http://key@127.0.0.1:1/1",
            transport=Transport,
            traces_sample_rate=1.0,
            disabled_integrations=[AsyncPGIntegration()],
        )

        @event.listens_for(Engine, "before_cursor_execute")
        def name_the_line(*args: Any) -> None:
            span, place = sentry_sdk.get_current_span(), callsite()
            if span is not None and place is not None:
                span.set_data("code.line", place)

    def install(self, app: Any, db: Any) -> None: ...

    def clear(self) -> None:
        self.events.clear()

    def statements(self) -> Seen:
        spans = [span for event in self.events for span in event.get("spans", ())]
        wanted = [span for span in spans if span["op"] == "db"]
        return [(span["description"], span["data"].get("code.line")) for span in wanted]


TOOLS = {
    "asgi-profiler": AsgiProfiler,
    "opentelemetry": OpenTelemetry,
    "queryspy": QuerySpy,
    "sentry": Sentry,
    "tracepanel": Tracepanel,
}
