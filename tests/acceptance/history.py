"""A history of transactions over lists, and the cycles in it (after Elle and Jepsen's list-append).

Each transaction appends numbers that nobody else appends, and reads lists. The order of the numbers
in a list is the order of their transactions, so every dependency can be read off; a cycle of them
is a history that no order of the transactions explains (https://github.com/jepsen-io/elle).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter


@dataclass
class Transaction:
    """What one committed transaction has read and appended, by key."""

    reads: dict[int, list[int]] = field(default_factory=dict)
    appends: dict[int, int] = field(default_factory=dict)


def cycles(history: list[Transaction], final: dict[int, list[int]]) -> int:
    """Count the cycles that have to be cut before an order explains the history.

    Args:
        history: the transactions that were committed.
        final: the lists as they are in the end.
    """
    before = dependencies(history, final)
    found = 0
    while True:
        try:
            tuple(TopologicalSorter(before).static_order())
        except CycleError as error:
            first, second = error.args[1][:2]
            before[second].discard(first)
            before[first].discard(second)
            found += 1
        else:
            return found


def dependencies(history: list[Transaction], final: dict[int, list[int]]) -> dict[int, set[int]]:
    """Return, for each transaction, those that must have come before it."""
    writer = {value: n for n, each in enumerate(history) for value in each.appends.values()}
    before: dict[int, set[int]] = defaultdict(set)

    def precedes(first: int, second: int) -> None:
        if first != second:
            before[second].add(first)

    for values in final.values():
        for earlier, later in itertools.pairwise(values):
            precedes(writer[earlier], writer[later])  # both wrote
    for reader, each in enumerate(history):
        for key, seen in each.reads.items():
            if seen:
                precedes(writer[seen[-1]], reader)  # it read what was written
            if len(seen) < len(final[key]):
                precedes(reader, writer[final[key][len(seen)]])  # it did not see what came next
    return before
