"""Which scopes inside a request must have ended before it is answered, and have not.

A dependency with `yield` is left when the answer is gone: too late for the COMMIT of a scope, or
for the error of one. Work that goes on beside the request has a life of its own, and may outlast
it. What tells the two apart is who is in the scope: nobody but the request, which will come back
to it, or a task or a call in a thread that still runs.

A result that is read in pieces ends with its transaction. Whoever still reads it then, as the body
of a response that a middleware passes on, gets an error of the driver, and never the wrong rows.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import TYPE_CHECKING

from dbscope.aio import threads
from dbscope.errors import BlocksOutOfOrder, TransactionManagementError
from dbscope.unit import results

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import FrameType

    from dbscope.unit.current import Scope
    from dbscope.unit.unit import Unit

ROUTING = ("fastapi.routing", "starlette.routing")
# What a worker thread is in for all its life, whatever it runs.
WORKERS = ("threading", "concurrent.futures.thread", "anyio._backends._asyncio")
HOW_TO_END = (
    "A dependency with `yield` is left only after the answer. Let it use the session of the "
    'request, open the scope in the endpoint, or write `Depends(..., scope="function")`.'
)


class Call:
    """A call in a thread."""

    def __init__(self, frames: list[FrameType]) -> None:
        self._thread = threading.get_ident()
        called = [frame for frame in frames if module_of(frame) not in WORKERS]
        self._frame = called[-1] if called else None

    def goes_on(self) -> bool:
        """Tell whether the thread is still in it."""
        running = sys._current_frames().get(self._thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return any(frame is self._frame for frame in outwards(running))


Opener = asyncio.Task[object] | Call | None


def opener() -> Opener:
    """Return who opens a scope now; None: the request itself."""
    if threads.running_loop() is None or (task := asyncio.current_task()) is None:
        return Call(list(outwards(sys._getframe(1))))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    within = frames_of(task)
    return None if any(module_of(frame) in ROUTING for frame in within) else task


def is_in_body() -> bool:
    """Tell whether the body of a response is being made: its start has left the endpoint.

    With a `BaseHTTPMiddleware` in between, it is made while the start is still on its way.
    """
    task = None if threads.running_loop() is None else asyncio.current_task()
    return any(makes_body(frame) for frame in frames_of(task))


def makes_body(frame: FrameType) -> bool:
    """Tell whether a frame is one in which Starlette or FastAPI makes the body of a response."""
    name = frame.f_code.co_name
    if name == "_producer" and module_of(frame) == "fastapi.routing":
        return True  # of server-sent events, which begins before the response does
    if name == "wrapped_app" and module_of(frame) == "starlette._exception_handler":
        return bool(frame.f_locals.get("response_started"))
    return name == "_next" and module_of(frame) == "starlette.concurrency"


def frames_of(task: asyncio.Task[object] | None) -> Iterator[FrameType]:
    """Give the frames of the code that runs now, innermost first, as far as they are its task's."""
    outermost = None if task is None else getattr(task.get_coro(), "cr_frame", None)
    for frame in outwards(sys._getframe(1)):  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        yield frame
        if frame is outermost:
            return


def outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """Give a frame, and those that called it."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def module_of(frame: FrameType) -> str:
    """Return the name of the module that a frame belongs to."""
    name: str = frame.f_globals.get("__name__", "")
    return name


def among(opened: Mapping[Scope, Opener]) -> Iterator[Scope]:
    """Give the scopes in which there is anything to end, and nobody who will end it by himself."""
    for scope, by in list(opened.items()):
        if not goes_on(by) and any(not unit.is_unused() for unit in scope.units.values()):
            yield scope


def goes_on(by: Opener) -> bool:
    """Tell whether whoever opened a scope is still in it, and is not the request."""
    if isinstance(by, Call):
        return by.goes_on()
    return by is not None and not by.done() and by is not asyncio.current_task()


def error_of(
    request: Scope, opened: Mapping[Scope, Opener] | None
) -> TransactionManagementError | None:
    """Return the error for what would end only after the answer of a request.

    Args:
        request: whose answer is about to leave.
        opened: what was opened in it, and has not ended.
    """
    if opened and (scopes := list(among(opened))):
        return refused(scopes, request)
    return half_read(request.units.values())


def half_read(units: Iterable[Unit]) -> TransactionManagementError | None:
    """Return the error for a result that was not read to its end, if there is one."""
    for unit in units:
        if error := results.left_open(unit):
            return error
    return None


def refused(scopes: Iterable[Scope], request: Scope) -> BlocksOutOfOrder:
    """Return the error for scopes that have not ended; nothing is kept of what was done in them."""
    names = " and ".join(map(str, scopes))
    error = BlocksOutOfOrder(f"{request} was about to be answered inside {names}. {HOW_TO_END}")
    for scope in scopes:
        for unit in scope.units.values():
            unit.break_all(error)
            unit.doomed = True
    return error
