"""What a watch has found so far in its own process, and can be asked for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from dbscope.masking import masked
from dbscope.watch.drafts import holding, waits

if TYPE_CHECKING:
    from dbscope.watch.pools import PoolState
    from dbscope.watch.problems import Finder, Problem
    from dbscope.watch.recorder import Recorder
    from dbscope.watch.records import Record
    from dbscope.watch.sampler import Sampler

KEPT = 500  # records


class Findings:
    """Records of the last scopes, and who holds and waits for what now.

    Args:
        source: of the database.
    """

    recorder: Recorder | None = None
    sampler: Sampler | None = None
    id: str | None = None  # by which other processes know this one

    def __init__(self, source: Any) -> None:
        self._source = source
        self.url: str = masked(source.url.render_as_string(hide_password=True))  # without secrets

    @property
    def is_on(self) -> bool:
        """Whether it records."""
        return self.recorder is not None

    def recent(self, n: int = 100) -> list[Record]:
        """Return the last records, newest first; `str(record)` is one line.

        Args:
            n: how many at most.

        Returns:
            Records of scopes that have ended: outcome, reason, statements, waits.
        """
        return [] if self.recorder is None else list(self.recorder.ring)[: -n - 1 : -1]

    def holders(self) -> list[str]:
        """Say who holds a connection now, since when, and what it does with it."""
        return [] if self.recorder is None else list(map(holding, self.recorder.holders(None)))

    def problems(self) -> list[Problem]:
        """Return what was found in the records that are kept, what they have most often first.

        N+1 with the remedy at the line of the parent's query, reads of the same thing, transactions
        that were idle, commits by hand in a request.
        """
        counted: Counter[object] = Counter()
        worst: dict[object, Problem] = {}
        for problem in [each for record in self.recent(KEPT) for each in record.problems]:
            counted[problem.place] += 1
            known = worst.get(problem.place)
            if known is None or known.times < problem.times:
                worst[problem.place] = problem
        return [worst[place] for place, _ in counted.most_common()]

    def waiting(self) -> list[str]:
        """Say who waits now, for what, for how long, and for whom."""
        drafts = () if self.recorder is None else tuple(self.recorder.drafts.values())
        return [told for draft in drafts if (told := waits(draft)) is not None]

    @property
    def finder(self) -> Finder:
        """Who looks for problems, while it records."""
        assert self.recorder is not None
        return self.recorder.finder

    def stats(self) -> dict[str, int]:
        """Return the counters of the database, as `db.stats()` does."""
        stats: dict[str, int] = self._source.stats()
        return stats

    def pools(self) -> list[PoolState]:
        """Return how many connections each pool has: used, idle, and at most."""
        pools: list[PoolState] = self._source.pools()
        return pools

    async def plan(self, sql: str) -> list[str]:
        """Return how the database would do a SELECT, which is not done.

        Raises:
            ConfigurationError: it cannot be told without values.
        """
        found: list[str] = await self._source.watching.plan(sql)
        return found
