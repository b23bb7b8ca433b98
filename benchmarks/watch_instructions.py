"""What a watch costs in instructions of the processor, which a busy machine changes nothing about.

    .venv/bin/python -m benchmarks.watch_instructions [--driver postgresql+asyncpg] [--statements 1]

Valgrind counts them (Debian's package `valgrind`), for each process by itself. One that has made
some requests goes on as two, which make another one and another fifty; with the watch off and on,
and off again as the control. Not in it is the thread that looks now and then: it goes by the clock,
and there a request takes a hundred times as long.
"""

import argparse
import asyncio
import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.places import Places
from benchmarks.ten import Subject
from dbscope.sqlite_inline import calls, fairness
from dbscope.watch.sampler import Sampler
from dbscope.watch.share.serving import Sharing

VARIANTS = {"off": False, "on": True, "off again": False}
WARM, FEW, MANY = 20, 1, 51  # requests
KEEP = 10  # records, so that for each new one there is one less, as when it has run for a while
VALGRIND = ["valgrind", "--tool=cachegrind", "--cache-sim=no"]


def main(options: argparse.Namespace) -> None:
    """Have all variants counted, and print what they need for a request."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.watch_instructions", "--inside", folder]
        command += ["--driver", options.driver, "--statements", str(options.statements)]
        subprocess.run(
            [*VALGRIND, f"--cachegrind-out-file={folder}/%p", *command],
            env=os.environ | {"PYTHONHASHSEED": "0"},
            stderr=subprocess.DEVNULL,
            check=True,
        )
        needed = {variant: of_request(Path(folder), variant) for variant in VARIANTS}
    for variant, number in needed.items():
        ratio = number / needed["off"]
        print(f"{options.driver} {variant:10} {number:12,.0f} a request   {ratio:.3f}")


def of_request(folder: Path, variant: str) -> float:
    """Return how many instructions one request of a variant is."""
    few, many = (counted(folder, variant, times) for times in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def counted(folder: Path, variant: str, times: int) -> int:
    """Return how many instructions the process of so many requests was."""
    number = (folder / f"{variant} {times}").read_text()
    lines = (folder / number).read_text().splitlines()
    (summary,) = (line for line in lines if line.startswith("summary:"))
    return int(summary.split()[1])


# -- under valgrind --------------------------------------------------------------------------------


def inside(options: argparse.Namespace) -> None:
    """Make the requests of each variant in processes of their own."""
    for kind in (Sampler, Sharing):
        kind.run = lambda _: None  # type: ignore[method-assign]
    calls.BUDGET = fairness.SLICE = 3600  # else statements are taken for slow ones, now and then
    for variant, watched in VARIANTS.items():
        for times in (FEW, MANY):
            if os.fork() == 0:
                asyncio.run(request(options, watched=watched, times=times))
                (options.inside / f"{variant} {times}").write_text(str(os.getpid()))
                os._exit(0)
            if os.wait()[1]:
                raise SystemExit(1)


async def request(options: argparse.Namespace, *, watched: bool, times: int) -> None:
    """Make so many requests, after some to warm up."""
    with Places() as places:
        url, statements = places.new(options.driver), options.statements
        subject = Subject(url, statements, watched=watched, keep=KEEP)
        await subject.prepare()
        await subject.request(WARM)
        gc.freeze()  # a collection of all comes so seldom that it is in none of them, or in one
        await subject.request(times)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Count the instructions that a watch costs.")
    parser.add_argument("--driver", default="sqlite+inline", help="as in a URL")
    parser.add_argument("--statements", type=int, default=10, help="of a request")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    inside(given) if given.inside else main(given)
