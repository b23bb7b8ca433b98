"""What a watch costs: a request with ten statements, with the watch off, on, and off again.

    .venv/bin/python -m benchmarks.watch [--rounds 60] [--driver postgresql+asyncpg]

Each variant is an application of its own with its own database; the control is the first one once
more. CPU time of the process: the thread that looks now and then is in it.
"""

import argparse
import asyncio
from statistics import median

from benchmarks.measure import CLOCKS, CONTROL, HAND, OURS, Size, measure
from benchmarks.places import Places
from benchmarks.ten import Subject

BAR = 1.08


async def main(options: argparse.Namespace) -> bool:
    rounds, driver, statements = options.rounds, options.driver, options.statements
    with Places() as places:
        made = [
            Subject(places.new(driver), statements, watched=watched)
            for watched in (False, True, False)
        ]
        for subject in made:
            await subject.prepare()
        result = await measure(made, rounds, CLOCKS[options.clock], Size())
        for subject in made:
            subject.db.watch.stop()
            await subject.db.dispose()
    off, on, again = (result.time(variant) for variant in (HAND, OURS, CONTROL))
    each = median((times[OURS] - times[HAND]) / statements for times in result.rounds)
    print(f"{driver} off {off:7.0f} µs   on {on:7.0f} µs   off again {again:7.0f} µs a request")
    low, high = result.quartiles(OURS)
    print(f"{'':10} on / off {result.ratio(OURS):.3f} ({low:.3f} to {high:.3f})", end="   ")
    print(f"control {result.ratio(CONTROL):.3f}   a statement {each:.1f} µs", flush=True)
    return result.ratio(OURS) > BAR


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure what a watch costs.")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--driver", default="sqlite+inline", help="as in a URL")
    parser.add_argument("--statements", type=int, default=10, help="of a request")
    parser.add_argument("--clock", choices=CLOCKS, default="cpu", help="calls: on a busy machine")
    options = parser.parse_args()
    raise SystemExit(asyncio.run(main(options)))
