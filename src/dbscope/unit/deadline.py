"""The time that a block has: kept by us between statements, and by the database inside them."""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from dbscope.errors import TransactionTimeout

if TYPE_CHECKING:
    from collections.abc import Generator

    from dbscope.unit.block import Block
    from dbscope.unit.unit import Unit


def begin(unit: Unit, block: Block, timeout: float | None) -> None:
    """Start the clock of a block; inside another one it can only be shorter.

    Args:
        unit: where the block is opened.
        block: the block.
        timeout: seconds.
    """
    around = unit.deadline
    if timeout is not None:
        own = monotonic() + timeout
        block.deadline = own if around is None else min(own, around)
        unit.timed = True
    else:
        block.deadline = around


def is_over(block: Block) -> bool:
    """Tell whether the time of a block is up."""
    return block.deadline is not None and monotonic() >= block.deadline


def error_of(block: Block) -> TransactionTimeout:
    """Return the error of a block whose time is up."""
    return TransactionTimeout(f"In {block}:")


def check(unit: Unit) -> None:
    """Raise TransactionTimeout, instead of sending anything, if the time is up."""
    block = unit.block
    if block is not None and is_over(block) and not unit.leaving:
        error = error_of(block)
        unit.mark_broken(error)
        raise error


def patience(unit: Unit, seconds: float) -> float:
    """Return how long the unit may wait for something, at most these seconds."""
    end = unit.deadline
    return seconds if end is None else max(0.0, min(seconds, end - monotonic()))


@contextmanager
def instead_of(kind: type[Exception], unit: Unit) -> Generator[None, None, None]:
    """Raise TransactionTimeout from an error of this kind, if the time of the unit is up."""
    try:
        yield
    except kind as error:
        try:
            check(unit)
        except Exception as timeout:
            raise timeout from error
        raise
