"""The application that tools look at, in a process of its own: an async one and a plain one."""

from typing import Any

from fastapi import Depends, FastAPI
from sqlalchemy import String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dbscope import AsyncDatabase, Database


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


REQUESTS = {
    "flush": ("POST", "/flush"),
    "read": ("GET", "/read"),
    "readonly": ("GET", "/readonly"),
    "verb": ("GET", "/verb"),
}


def async_app(db: AsyncDatabase) -> FastAPI:
    app = FastAPI()
    db.install(app)

    @app.post("/flush")
    async def flush() -> None:
        db.session.add(Thing(name="cup"))
        await db.session.flush()  # async flush

    @app.get("/read")
    async def read() -> list[str]:
        return list(await db.session.scalars(select(Thing.name)))  # async read

    @app.get("/readonly", dependencies=[Depends(db.readonly)])
    async def readonly() -> list[str]:
        result = await db.session.execute(select(Thing.name))  # async readonly
        return list(result.scalars())

    @app.get("/verb")
    async def verb() -> Any:
        return await db.scalar(select(Thing.id))  # async verb

    return app


def plain_app(db: Database) -> FastAPI:
    app = FastAPI()
    db.install(app)

    @app.post("/flush")
    def flush() -> None:
        db.session.add(Thing(name="cup"))
        db.session.flush()  # plain flush

    @app.get("/read")
    def read() -> list[str]:
        return list(db.session.scalars(select(Thing.name)))  # plain read

    @app.get("/readonly", dependencies=[Depends(db.readonly)])
    def readonly() -> list[str]:
        result = db.session.execute(select(Thing.name))  # plain readonly
        return list(result.scalars())

    @app.get("/verb")
    def verb() -> Any:
        return db.scalar(select(Thing.id))  # plain verb

    return app
