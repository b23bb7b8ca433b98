"""Which drivers wait for plain futures only."""

from __future__ import annotations
import types
from asyncio import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
import asyncio
import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar
import anyio
import anyio.lowlevel
import anyio.to_thread
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet as in_sqlalchemy_greenlet
from dbscope.aio import shield
from dbscope.aio import stopped
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable

    from dbscope.unit.ownership import Gate
    from dbscope.unit.unit import Unit
from dbscope.aio.concurrency import T
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Generator


# Drivers of which COMMIT and ROLLBACK are known to do so.
PLAIN = frozenset({"aiosqlite", "asyncpg", "inline"})

PLAIN_PSYCOPG = (3, 3, 6)  # before, it waits in `asyncio.wait_for`


def waits_plainly(dialect: Any) -> bool:
    """Tell whether this driver waits for plain futures only."""
    if dialect.driver == "psycopg":
        return tuple(dialect.psycopg_version) >= PLAIN_PSYCOPG
    return dialect.driver in PLAIN
