"""Tables of every way in which rows belong together, with keys and values of two columns."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, String, Table
from sqlalchemy.orm import Mapped, composite, mapped_column, relationship

from tests.crud.library import Base

labels = Table(
    "lib_record_label",
    Base.metadata,
    Column("record_id", ForeignKey("lib_record.id"), primary_key=True),
    Column("label_id", ForeignKey("lib_label.id"), primary_key=True),
)


@dataclass
class Measure:
    """Two columns that are one value."""

    width: int
    height: int


class Label(Base):
    """Of many records; a record has many."""

    __tablename__ = "lib_label"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Record(Base):
    """Its sleeve is its own and the only one; its labels are not."""

    __tablename__ = "lib_record"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    labels: Mapped[list[Label]] = relationship(secondary=labels, order_by="Label.id")
    sleeve: Mapped[Sleeve | None] = relationship(
        back_populates="record", cascade="all, delete-orphan"
    )


class Sleeve(Base):
    """Its measure is a composite."""

    __tablename__ = "lib_sleeve"
    id: Mapped[int] = mapped_column(primary_key=True)
    colour: Mapped[str]
    measure: Mapped[Measure] = composite(mapped_column("width"), mapped_column("height"))
    record_id: Mapped[int] = mapped_column(ForeignKey("lib_record.id"), unique=True)
    record: Mapped[Record] = relationship(back_populates="sleeve")


class Box(Base):
    """Its key has two columns, and so has that of what is in it."""

    __tablename__ = "lib_box"
    room: Mapped[str] = mapped_column(String(10), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    colour: Mapped[str]
    slots: Mapped[list[Slot]] = relationship(cascade="all, delete-orphan", order_by="Slot.place")


class Slot(Base):
    """Its key has three columns, two of which are its box's."""

    __tablename__ = "lib_slot"
    room: Mapped[str] = mapped_column(String(10), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    holds: Mapped[str]
    __table_args__ = (ForeignKeyConstraint(["room", "number"], ["lib_box.room", "lib_box.number"]),)
