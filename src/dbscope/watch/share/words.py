"""What all processes say, as lines of text: for a terminal, and for who asks by a protocol."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from time import time
from typing import TYPE_CHECKING, Any

from dbscope.watch.tally import STEP

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dbscope.watch.share.asking import Everybody

Told = dict[str, Any]
SERVER = re.compile(r"\(process (\d+), ")
LONGEST = 2000  # letters of a line
NOW = 60  # seconds that count as now
FILTERS: dict[str, Callable[[Told], bool]] = {
    "all": lambda record: True,  # noqa: ARG005
    "not stored": lambda record: record["lost"],
    "disagrees": lambda record: record["disagrees"],
    "waited": lambda record: record["waited"] > 0.05,  # noqa: PLR2004
    "problems": lambda record: record["problems"] > 0,
}


def duration(seconds: float) -> str:
    """Return `1.25 s`, or `12 ms`."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def clock(epoch: float) -> str:
    """Return the time of the day, here."""
    return f"{datetime.fromtimestamp(epoch):%H:%M:%S}"  # noqa: DTZ006  (of who reads it)


def printable(text: str) -> str:
    """Return a text without what a terminal would obey: a path may have anything in it.

    Of a long one only the beginning, since a line is to be read.
    """
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return "".join(letter if letter.isprintable() else "�" for letter in shown)


class Scene:
    """What goes on in all processes, seen once.

    Args:
        everybody: who is asked.
    """

    def __init__(self, everybody: Everybody) -> None:
        self.everybody = everybody
        self.processes = list(everybody.look({}))
        self.running = [each for each in self.processes if each.get("now")]

    @property
    def database(self) -> str:
        """The URL of the database, without secrets."""
        return next((each["database"] for each in self.processes if "database" in each), "?")

    def records(self, only: str = "all", text: str = "") -> list[Told]:
        """Return the last records, newest first.

        Args:
            only: a key of `FILTERS`.
            text: that the line or the name has in it.
        """
        found = [record for each in self.processes for record in each["records"]]
        found = [each for each in found if FILTERS[only](each) and text in line(each)]
        return sorted(found, key=lambda each: each["began"] + each["seconds"], reverse=True)

    def pool(self) -> str:
        """Say how many connections are out, and how much is done."""
        out = sum(each["now"]["pool"]["out"] for each in self.running)
        size = sum(each["now"]["pool"]["size"] for each in self.running)
        waiting = sum(len(each["now"]["waiting"]) for each in self.running)
        last = [each for each in self.everybody.pool() if each[0] > time() - NOW]
        ended, lost = sum(each[4] for each in last), sum(each[5] for each in last)
        return (
            f"{out} of {size} connections out, {waiting} waiting; "
            f"in the last minute {ended} ended, {lost} of them not stored"
        )

    def holders(self) -> list[tuple[str, str, str]]:
        """Return who holds a connection, for how long, and what it does with it."""
        held = [(h, each) for each in self.running for h in each["now"]["holders"]]
        held.sort(key=lambda found: -found[0]["held"])
        return [(who(h, each), duration(h["held"]), doing(h)) for h, each in held]

    def waiting(self) -> list[tuple[str, str, str]]:
        """Return who waits, for how long, and for what and whom."""
        found = [(w, each) for each in self.running for w in each["now"]["waiting"]]
        found.sort(key=lambda each: -each[0]["seconds"])
        return [(who(w, each), duration(w["seconds"]), self._awaited(w)) for w, each in found]

    def _awaited(self, waiter: Told) -> str:
        """Say for what and whom somebody waits; of another worker, what that one has said."""
        held = {h["server"]: (h, each) for each in self.running for h in each["now"]["holders"]}
        whom = [
            f"{who(*held[server])} ({doing(held[server][0])})" if server in held else told
            for told in waiter["whom"]
            for server in [server_in(told)]
        ]
        place = f" at {waiter['line']}" if waiter["line"] else ""
        by = f", held by {'; '.join(whom)}" if whom else ""
        return f"{waiter['what']}{place}{by}"

    def routes(self) -> list[tuple[str, ...]]:
        """Return routes with percentiles and rollbacks, what costs most first."""
        found = [(percentiles(route), route) for route in self.everybody.routes()]
        found.sort(key=lambda each: -each[0]["p95"] * each[0]["times"])
        return [row(sums, route) for sums, route in found if sums["times"]]


def line(record: Told) -> str:
    """Return a record on one line."""
    status = f" {record['status']}" if record["status"] else ""
    kind = "" if record["kind"] == "request" else f"{record['kind']} "
    return f"{clock(record['began'])} {kind}{record['name']}{status}: {record['line']}"


def who(each: Told, process: Told) -> str:
    """Name who does something, and in which process."""
    kind = "" if each["kind"] == "request" else f"{each['kind']} "
    return f"{kind}{each['name']} [{process['process']['pid']}]"


def doing(holder: Told) -> str:
    """Say what who holds a connection does with it."""
    idle = holder["doing"] == "idle"
    place = f" {'after' if idle else 'at'} {holder['line']}" if holder["line"] else ""
    what = "idle" if idle else f"in a {holder['doing']}"
    inside = f", in {holder['awaited']}" if holder["awaited"] else ""
    return f"{what} for {duration(holder['seconds'])}{place}{inside}"


def server_in(told: str) -> int | None:
    """Return the process of the server that a text names, which only knows that."""
    found = SERVER.search(told)
    return None if found is None else int(found[1])


def percentiles(route: Told) -> dict[str, float]:
    """Return what a route has done in all of its minutes."""
    took: Counter[int] = Counter()
    for *_, counted in route["minutes"]:
        took.update({int(power): number for power, number in counted.items()})
    sums = {
        name: sum(minute[place] for minute in route["minutes"])
        for place, name in enumerate(("times", "lost", "disagree"), 1)
    }
    return sums | {"p50": at(took, 0.5), "p95": at(took, 0.95)}


def at(took: Counter[int], share: float) -> float:
    """Return the duration below which this share of them is, in seconds."""
    left = took.total() * share
    for power in sorted(took):
        left -= took[power]
        if left <= 0:
            return float(STEP**power)
    return 0.0


def row(sums: dict[str, float], route: Told) -> tuple[str, ...]:
    """Return a route as columns: name, times, p50, p95, rollbacks, and why."""
    since = f" since {clock(route['since'])}" if route["since"] else ""
    lost = f"{100 * sums['lost'] / sums['times']:.0f} %{since}"
    reasons = "; ".join(f"{number} times {reason}" for reason, number in route["reasons"])
    times = (f"{sums['times']:.0f}", duration(sums["p50"]), duration(sums["p95"]))
    return (route["name"], *times, lost if sums["lost"] else "none", reasons)


def table(heads: Iterable[str], rows: Sequence[tuple[str, ...]], most: int = 40) -> list[str]:
    """Return rows as lines, whose columns stand below each other.

    Args:
        heads: of the columns.
        rows: of texts.
        most: letters of a column that is not the last.
    """
    cells = [tuple(heads), *[tuple(map(printable, each)) for each in rows]]
    wide = [min(most, max(map(len, column))) for column in zip(*cells, strict=True)]
    return ["  ".join([*map(fitted, cells[:-1], wide), cells[-1]]).rstrip() for cells in cells]


def fitted(text: str, wide: int) -> str:
    """Return a text at this width."""
    return text.ljust(wide) if len(text) <= wide else f"{text[: wide - 1]}…"
