"""`dbscope top`: what a running server does with its database, in a terminal or a pipe."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from dbscope.cli.say import Refusal, echo
from dbscope.watch.share.asking import of_everybody
from dbscope.watch.share.words import Scene, clock, fitted, line, printable, table

CLEAR = "\x1b[H\x1b[J"  # to the first line, and nothing below it
NOBODY = (
    "no process of this user watches a database: `db.watch.start()`, or `db.watch.mount(app)`. "
    "Where processes do not share /tmp, DBSCOPE_WATCH_DIR names a folder that they share."
)
Once = Annotated[bool, typer.Option("--once", help="Print it once, and end.")]
Seconds = Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks.")]


def top(*, once: Once = False, every: Seconds = 1.0) -> None:
    """Show what goes on in all processes: who holds a connection, who waits, routes, the last."""
    is_terminal = sys.stdout.isatty()
    while True:
        wide, tall = shutil.get_terminal_size() if is_terminal else (0, 0)
        told = seen(0 if once else tall)
        shown = [fitted(each, wide).rstrip() if wide else each for each in told]
        echo(f"{CLEAR if is_terminal and not once else ''}{chr(10).join(shown)}")
        if once:
            return
        time.sleep(every)


def seen(tall: int = 0) -> list[str]:
    """Return what goes on, in lines.

    Args:
        tall: lines of the terminal; 0: as many as there are.

    Raises:
        Refusal: nobody watches a database.
    """
    scenes = [Scene(each) for each in of_everybody().values()]
    scenes = [each for each in scenes if each.processes]
    if not scenes:
        raise Refusal(NOBODY)
    room = max(8, (tall - 1) // len(scenes)) if tall else 0
    return [printable(told) for scene in scenes for told in of_scene(scene, room)]


def of_scene(scene: Scene, room: int) -> list[str]:
    """Return what goes on in one database."""
    running = len(scene.running)
    processes = f"{running} process{'' if running == 1 else 'es'}"
    told = [f"{clock(time.time())}  {scene.database}  {processes}", scene.pool(), ""]
    told += part(("HOLDS A CONNECTION", "FOR", "DOES"), scene.holders(), room // 4)
    told += part(("WAITS", "FOR", "WHAT"), scene.waiting(), room // 6)
    heads = ("ROUTE (30 MIN)", "TIMES", "P50", "P95", "NOT STORED", "WHY")
    told += part(heads, scene.routes(), room // 4)
    last = [line(each) for each in scene.records()]
    left = max(3, room - len(told) - 1) if room else 20
    return [*told, "LAST", *last[:left]]


def part(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], most: int) -> list[str]:
    """Return a table, and an empty line; nothing if it has no rows."""
    shown = rows[:most] if most else rows
    more = [f"… and {len(rows) - len(shown)} more"] if len(shown) < len(rows) else []
    return [*table(heads, shown), *more, ""] if rows else []
