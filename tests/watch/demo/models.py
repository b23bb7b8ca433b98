"""The tables of a small shop, which has what goes wrong in real ones."""

import os

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from dbscope import AsyncDatabase

FEW = {"pool_size": 3, "max_overflow": 0, "pool_timeout": 2.0}
db = AsyncDatabase(os.environ["DATABASE_URL"], engine_options=FEW)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(String(50))
    lines: Mapped[list["Line"]] = relationship()


class Line(Base):
    __tablename__ = "order_lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    sku: Mapped[str] = mapped_column(ForeignKey("stock.sku", deferrable=True, initially="DEFERRED"))


class Stock(Base):
    __tablename__ = "stock"

    sku: Mapped[str] = mapped_column(String(20), primary_key=True)
    left: Mapped[int]
