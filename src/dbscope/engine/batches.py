"""Long lists of parameters, run in pieces.

SQLAlchemy prepares all of them before the first is sent, and blocks the event loop meanwhile: four
microseconds each, 0.4 s for 100,000 rows. A server would have more round trips by pieces, so only
where a piece costs no more than a way into a thread they are run so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.unit.unit import Unit

PIECE = 250  # sets of parameters


def are_many(params: object) -> bool:
    """Tell whether these are more sets of parameters than a piece has."""
    return isinstance(params, list) and len(params) > PIECE  # pyright: ignore[reportUnknownArgumentType]


def are_wanted(unit: Unit, statement: Any) -> bool:
    """Tell whether a statement of many sets of parameters should be run in pieces, and can be.

    Outside of a transaction it would not be stored as a whole, and rows that it returns belong
    into one result.
    """
    return (
        unit.source.driver.batches_parameters
        and unit.is_in_transaction
        and not getattr(statement, "_returning", ())
    )


def run(unit: Unit, execute: Callable[[Any], Any], params: list[Any]) -> Any:
    """Run the pieces, and return the result of the last with the number of rows of all.

    Args:
        unit: whose statement it is; whatever goes wrong after the first piece breaks its block.
        execute: runs the statement with these sets of parameters.
        params: more than one piece of them.
    """
    result, rows = execute(params[:PIECE]), 0
    try:
        for start in range(PIECE, len(params), PIECE):
            rows += max(getattr(result, "rowcount", 0), 0)
            result = execute(params[start : start + PIECE])
    except BaseException as error:
        unit.mark_broken(error)
        raise
    if hasattr(result, "rowcount"):
        vars(result)["rowcount"] = rows + max(result.rowcount, 0)  # which SQLAlchemy looks up once
    return result
