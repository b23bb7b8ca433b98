"""Takes the time of variants that take turns, so that what disturbs one disturbs all."""

import gc
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter, process_time
from typing import Protocol


class Subject(Protocol):
    """A variant."""

    async def request(self, times: int) -> None: ...
    def check(self) -> None: ...


@dataclass(frozen=True)
class Size:
    """How much is measured in a round."""

    turns: int = 10  # that each variant has in a round,
    requests: int = 10  # each of so many
    warm_up: int = 300  # requests: caches of compiled and prepared statements, pools, threads


USUAL = Size()

HAND, OURS, CONTROL = range(3)
Clock = Callable[[], float]


class Calls:
    """A clock that is ahead by a microsecond with each function that is called in its thread.

    It goes the same on every machine, however busy; what a call takes it does not know.
    """

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> float:
        sys.setprofile(self.hear)
        return self.count / 1e6

    def hear(self, _frame: object, event: str, _argument: object) -> None:
        self.count += event in {"call", "c_call"}


CLOCKS: dict[str, Clock] = {"wall": perf_counter, "cpu": process_time, "calls": Calls()}
UNITS = {"calls": "calls of functions in the thread of the loop"}
Times = list[float]  # microseconds for each request, of each variant


@dataclass
class Result:
    """What came out of all the rounds of one case."""

    rounds: list[Times]

    def time(self, variant: int) -> float:
        return median(times[variant] for times in self.rounds)

    def ratios(self, variant: int) -> list[float]:
        return [times[variant] / times[HAND] for times in self.rounds]

    def ratio(self, variant: int) -> float:
        return median(self.ratios(variant))

    def quartiles(self, variant: int) -> tuple[float, float]:
        low, _, high = quantiles(self.ratios(variant), n=4)
        return low, high

    @property
    def added(self) -> float:
        return median(times[OURS] - times[HAND] for times in self.rounds)


async def measure(
    subjects: Sequence[Subject], rounds: int, clock: Clock = perf_counter, size: Size = USUAL
) -> Result:
    """Measure the variants, after a warm-up that is like a round."""
    for subject in subjects:
        await subject.request(size.warm_up)
        subject.check()
    gc.collect()
    gc.freeze()
    try:
        await one_round(subjects, clock, size)
        return Result([await one_round(subjects, clock, size) for _ in range(rounds)])
    finally:
        gc.unfreeze()


async def one_round(subjects: Sequence[Subject], clock: Clock, size: Size) -> Times:
    """Let the variants take turns in ever new order; what was left for gc is collected after."""
    seconds = [0.0] * len(subjects)
    order = list(range(len(subjects)))
    gc.disable()
    try:
        for _ in range(size.turns):
            random.shuffle(order)
            for variant in order:
                start = clock()
                await subjects[variant].request(size.requests)
                seconds[variant] += clock() - start
    finally:
        gc.enable()
    for subject in subjects:
        subject.check()
    gc.collect()
    return [total * 1e6 / (size.turns * size.requests) for total in seconds]
