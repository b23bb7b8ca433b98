"""The tables of these tests, what clients send, and a CRUD of either kind used without `await`."""

from __future__ import annotations

import enum
import types
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from pydantic import BaseModel
from sqlalchemy import (
    REAL,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    Interval,
    LargeBinary,
    Numeric,
    TypeDecorator,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from dbscope.crud import CRUD, AsyncCRUD
from tests.worlds import Both, waiting


class Base(DeclarativeBase):
    """The tables of these tests."""


class Size(enum.Enum):
    """In the order of the alphabet, as SQLite has it, and of the declaration, as PostgreSQL."""

    large = 2
    small = 1


class Utc(TypeDecorator[datetime]):
    """Times that know their zone, where the database does not."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class Product(Base):
    """`label` is called otherwise in the table; `seen` is made by the database."""

    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str | None]
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    label: Mapped[str | None] = mapped_column("label_text")
    changes: Mapped[int] = mapped_column(default=0, onupdate=7)
    seen: Mapped[datetime] = mapped_column(server_default=func.now())
    version: Mapped[int] = mapped_column()
    tags: Mapped[list[Tag]] = relationship(cascade="all, delete-orphan")
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - so says SQLAlchemy


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))


class Seat(Base):
    """Its key has two columns."""

    __tablename__ = "seat"
    row: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    guest: Mapped[str | None]


class Sample(Base):
    """One column of each type that a list may be ordered by."""

    __tablename__ = "sample"
    id: Mapped[int] = mapped_column(primary_key=True)
    whole: Mapped[int | None]
    number: Mapped[float | None]
    single: Mapped[float | None] = mapped_column(REAL)
    exact: Mapped[Decimal | None]
    truth: Mapped[bool | None]
    text: Mapped[str | None]
    data: Mapped[bytes | None] = mapped_column(LargeBinary)
    day: Mapped[date | None]
    hour: Mapped[time | None]
    moment: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    utc: Mapped[datetime | None] = mapped_column(Utc)
    span: Mapped[timedelta | None] = mapped_column(Interval)
    uid: Mapped[uuid.UUID | None]
    size: Mapped[Size | None] = mapped_column(Enum(Size))


class ProductCreate(BaseModel):
    sku: str
    name: str | None = None
    price: Decimal | None = None


class ProductUpdate(BaseModel):
    sku: str | None = None
    name: str | None = None
    price: Decimal | None = None


class BothCRUD:
    """The CRUD of a model, of the database's kind; what it returns to be awaited is awaited."""

    def __init__(self, db: Both, model: type[Any], **members: Any) -> None:
        base: Any = AsyncCRUD if db.is_async else CRUD
        name = f"{model.__name__}s"
        kind = types.new_class(name, (base[model],), exec_body=lambda body: body.update(members))
        self.real: Any = kind(db.real)

    def __getattr__(self, name: str) -> Any:
        """Give a method."""
        return waiting(getattr(self.real, name))


def products(db: Both) -> BothCRUD:
    """Return the CRUD of products."""
    return BothCRUD(db, Product, sortable=("sku", "name", "price"))


def pages(crud: BothCRUD, *filters: Any, **wanted: Any) -> Iterator[Any]:
    """Give page after page, by cursor."""
    page = crud.list(*filters, **wanted)
    yield page
    while page.next is not None:
        assert page.items, "a page that is followed by another has rows"
        page = crud.list(*filters, **wanted, after=page.next)
        yield page
