"""The pool over time: of each second, how many connections were out, and who had to wait."""

from __future__ import annotations

from collections import deque
from time import time
from typing import TYPE_CHECKING, Any

from dbscope.watch.tally import is_lost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbscope.watch.kept import Kept
    from dbscope.watch.records import Record

SECONDS = 600  # that are kept


class History:
    """Counts in the thread that looks around; of each second it keeps the most that it saw.

    Args:
        recorder: who knows who waits.
        source: of the database, which knows its pool.
    """

    def __init__(self, recorder: Kept, source: Any) -> None:
        self.recorder = recorder
        self.source = source
        # second, connections out, of how many, waiting, records, of those not kept
        self.seconds: deque[list[int]] = deque(maxlen=SECONDS)

    def look(self, ended: Sequence[Record]) -> None:
        """Look once.

        Args:
            ended: the records since the last look.
        """
        stats, second = self.source.stats(), int(time())
        waiting = sum(each.waiting is not None for each in tuple(self.recorder.drafts.values()))
        if not self.seconds or self.seconds[-1][0] != second:
            self.seconds.append([second, 0, 0, 0, 0, 0])
        now = self.seconds[-1]
        now[1] = max(now[1], stats["pool_checked_out"])
        now[2] = stats["pool_size"]
        now[3] = max(now[3], waiting)
        now[4] += len(ended)
        now[5] += sum(map(is_lost, ended))

    def told(self) -> list[list[int]]:
        """Return it as plain values."""
        return [list(each) for each in tuple(self.seconds)]
