"""Greenlets that carry one plain function after the other.

SQLAlchemy makes a greenlet for each await. Since CPython 3.11 each of them maps and unmaps a stack
for its frames, which takes about as long as reading a row from SQLite; so ours are kept.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet
from sqlalchemy.util.concurrency import in_greenlet

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = 100  # idle ones, for each thread: as many as wait for the database at once on a busy loop
DEEP = 200  # frames: a greenlet counts those below it against the recursion limit all its life


class Carrier(greenlet):  # type: ignore[misc]
    """A greenlet whose parent awaits for it what SQLAlchemy's drivers wait for."""

    __sqlalchemy_greenlet_provider__ = True


class Answer(list[Any]):
    """What a function has returned; whoever takes it takes it out."""


async def carry(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a plain function that may wait by `await_only`, and return what it returns.

    As `sqlalchemy.util.greenlet_spawn` does. An error ends the greenlet, as it does there.
    """
    carrier = take()
    answer: Any = carrier.switch(function, args, kwargs)
    while type(answer) is not Answer:
        if carrier.dead:
            return answer  # GreenletExit, which greenlets return
        try:
            value = await answer
        except BaseException:
            carrier.parent = getcurrent()
            answer = carrier.throw(*sys.exc_info())
        else:
            carrier.parent = getcurrent()
            answer = carrier.switch(value)
    keep(carrier)
    return answer.pop()


def take() -> Any:
    """Return an idle greenlet, in the context of the code that runs now."""
    driver: Any = getcurrent()
    carrier: Any = idle.greenlets.pop() if idle.greenlets else started()
    carrier.parent = driver
    carrier.gr_context = driver.gr_context
    return carrier


def keep(carrier: Any) -> None:
    """Keep a greenlet that has nothing to do, and nothing of what it did."""
    carrier.gr_context = None
    if len(idle.greenlets) < KEPT and not carrier.is_deep:
        idle.greenlets.append(carrier)


def started() -> Any:
    """Return a new greenlet that waits for its first job: what starts it, it never lets go."""
    carrier: Any = Carrier(serve)
    carrier.is_deep = is_deep()
    carrier.switch()
    return carrier


def is_deep() -> bool:
    """Tell whether there are many frames below this one."""
    try:
        sys._getframe(DEEP)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    except ValueError:
        return False
    return True


def serve() -> None:
    """Run one function after the other, each for the parent of that time."""
    answer = Answer()
    while True:
        # It must not know itself by a name: nobody could collect a frame that waits and does.
        driver: Any = getcurrent().parent
        function, args, kwargs = driver.switch(answer)
        answer = Answer((function(*args, **kwargs),))
        del function, args, kwargs


def is_carried() -> bool:
    """Tell whether one of our greenlets carries the code that runs now."""
    return type(getcurrent()) is Carrier


def can_wait() -> bool:
    """Tell whether the code that runs now can wait, in a greenlet of ours or of SQLAlchemy's."""
    return is_carried() or in_greenlet()


class Idle(threading.local):
    """The idle greenlets of a thread."""

    def __init__(self) -> None:
        self.greenlets: list[Any] = []


idle = Idle()
