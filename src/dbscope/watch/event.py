"""What all events are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbscope.unit.unit import Unit


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened; told at once, in the task or thread that it happened in."""


@dataclass(frozen=True, slots=True)
class UnitEvent(Event):
    """Something that has happened to the unit of one database in one scope."""

    unit: Unit
