"""Run the benchmarks; README.md says what is measured and how to read it."""

import argparse
import asyncio
import sys
from dataclasses import replace

from benchmarks import report
from benchmarks.cases import CASES, Case, run
from benchmarks.client import WrongResult
from benchmarks.measure import CLOCKS
from benchmarks.places import Places


def main() -> int:
    options = arguments()
    short = options.short_turns
    cases = [replace(case, short_turns=short) for case in CASES if wanted(case, options.names)]
    if not cases:
        sys.stderr.write(f"There is no such case: {' '.join(options.names)}.\n")
        return 2
    print(report.header(options.rounds, options.clock), flush=True)
    over = wrong = False
    clock = CLOCKS[options.clock]
    with Places() as places:
        for case in cases:
            try:
                result = asyncio.run(run(case, places, options.rounds, clock))
            except WrongResult as error:
                print(f"{case.name} {case.method} {case.driver}: wrong: {error}", flush=True)
                wrong = True
                continue
            over |= case.over(result)
            print(report.row(case, result), flush=True)
    return 1 if wrong or (options.check and over) else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure what dbscope costs.")
    names = ", ".join(dict.fromkeys(case.name for case in CASES))
    parser.add_argument("names", nargs="*", help=f"{names}, or a part of a driver's name")
    parser.add_argument("--rounds", type=int, default=60, help="at least 40 tell something")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: of this process, all threads"
    )
    parser.add_argument("--short-turns", action="store_true", help="ten requests in all cases")
    parser.add_argument("--check", action="store_true", help="exit with 1 when over a bar")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: quartiles need two rounds")
    return options


def wanted(case: Case, names: list[str]) -> bool:
    """Tell whether a case was asked for, by its name and, if given, by its driver."""
    known = {other.name for other in CASES}
    by_name = [name for name in names if name in known]
    by_driver = [name for name in names if name not in known]
    return (not by_name or case.name in by_name) and (
        not by_driver or any(name in " ".join(case.drivers) for name in by_driver)
    )


if __name__ == "__main__":
    sys.exit(main())
