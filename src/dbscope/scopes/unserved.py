"""Whether a block is opened in a request that no middleware of ours is around.

Such a block is stored when it is left, and stays so if the request fails afterwards: nobody has
called `install`. A server's context tells nothing about it, but its frames do, since each ASGI
application is called with a `scope`. They are looked at only where a block has to open a scope for
itself.
"""

from __future__ import annotations

from inspect import CO_COROUTINE
from typing import TYPE_CHECKING, Any, cast

from dbscope.errors import ScopeMissing
from dbscope.unit import place
from dbscope.unit.current import current

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from dbscope.unit.source import Source

OF_ASGI = 3  # scope, receive and send
AFTER_THE_ANSWER = "starlette.background"


def check(source: Source, where: object) -> None:
    """Look whether a block that has no scope around it is opened in a request.

    Args:
        source: the database.
        where: the block.

    Raises:
        ScopeMissing: it is, and no application around it has our middleware.
    """
    if current.get() is not None:
        return  # of a request that has ended
    requests = list(_requests())
    if requests and not any(_has_middleware(each.get("app")) for each in requests):
        path = f"{requests[0].get('method')} {requests[0].get('path')}"
        raise ScopeMissing(
            f"The block opened at {where} is in {path}, and nothing of {source} is around that: it "
            "would be stored when it is left, even if the request fails afterwards. Call "
            "`db.install(app)`; or give it a scope of its own, if that is what you want."
        )


def _has_middleware(app: Any) -> bool:
    """Tell whether it is ours that another middleware, whose code this is then, is outside of."""
    listed: Any = getattr(app, "user_middleware", ())
    return any(getattr(each.cls, "opens_scopes", False) for each in listed)


def _requests() -> Iterator[dict[str, Any]]:
    """Give the ASGI scopes of the HTTP request that is being served here, innermost first."""
    for frame in _frames():
        code = frame.f_code
        if code.co_flags & CO_COROUTINE and code.co_argcount >= OF_ASGI:
            scope: Any = frame.f_locals.get("scope")
            if isinstance(scope, dict) and cast("Any", scope).get("type") == "http":
                yield cast("dict[str, Any]", scope)
        elif code.co_name == "__call__" and frame.f_globals.get("__name__") == AFTER_THE_ANSWER:
            return


def _frames() -> Iterator[FrameType]:
    """Give the frames of the code that runs; of a worker thread, also of the task it works for."""
    outermost: FrameType | None = None
    for frame in place.frames():
        yield frame
        if frame.f_code.co_name == "run" and "cancel_scope" in frame.f_code.co_varnames:
            outermost = frame
    if outermost is not None:  # of anyio: the call that it was given is another task's
        task = getattr(outermost.f_locals["cancel_scope"], "_host_task", None)
        yield from reversed(list(_frames_of(task)))


def _frames_of(task: Any) -> Iterator[FrameType]:
    waiting: Any = None if task is None else task.get_coro()
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        yield frame
        waiting = waiting.cr_await
