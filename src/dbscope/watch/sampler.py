"""A thread that looks, now and then, at what is going on: who is idle, and who waits for a lock.

What a listener cannot hear: nobody tells of the time in which nothing happens.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dbscope.unit.callsite import Place, is_of_application, is_of_session
from dbscope.watch import lines
from dbscope.watch.drafts import SHORTEST, Draft, holding
from dbscope.watch.history import History
from dbscope.watch.tally import Tally

if TYPE_CHECKING:
    from types import FrameType

    from dbscope.watch.kept import Kept

EVERY = 0.05  # seconds
REST = 10.0  # seconds without questions, after one that went wrong

logger = logging.getLogger("dbscope")


class Sampler(threading.Thread):
    """Looks at the open drafts of a recorder.

    Args:
        recorder: who has them.
        source: of the database, which may know who waits for a lock of whom.
    """

    def __init__(self, recorder: Kept, source: Any) -> None:
        super().__init__(name="dbscope watch", daemon=True)
        self.recorder = recorder
        self.source = source
        self.history = History(recorder, source)
        self.tally = Tally(recorder)
        self._stopped = threading.Event()
        self._quiet_until = 0.0

    def run(self) -> None:
        """Look, until it is stopped."""
        while not self._stopped.wait(EVERY):
            self.look()
            self.history.look(self.tally.look())
        self.source.watching.forget()

    def stop(self) -> None:
        """Look no more; nobody waits for the thread."""
        self._stopped.set()

    def look(self) -> None:
        """Look once."""
        now = perf_counter()
        slow: list[Draft] = []
        for draft in tuple(self.recorder.drafts.values()):
            idle, current = draft.idle_since, draft.current
            if idle is not None and now - idle > SHORTEST:
                draft.awaited = doing(draft.who) or draft.awaited
            if current is not None and now - current.began > SHORTEST and draft.waiting is None:
                slow.append(draft)
        if slow and now > self._quiet_until:
            self._look_for_locks(slow, now)

    def _look_for_locks(self, slow: list[Draft], now: float) -> None:
        """Ask the server, which may be the one that is ill: then do without for a while."""
        try:
            found = self.source.watching.lock_waits([draft.unit for draft in slow])
        except Exception as error:
            logger.debug("Who holds the locks could not be asked: %r", error)
            self._quiet_until = now + REST
            return
        processes = self._processes() if found else {}
        for draft in slow:
            mine = [each for each in found if processes.get(each.waiter) is draft]
            sent = draft.current
            if mine and sent is not None:
                whom = [_name(processes.get(each.holder), each.told) for each in mine]
                draft.waiting = (mine[0].what, sent.began, tuple(dict.fromkeys(whom)), sent.line)

    def _processes(self) -> dict[int, Draft]:
        drafts = tuple(self.recorder.drafts.values())
        found = [(draft.unit.source.watching.process_of(draft.unit), draft) for draft in drafts]
        return {process: draft for process, draft in found if process is not None}


def _name(holder: Draft | None, told: str) -> str:
    return told if holder is None else holding(holder)


def doing(who: Any) -> str | None:
    """Say what a task waits for, or where a thread is; None if that cannot be seen."""
    if isinstance(who, asyncio.Task):
        return _awaited(who.get_coro())
    frame = sys._current_frames().get(who)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return None if frame is None else _in_frames(frame)


def _awaited(coroutine: Any) -> str | None:
    """Name the innermost coroutine that is awaited, and the line of the application above it."""
    line: Place | None = None
    name: str | None = None
    while coroutine is not None:
        frame = _attribute(coroutine, "frame")
        if frame is not None:
            if is_of_application(frame):
                line, name = Place(frame.f_code, frame.f_lineno), None
            elif line is not None and name is None and not is_of_session(frame):
                name = _name_of(frame)
        coroutine = _attribute(coroutine, "await")
    return _told(name, line)


def _attribute(coroutine: Any, name: str) -> Any:
    """Return what a coroutine, a generator or an async generator calls by its own prefix."""
    other = "yieldfrom" if name == "await" else name
    for attribute in (f"cr_{name}", f"ag_{name}", f"gi_{other}"):
        if (found := getattr(coroutine, attribute, None)) is not None:
            return found
    return None


def _in_frames(frame: FrameType | None) -> str | None:
    name: str | None = None
    while frame is not None and not is_of_application(frame):
        name = name if is_of_session(frame) else _name_of(frame)
        frame = frame.f_back
    return None if frame is None else _told(name, Place(frame.f_code, frame.f_lineno))


def _name_of(frame: FrameType) -> str:
    module: str = frame.f_globals.get("__name__", "?")
    return f"{module.partition('.')[0]}.{frame.f_code.co_qualname}"


def _told(name: str | None, line: Place | None) -> str | None:
    if line is None:
        return name
    return f"{name} at {lines.told(line)}" if name else lines.told(line)
