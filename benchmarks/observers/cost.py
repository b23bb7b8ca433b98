"""What each observer costs a request of ten statements, in one run with one that has none.

    python3 -m benchmarks.observers.cost [--driver postgresql+asyncpg] [--rounds 30] [--served]

Each is in a process of its own, since most change SQLAlchemy's classes for all that is in theirs.
The processes take turns. What is measured is the CPU time of the process that answers; what a tool
does in another one is not in it. The control has no observer either.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import HAND, Result, Times
from benchmarks.observers.__main__ import APPLICATION, WANTED, row
from benchmarks.places import Places
from benchmarks.ten import STATEMENTS
from tests.install.environments import ROOT, Environment, make, wheel

NAMES = ("none", *WANTED, "none, again")  # by the first, `HAND`, the others are divided
DRIVERS = ["asyncpg", "aiosqlite", "uvicorn[standard]"]
TURNS = 5  # of each, in a round
REQUESTS = 40  # in a turn
WARM_UP = 400  # requests


class Answering:
    """The process of an observer."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, requests: int) -> float:
        """Have requests made, and return the seconds of CPU that took."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{requests}\n")
        self.process.stdin.flush()
        told = self.process.stdout.readline()
        if not told:
            raise RuntimeError(f"{self.process.args!r} has ended: {self.process.wait()}")
        return float(told)


@contextmanager
def answering(environment: Environment, name: str, url: str, *more: str) -> Iterator[Answering]:
    """Start the process of an observer."""
    with tempfile.TemporaryDirectory() as folder:
        program = ["-m", "benchmarks.observers.answer", name, url, folder, *more]
        with subprocess.Popen(
            [environment.python, *program],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            yield Answering(process)
            assert process.stdin
            process.stdin.close()


def one_round(all_of_them: dict[str, Answering]) -> Times:
    """Let them take turns in ever new order."""
    seconds = dict.fromkeys(all_of_them, 0.0)
    names = list(all_of_them)
    for _ in range(TURNS):
        random.shuffle(names)
        for name in names:
            seconds[name] += all_of_them[name].ask(REQUESTS)
    return [total * 1e6 / (TURNS * REQUESTS) for total in seconds.values()]


def measure(options: argparse.Namespace, environment: Environment) -> Result:
    """Start all processes, and return what came out of the rounds."""
    more = ["--served"] if options.served else []
    with Places() as places, ExitStack() as stack:
        started: dict[str, Answering] = {}
        for name in NAMES:
            url = places.new(options.driver).render_as_string(hide_password=False)
            started[name] = stack.enter_context(answering(environment, name, url, *more))
            started[name].ask(WARM_UP)
        return Result([one_round(started) for _ in range(options.rounds)])


def table(result: Result) -> Iterator[str]:
    """Give a line for each."""
    yield row("observer", ["µs of a request", "times that of none", "quartiles", "µs a statement"])
    yield row("---", ["--:"] * 4)
    for place, name in enumerate(NAMES):
        low, high = result.quartiles(place)
        added = median(times[place] - times[HAND] for times in result.rounds) / STATEMENTS
        cells = [f"{result.time(place):.0f}", f"{result.ratio(place):.3f}"]
        yield row(name, [*cells, f"{low:.3f} to {high:.3f}", f"{added:.1f}"])


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.observers.cost")
    parser.add_argument("--driver", default="sqlite+inline", help="as in a URL")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--served", action="store_true", help="by uvicorn, with a client")
    options: Any = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = make(Path(folder) / "environment")
        ours = str(wheel(Path(folder) / "wheel"))
        wanted = [package for packages in WANTED.values() for package in packages]
        environment.install(*wanted, *APPLICATION, *DRIVERS, ours)
        print("\n".join(table(measure(options, environment))))


if __name__ == "__main__":
    main()
