"""The application: `python -m server` runs it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware import Middleware
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm.exc import StaleDataError

from dbscope import DBSessionMiddleware
from server.api import health, items
from server.api.errors import conflict
from server.db.database import Base, db


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Create missing tables at the start; close all connections at the end."""
    async with db.lifespan(app):
        await db.ensure_schema(Base.metadata)
        yield


app = FastAPI(
    title="dbscope reference server",
    lifespan=lifespan,
    middleware=[  # outermost first
        Middleware(DBSessionMiddleware),  # one transaction, committed before the answer leaves
    ],
    exception_handlers={
        IntegrityError: conflict,  # a name that is taken
        StaleDataError: conflict,  # somebody else deleted it in the meantime
    },
)
app.include_router(health.router)
app.include_router(items.router)
