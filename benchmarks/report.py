"""The table."""

import os
import sys
from importlib.metadata import version

from benchmarks.cases import Case
from benchmarks.measure import CONTROL, OURS, UNITS, USUAL, Result

HEAD: tuple[str, ...] = ("case", "", "driver", "by hand", "dbscope", "added", "ratio", "quartiles")
HEAD += ("control", "quartiles", "bar", "")
WIDTHS = (10, 4, 18, 9, 9, 8, 6, 13, 7, 13, 6, 4)
PACKAGES = ("sqlalchemy", "fastapi", "starlette", "anyio", "asyncpg", "psycopg", "aiosqlite")


def header(rounds: int, clock: str) -> str:
    python = ".".join(map(str, sys.version_info[:3]))
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"Python {python}, {versions}; {os.cpu_count()} cores.\n"
        f"{rounds} rounds of {USUAL.turns * USUAL.requests} requests for each variant; "
        f"{UNITS.get(clock, f'{clock} time in µs')}, of a request, medians.\n"
        f"\n{line(HEAD)}\n{line(tuple('-' * width for width in WIDTHS))}"
    )


def line(cells: tuple[str, ...]) -> str:
    left = 3
    texts = [cell.ljust(w) for cell, w in zip(cells[:left], WIDTHS[:left], strict=True)]
    texts += [cell.rjust(w) for cell, w in zip(cells[left:], WIDTHS[left:], strict=True)]
    return "  ".join(texts)


def row(case: Case, result: Result) -> str:
    return line(
        (
            case.label,
            case.method,
            case.used,
            f"{result.time(0):.1f}",
            f"{result.time(OURS):.1f}",
            f"{result.added:+.1f}",
            f"{result.ratio(OURS):.3f}",
            spread(result, OURS),
            f"{result.ratio(CONTROL):.3f}",
            spread(result, CONTROL),
            f"{case.bar:.3g}",
            "over" if case.over(result) else "ok",
        )
    )


def spread(result: Result, variant: int) -> str:
    low, high = result.quartiles(variant)
    return f"{low:.3f}-{high:.3f}"
