"""A server that stops its event loop waits for its threads: they must not wait for the loop."""

import asyncio
import threading

import anyio.to_thread

from dbscope.engine import carry


def test_a_thread_that_goes_on_does_not_ask_a_loop_that_has_stopped() -> None:
    """Daphne stops its loop at SIGTERM; a thread that waited for a connection comes back then."""
    loop = asyncio.new_event_loop()
    inside, go_on, over = asyncio.Event(), threading.Event(), threading.Event()

    def work() -> None:
        with carry.uncounted():
            loop.call_soon_threadsafe(inside.set)
            go_on.wait(30)
        over.set()

    async def begin() -> "asyncio.Task[None]":
        task = asyncio.create_task(anyio.to_thread.run_sync(work))  # type: ignore[arg-type]
        await inside.wait()
        return task

    task = loop.run_until_complete(begin())
    go_on.set()
    has_ended = over.wait(10)
    loop.run_until_complete(task)
    loop.close()
    assert has_ended
