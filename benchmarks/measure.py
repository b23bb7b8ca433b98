"""Takes the time of variants that take turns, so that what disturbs one disturbs all."""

import gc
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter, process_time

from benchmarks.client import Client

TURNS = 10  # in each round, each variant has so many turns,
REQUESTS = 10  # each of so many requests
WARM_UP = 300  # requests: caches of compiled and prepared statements, pools, threads

HAND, OURS, CONTROL = range(3)
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": perf_counter, "cpu": process_time}
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


async def measure(clients: Sequence[Client], rounds: int, clock: Clock = perf_counter) -> Result:
    """Measure the variants, after a warm-up that is like a round."""
    for client in clients:
        await client.request(WARM_UP)
        client.check()
    gc.collect()
    gc.freeze()
    try:
        await one_round(clients, clock)
        return Result([await one_round(clients, clock) for _ in range(rounds)])
    finally:
        gc.unfreeze()


async def one_round(clients: Sequence[Client], clock: Clock) -> Times:
    """Let the variants take turns in ever new order; what was left for gc is collected after."""
    seconds = [0.0] * len(clients)
    order = list(range(len(clients)))
    gc.disable()
    try:
        for _ in range(TURNS):
            random.shuffle(order)
            for variant in order:
                start = clock()
                await clients[variant].request(REQUESTS)
                seconds[variant] += clock() - start
    finally:
        gc.enable()
    for client in clients:
        client.check()
    gc.collect()
    return [total * 1e6 / (TURNS * REQUESTS) for total in seconds]
