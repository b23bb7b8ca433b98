"""Libraries that commit by themselves, with our session; prints what came of it, as JSON.

python -m tests.tools.libraries 'url'
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from fastapi import FastAPI
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTable, SQLAlchemyUserDatabase
from fastcrud import FastCRUD
from pydantic import BaseModel
from sqladmin import Admin, ModelView
from sqlalchemy import String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.testclient import TestClient

from dbscope import AsyncDatabase, ManualCommitForbidden

URL = sys.argv[1]


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "thing_of_library"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class User(SQLAlchemyBaseUserTable[int], Base):
    __tablename__ = "user_of_library"
    id: Mapped[int] = mapped_column(primary_key=True)


class ThingIn(BaseModel):
    name: str


class ThingAdmin(ModelView, model=Thing):
    column_list = (Thing.id, Thing.name)


db = AsyncDatabase(URL)
things: Any = FastCRUD(Thing)


async def fastcrud(name: str) -> None:
    await things.create(db.session, ThingIn(name=name))  # fastcrud


async def fastapi_users(name: str) -> None:
    users: Any = SQLAlchemyUserDatabase(db.session, User)
    await users.create({"email": f"{name}@example.org", "hashed_password": "x"})  # fastapi-users


async def refusal(create: Any) -> str:
    """Return what is said of a commit inside a block."""
    try:
        async with db.scope(), db.atomic():
            await create("refused")
    except ManualCommitForbidden as error:
        return str(error)
    return ""


async def story() -> dict[str, Any]:
    await db.ensure_schema(Base.metadata)
    told = {create.__name__: await refusal(create) for create in (fastcrud, fastapi_users)}
    async with db.scope():
        await fastcrud("kept")
        await fastapi_users("kept")
    async with db.scope(), db.atomic():
        await things.create(db.session, ThingIn(name="with the block"), commit=False)
    async with db.scope():
        names = list(await db.scalars(select(Thing.name).order_by(Thing.id)))
        emails = list(await db.scalars(select(User.email)))
    await db.dispose()
    return told | {"things": names, "users": emails}


def admin() -> list[str]:
    """Create a row in sqladmin, beside requests of ours."""
    app = FastAPI()
    db.install(app)
    Admin(app, engine=db.engine).add_view(ThingAdmin)

    @app.get("/things")
    async def read() -> list[str]:
        return list(await db.scalars(select(Thing.name).where(Thing.name == "by admin")))

    with TestClient(app) as client:
        created = client.post("/admin/thing/create", data={"name": "by admin"})
        assert created.status_code < 400, created.text[-500:]
        return client.get("/things").json()  # type: ignore[no-any-return]


sys.stdout.write(json.dumps(asyncio.run(story()) | {"admin": admin()}))
