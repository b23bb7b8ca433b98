"""The shop, with the faults that a request asks for in its header `x-fault`: for uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import random
from contextvars import ContextVar
from typing import Any

import anyio
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.crud.orders import Orders
from server.main import app as shop
from server.models import db

wanted: ContextVar[str] = ContextVar("wanted", default="")
LONGEST = 0.05  # seconds that a request with the fault `timeout` may take
SUICIDE = text("SELECT pg_terminate_backend(pg_backend_pid())")


class Fault(Exception):
    """What no handler knows."""


def fail() -> None:
    """Be a hook that fails."""
    raise Fault("at COMMIT")


real_place, real_take_credit = Orders.place, Orders._take_credit


async def place(self: Orders, *args: Any) -> Any:
    """Place an order, and fail before it or after it."""
    fault = wanted.get()
    if fault == "before":
        raise Fault(fault)
    if fault == "commit":
        db.before_commit(fail)
    order = await real_place(self, *args)
    if fault == "after":
        raise Fault(fault)
    if fault == "refused":
        raise HTTPException(409, "refused after the fact")
    return order


async def take_credit(self: Orders, *args: Any) -> None:
    """Fail in the middle: the goods are taken, and nothing is paid yet."""
    fault = wanted.get()
    if fault == "in":
        raise Fault(fault)
    if fault == "cancelled":
        asyncio.current_task().cancel()
    if fault == "killed":
        await db.execute(SUICIDE)
    if fault == "swallowed":
        with contextlib.suppress(DBAPIError):
            await db.execute(text("SELECT 1 FROM no_such_table"))
    await real_take_credit(self, *args)


Orders.place = place
Orders._take_credit = take_credit


class Faults:
    """Reads the header, and gives up on a request that takes too long."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = dict(scope.get("headers", ())).get(b"x-fault", b"").decode()
        wanted.set(fault)
        if fault == "timeout":
            await self.within(random.uniform(0, LONGEST), scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def within(self, seconds: float, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 504 if the answer has not begun by then."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            limit.deadline = float("inf")
            await send(message)

        with anyio.move_on_after(seconds) as limit:
            await self.app(scope, receive, watched)
        if not begun:
            await Response(status_code=504)(scope, receive, send)


app = Faults(shop)
