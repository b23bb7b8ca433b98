"""Carry what ends units, to its end: in greenlets, or in threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbscope.aio.shield import to_the_end
from dbscope.aio.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from dbscope.unit.unit import Unit
from dbscope.aio.concurrency import Greenlets, P, T, in_greenlet


def end(
    units: list[Unit], function: Callable[..., T], *args: Any, keep: bool, **kwargs: Any
) -> Coroutine[Any, Any, T]:
    """Carry a plain function that ends these units, to the end."""
    limit, plain = 0.0, keep
    for unit in units:
        limit = max(limit, unit.source.finish_timeout)
        plain = plain and unit.ends_plainly()
    if any(unit.turn.is_taken() for unit in units):
        limit *= 3  # to wait for whoever has it, to end that, and for the end itself
    work = carried(units, function, *args, keep=keep, **kwargs)
    return to_the_end(work, limit=limit, at_once=not keep, starts_here=plain)


def carried(
    units: Iterable[Unit], function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> Coroutine[Any, Any, T]:
    """Run a plain function that ends these units: in a greenlet, or in a thread if all block."""
    for unit in units:
        if isinstance(unit.turn.world, Greenlets):
            return in_greenlet(function, *args, **kwargs)
    return in_thread(function, *args, **kwargs)


async def before_the_end(
    units: Iterable[Unit], function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run a plain function of these units where a cancellation still reaches what it waits for.

    A thread cannot be told; it is waited for, and the cancellation is delivered then.
    """
    work = carried(units, function, *args, **kwargs)
    if any(isinstance(unit.turn.world, Greenlets) for unit in units):
        return await work
    return await to_the_end(work, limit=max(unit.source.finish_timeout for unit in units))
