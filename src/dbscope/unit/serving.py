"""What a server is about where the running code is: its frames tell, since nothing else does.

Each ASGI application is called with a `scope`. Looked at only where something is wrong, or would
be in a request.
"""

from __future__ import annotations

from inspect import CO_COROUTINE
from typing import TYPE_CHECKING, Any, cast

from dbscope.unit import callsite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

OF_ASGI = 3  # scope, receive and send
AFTER_THE_ANSWER = "starlette.background"


def scopes() -> Iterator[dict[str, Any]]:
    """Give the ASGI scopes around the running code, innermost first; none after the answer."""
    for frame in _frames():
        code = frame.f_code
        if code.co_flags & CO_COROUTINE and code.co_argcount >= OF_ASGI:
            scope: Any = frame.f_locals.get("scope")
            if isinstance(scope, dict) and "type" in scope:
                yield cast("dict[str, Any]", scope)
        elif code.co_name == "__call__" and frame.f_globals.get("__name__") == AFTER_THE_ANSWER:
            return


def is_starting_or_ending() -> bool:
    """Tell whether an application starts or ends here, so that nobody is served meanwhile."""
    return any(scope["type"] == "lifespan" for scope in scopes()) or _is_being_loaded()


def _is_being_loaded() -> bool:
    """Tell whether a server loads the application, as uvicorn does when its loop runs already."""
    for frame in callsite.frames():
        module: str = frame.f_globals.get("__name__", "")
        if module == "uvicorn.config" and frame.f_code.co_name == "load":
            return True
        if module.startswith("asyncio."):  # what is further out has started the loop
            return False
    return False


def _frames() -> Iterator[FrameType]:
    """Give the frames of the code that runs; of a worker thread, also of the task it works for."""
    outermost: FrameType | None = None
    for frame in callsite.frames():
        yield frame
        if frame.f_code.co_name == "run" and "cancel_scope" in frame.f_code.co_varnames:
            outermost = frame
    if outermost is not None:  # of anyio: the call that it was given is another task's
        task = getattr(outermost.f_locals.get("cancel_scope"), "_host_task", None)
        yield from reversed(list(_frames_of(task)))


def _frames_of(task: Any) -> Iterator[FrameType]:
    waiting: Any = None if task is None else task.get_coro()
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        yield frame
        waiting = waiting.cr_await
