"""What one process answers about itself: to its own page, and to those of the others."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from dbscope.watch.share import told
from dbscope.watch.tally import newer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dbscope.watch.findings import Findings

MOST = 200  # records at once: the newest, and how many there were besides
Question = dict[str, Any]
_own = {"began": time()}  # this process; one that was forked begins anew


def process() -> dict[str, Any]:
    """Say which process this is; of its arguments nothing, since they may be secret."""
    program = Path(sys.argv[0] if sys.argv else "")
    name = program.parent.name if program.stem == "__main__" else program.name
    own = multiprocessing.current_process().name
    part = "" if own == "MainProcess" else f" {own}"
    return {"pid": os.getpid(), "name": f"{name or 'python'}{part}", **_own}


def answer(watch: Findings, asked: Question) -> Any:
    """Answer a question; None if there is no such thing.

    Args:
        watch: of this process.
        asked: `ask` names the question; see `QUESTIONS`.
    """
    question = QUESTIONS.get(asked.get("ask", ""))
    return None if question is None or watch.recorder is None else question(watch, asked)


def _new(watch: Findings, asked: Question) -> dict[str, Any]:
    assert watch.recorder is not None
    found = newer(watch.recorder, asked.get("after"))
    shown = found[-MOST:]
    return {
        "records": [told.summary(record) for record in shown],
        "missed": len(found) - len(shown) if asked.get("after") else 0,
        "last": found[-1].number if found else asked.get("after"),
        "process": process(),
        "database": str(watch.url),
        "now": told.now(watch),
    }


def _record(watch: Findings, asked: Question) -> dict[str, Any] | None:
    assert watch.recorder is not None
    found = [each for each in list(watch.recorder.ring) if each.number == asked.get("number")]
    return told.details(found[0]) if found else None


def _problems(watch: Findings, _: Question) -> list[dict[str, Any]]:
    return told.problems(watch.recent(10_000))


def _routes(watch: Findings, _: Question) -> list[dict[str, Any]]:
    return [] if watch.sampler is None else watch.sampler.tally.told()


def _pool(watch: Findings, _: Question) -> list[list[int]]:
    return [] if watch.sampler is None else watch.sampler.history.told()


def left(watch: Findings) -> dict[str, Any]:
    """Return what is worth to be known of a process after its end."""
    records = watch.recent(MOST)[::-1]
    return {
        "records": [told.details(record) for record in records],
        "problems": told.problems(records),
        "routes": _routes(watch, {}),
        "process": process() | {"ended": time()},
        "database": str(watch.url),
    }


QUESTIONS: Mapping[str, Callable[[Findings, Question], Any]] = {
    "new": _new,
    "record": _record,
    "problems": _problems,
    "routes": _routes,
    "pool": _pool,
}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _own.update(began=time()))
