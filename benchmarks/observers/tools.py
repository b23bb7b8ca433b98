"""The observers, each as its own documents say: what it says of the requests to a path.

To be fair, all that a tool keeps of them is taken, not only what it shows first.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar

from benchmarks.observers.model import Databases


@dataclass(frozen=True)
class Problem:
    """Something that a tool has found."""

    many: bool  # it is said to be an N+1
    text: str
    remedy: str


@dataclass(frozen=True)
class Said:
    """What a tool says: outcomes in our words, all its text, and what it has found."""

    outcomes: list[str] = field(default_factory=list)
    text: str = ""
    problems: list[Problem] = field(default_factory=list)


class Tool(ABC):
    """An observer; `install` it, `clear` what it has."""

    packages: ClassVar[tuple[str, ...]]

    @abstractmethod
    def install(self, app: Any, dbs: Databases) -> None: ...

    @abstractmethod
    def clear(self) -> None: ...

    @abstractmethod
    def said(self, path: str) -> Said: ...

    def job(self, name: str) -> AbstractContextManager[Any]:  # noqa: ARG002
        """Return its way to look at what is no request."""
        return nullcontext()

    def close(self) -> None:  # noqa: B027
        """End what it has started."""


class Watch(Tool):
    """dbscope."""

    packages = ("dbscope",)

    def install(self, app: Any, dbs: Databases) -> None:  # noqa: ARG002
        self.watches = [db.watch for db in dbs.all]

    def clear(self) -> None:
        for watch in self.watches:
            watch.stop()
            watch.start(share=False)

    def said(self, path: str) -> Said:
        records = [
            record
            for watch in self.watches
            for record in watch.recent()
            if record.route == f"POST {path}" or record.kind not in {"request", "tail"}
        ]
        return Said(
            outcomes=[record.outcome for record in records if record.outcome],
            text="\n".join(map(str, records)),
            problems=[
                Problem(problem.kind == "N+1", str(problem), problem.remedy)
                for record in records
                for problem in record.problems
                if not problem.kind.startswith("idle")
            ],
        )


class QuerySpy(Tool):
    """queryspy, by its middleware."""

    packages = ("queryspy",)

    def install(self, app: Any, dbs: Databases) -> None:  # noqa: ARG002
        self.reports: list[Any] = []
        app.add_middleware(
            import_module("queryspy.asgi").QuerySpyMiddleware, on_report=self.reports.append
        )

    def clear(self) -> None:
        self.reports.clear()
        self.found: list[Any] = []

    @contextmanager
    def job(self, name: str) -> Iterator[None]:  # noqa: ARG002
        with import_module("queryspy").record() as recorder:
            yield
        self.found = recorder.findings()

    def said(self, path: str) -> Said:
        hint_for = import_module("queryspy._hints").hint_for
        render = import_module("queryspy._report").render_finding
        reports = [report for report in self.reports if report.path == path]
        found = [each for report in reports for each in report.findings] + self.found
        return Said(
            text="\n".join(report.render() for report in reports),
            problems=[Problem(True, render(each), hint_for(each)) for each in found],
        )


class AsgiProfiler(Tool):
    """asgi-profiler; it looks at requests only."""

    packages = ("asgi-profiler",)

    def install(self, app: Any, dbs: Databases) -> None:  # noqa: ARG002
        instrument: Any = import_module("asgi_profiler.instrument")
        ours = ("/dbscope/", "\\dbscope\\", "<sqlalchemy")
        instrument._IGNORED_FRAME_PARTS += ours
        self.profiler = import_module("asgi_profiler").install(app)

    def clear(self) -> None:
        self.profiler.clear()

    def said(self, path: str) -> Said:
        kept = [profile for profile in self.profiler.profiles if profile.path == path]
        return Said(
            text="\n".join(json.dumps(profile.as_dict(), default=str) for profile in kept),
            problems=[
                Problem(
                    problem.type == "n_plus_one_db", json.dumps(problem.as_dict()), problem.detail
                )
                for profile in kept
                for problem in profile.problems
            ],
        )


class Tracepanel(Tool):
    """tracepanel, with its agent, which finds the problems."""

    packages = ("tracepanel", "tracepanel-agent")
    WORDS: ClassVar = {"commit": "committed", "rollback": "rolled back"}

    def install(self, app: Any, dbs: Databases) -> None:  # noqa: ARG002
        import_module("tracepanel.fastapi").install(app)
        self.traces: list[Any] = []
        import_module("tracepanel.storage.transport").on_complete(self.traces.append)
        agent = import_module("tracepanel.storage.agent")
        config = import_module("tracepanel.core.conf").get_config()
        self.agent = agent.start(config)
        self.console = import_module("tracepanel.testing").Console(agent.console_url(config))

    def close(self) -> None:
        if self.agent:
            self.agent.terminate()
            self.agent.wait()

    def clear(self) -> None:
        self.traces.clear()

    def job(self, name: str) -> AbstractContextManager[Any]:
        traced: AbstractContextManager[Any] = import_module("tracepanel").trace(name)
        return traced

    def said(self, path: str) -> Said:
        kept = [each for each in self.traces if each.name.endswith(path)]
        spans = [span for trace in kept for span in trace.spans if span.kind == "transaction"]
        ends = [span.attrs for span in spans if not span.attrs.get("db.transaction.savepoint")]
        found = self.console.findings(kept)
        return Said(
            outcomes=[
                self.WORDS[attrs["db.transaction.outcome"]]
                for attrs in ends
                if "db.transaction.outcome" in attrs
            ],
            text="\n".join(
                [json.dumps(trace.to_dict(), default=str) for trace in kept]
                + [f"{each.kind}: {each.describe()}" for each in found]
            ),
            problems=[
                Problem(each.kind == "n+1", each.describe(), each.hint or "") for each in found
            ],
        )


def settle(folder: str) -> None:
    """Tell tracepanel what only the environment does."""
    os.environ |= {"TRACEPANEL_ENABLED": "1", "TRACEPANEL_DBAPI_ENABLED": "0"}
    os.environ |= {"TRACEPANEL_DIR": folder}


TOOLS: dict[str, type[Tool]] = {
    "dbscope": Watch,
    "queryspy": QuerySpy,
    "asgi-profiler": AsgiProfiler,
    "tracepanel": Tracepanel,
}
