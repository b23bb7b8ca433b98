"""What the answers of other processes look like: those of another version may look different."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast


@dataclass(frozen=True, slots=True)
class Maybe:
    """A part that need not be there."""

    shape: Any


NUMBER, TEXT = int | float, str | None
RECORD: dict[str, Any] = {
    **dict.fromkeys(("kind", "name", "line"), str),
    **dict.fromkeys(("began", "seconds", "waited"), NUMBER),
    **dict.fromkeys(("disagrees", "lost"), bool),
    "number": int,
    "problems": int,
    "status": int | None,
}
WHO: dict[str, Any] = {"kind": str, "name": str, "seconds": NUMBER, "line": TEXT}
HOLDER = WHO | {"server": int | None, "held": NUMBER, "doing": str, "awaited": TEXT}
NOW: dict[str, Any] = {
    "holders": [HOLDER],
    "waiting": [WHO | {"what": str, "whom": [str]}],
    "pool": {"out": int, "size": int},
    "counters": dict,
}
ANSWERS: dict[str, Any] = {
    "new": {
        "records": [RECORD],
        "process": {"pid": int | None, "name": str},
        "database": Maybe(str),
        "now": Maybe(NOW),
    },
    "record": {"number": int},
    "problems": [
        {
            **dict.fromkeys(("kind", "what", "remedy", "told"), str),
            **dict.fromkeys(("line", "at"), TEXT),
            **dict.fromkeys(("times", "seen"), int),
            "routes": [str],
        }
    ],
    "routes": [
        {
            "name": str,
            "minutes": [(int, int, int, int, int, dict)],
            "since": NUMBER | None,
            "last": NUMBER,
            "slowest": (int, NUMBER),
            "reasons": [(str, int)],
        }
    ],
    "pool": [(int, int, int, int, int, int)],
}


def fits(value: Any, shape: Any) -> bool:
    """Tell whether a value of JSON has a shape.

    Args:
        value: it.
        shape: types; a dictionary of shapes, which may have more; a list of one shape, that of all
            items; a tuple, a list of just these.
    """
    if isinstance(shape, Maybe):
        return value is None or fits(value, shape.shape)
    if isinstance(shape, dict):
        return isinstance(value, dict) and _has_all(cast("Any", value), cast("Any", shape))
    if not isinstance(shape, list | tuple):
        return isinstance(value, shape)
    if not isinstance(value, list):
        return False
    items, shapes = cast("Any", value), cast("Any", shape)
    if isinstance(shape, list):
        return all(fits(item, shapes[0]) for item in items)
    return len(items) == len(shapes) and all(map(fits, items, shapes))


def _has_all(value: dict[str, Any], shape: dict[str, Any]) -> bool:
    return all(
        fits(value.get(name), each) and (name in value or isinstance(each, Maybe))
        for name, each in shape.items()
    )
