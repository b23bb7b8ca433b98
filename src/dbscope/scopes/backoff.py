"""How often work is tried, and after which pause: the same for a function and for a request."""

from __future__ import annotations

import random
from collections.abc import Collection

from dbscope import arguments
from dbscope.backends import conflicts
from dbscope.watch.dispatch import tell_all
from dbscope.watch.events import AttemptFailed

BASE = 0.02  # seconds: the longest pause before the second attempt; doubled for each one more
CAP = 1.0  # seconds: no pause is longer
DOUBLINGS = 30  # of the pause; the cap is reached long before


class Attempts:
    """The attempts at one piece of work.

    Args:
        retries: how many may follow the first one.
    """

    def __init__(self, retries: int) -> None:
        self.retries = retries
        self.failed = 0
        self.codes: tuple[str, ...] = ()  # of the failures
        self._notes: list[str] = []

    def pause_after(
        self, error: BaseException, what: object, also: Collection[str] = ()
    ) -> float | None:
        """Return the seconds to wait before the next attempt; None if there is to be none.

        Args:
            error: the failure. What it did must be rolled back, all of it.
            what: the scope or block that failed, for the log.
            also: codes that are conflicts by the setting of a database.
        """
        code = conflicts.conflict_of(error, also)
        if code is None or self.failed >= self.retries:
            return None
        seconds = pause(self.failed)
        self.failed += 1
        self.codes += (code,)
        # The text of the error may contain what people have entered.
        self._notes.append(f"Attempt {self.failed} failed by {type(error).__name__} ({code}).")
        tell_all(AttemptFailed, what, self.failed, error, code, seconds)
        return seconds

    def note_on(self, error: BaseException) -> None:
        """Note on the error of the last attempt what became of those before."""
        for note in self._notes:
            error.add_note(note)


def pause(failed: int) -> float:
    """Return how many seconds to wait: by chance, up to a limit that doubles each time.

    Those who met once would meet again if all waited for the same time
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter, "full jitter").
    """
    limit = min(CAP, BASE * 2 ** min(failed, DOUBLINGS))
    return random.uniform(0, limit)  # noqa: S311  (no secret)


def checked(number: int, name: str, least: int) -> int:
    """Return the number; ValueError if it is less than that, or no whole number."""
    return arguments.check(name, number, arguments.at_least(least), ValueError)
