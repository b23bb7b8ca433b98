"""What the type checkers say about the public face. Checked, never run."""

from __future__ import annotations

from functools import partial
from typing import Annotated, assert_type

from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlmodel import Session as SQLModelSession
from sqlmodel.ext.asyncio.session import AsyncSession as SQLModelAsyncSession

from dbscope import AsyncDatabase, Database

db = AsyncDatabase("sqlite:///app.db")
plain = Database("sqlite:///app.db")
models = AsyncDatabase("sqlite:///app.db", session_class=SQLModelAsyncSession)
plain_models = Database("sqlite:///app.db", session_class=SQLModelSession)

app = FastAPI(lifespan=db.lifespan)
db.install(app)

assert_type(db.session, AsyncSession)
assert_type(plain.session, Session)
assert_type(models.session, SQLModelAsyncSession)
assert_type(plain_models.session, SQLModelSession)
assert_type(db.engine, AsyncEngine)
assert_type(db.sync.session, Session)
assert_type(plain.async_.session, AsyncSession)


class Item:
    """A mapped class, as far as the checkers care."""


@db.atomic
async def transfer(amount: int) -> str:
    """Keep its signature under the bare decorator."""
    item = await db.get_by_pk(Item, amount)
    assert_type(item, Item | None)
    return "done"


@db.scope
async def job(name: str) -> int:
    """Keep its signature in a scope."""
    async with db.atomic(durable=False) as block:
        block.set_rollback(True)
    async with db.savepoint():
        pass
    return len(name)


@plain.atomic
def transfer_plainly(amount: int) -> str:
    """Keep its signature too."""
    with plain.atomic(savepoint=False), plain.savepoint():
        return str(amount)


@db.atomic(retry=2)
async def pay(amount: int) -> str:
    """Keep its name when it is tried again."""
    return await transfer(amount)


@app.get("/")
@db.retry_requests(0)
async def endpoint(session: Annotated[AsyncSession, Depends(db.get_session)]) -> None:
    """Take the session as a dependency."""
    assert_type(await transfer(1), str)
    assert_type(await job("a"), int)
    assert_type(transfer_plainly(1), str)
    assert_type(await db.run(lambda: transfer(1)), str)
    assert_type(plain.run(lambda: transfer_plainly(1), attempts=5), str)
    assert_type(await db.gather(partial(job, "a"), partial(job, "b"), limit=2), list[int])
    assert_type(plain.gather(partial(transfer_plainly, 1)), list[str])
    await session.commit()
