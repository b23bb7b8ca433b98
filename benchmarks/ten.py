"""An application whose request sends ten statements, on a database that is watched or not."""

import operator
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from sqlalchemy import URL, Select, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dbscope import AsyncDatabase
from dbscope.watch.findings import KEPT

STATEMENTS = 10  # of a request


class Base(DeclarativeBase):
    """The table of this benchmark."""


class Row(Base):
    __tablename__ = "row"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def alike(number: int) -> Select[Any]:
    """Return one of statements that have the same text."""
    return select(Row).where(Row.id <= number)


def different(number: int) -> Select[Any]:
    """Return one of ten statements, none of which has the text of another."""
    compares = (operator.le, operator.lt, operator.eq, operator.ge, operator.ne)[number % 5]
    order = Row.id if number % 2 else Row.id.desc()
    return select(Row).where(compares(Row.id, number)).order_by(order).limit(5)


class Subject:
    """An application on a database, watched or not."""

    def __init__(
        self,
        url: URL,
        statements: int,
        *,
        watched: bool,
        keep: int = KEPT,
        query: Callable[[int], Select[Any]] = alike,
    ) -> None:
        self.db = AsyncDatabase(url)
        self.statements = statements
        self.watched = watched
        self.keep = keep
        self.app = FastAPI()
        self.db.install(self.app)
        self.answers = 0

        @self.app.get("/")
        async def read() -> int:
            found = 0
            for number in range(1, statements + 1):
                rows = await self.db.session.scalars(query(number))
                found += len(rows.all())
            return found

    async def prepare(self) -> None:
        await self.db.ensure_schema(Base.metadata)
        async with self.db.scope():
            self.db.session.add_all([Row(name=f"row {number}") for number in range(20)])
        if self.watched:
            self.db.watch.start(keep=self.keep)

    async def request(self, times: int) -> None:
        for _ in range(times):
            await self.app(SCOPE | {"state": {}}, receive, self.send)

    async def send(self, message: Any) -> None:
        self.answers += message.get("status") == 200

    def check(self) -> None:
        assert self.answers
        self.check_watch()

    def check_watch(self) -> None:
        if self.watched:
            assert len(self.db.watch.recent(1)[0].statements) == self.statements


SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/",
    "raw_path": b"/",
    "root_path": "",
    "query_string": b"",
    "headers": [],
}


async def receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}
