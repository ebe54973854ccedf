"""How long to wait after failures."""

from __future__ import annotations

from random import Random
from typing import final

from inferencepool.adapters.kubernetes._feed import Failure
from inferencepool.adapters.kubernetes._options import ReflectorOptions

__all__ = ["REFUSED", "Backoff"]

#: The server says that the resource is not for us, or not there: asking again soon is of no use.
REFUSED = (403, 404, 405)
# 2 to the power of this is more than any ratio of two waiting times that makes sense.
_MOST_DOUBLINGS = 30


@final
class Backoff:
    """
    Counts failures in a row, and says how long to wait.

    The time doubles with each failure up to a limit; at random between half of it and all, so that clients that failed
    together do not come back together. It never depends on a clock.
    """

    def __init__(self, options: ReflectorOptions, rng: Random) -> None:
        """Begin without a failure."""
        self._options = options
        self._rng = rng
        self.failures = 0

    def reset(self) -> None:
        """Forget all failures."""
        self.failures = 0

    def after(self, failure: Failure) -> float:
        """Count *failure*, and give the seconds to wait."""
        self.failures += 1
        options = self._options
        if failure.status in REFUSED:
            return self._spread(options.retry_refused)
        doublings = min(self.failures - 1, _MOST_DOUBLINGS)
        seconds = self._spread(min(options.retry_first * 2**doublings, options.retry_most))
        if failure.retry_after is None:
            return seconds
        asked = min(max(failure.retry_after, 0.0), options.retry_after_most)
        return max(seconds, asked + self._rng.uniform(0, options.retry_first))

    def after_short_turn(self, reason: str) -> float | None:
        """Count a turn that ended early though in order; None, to go on at once, for the first one in a row."""
        if self.failures == 0:
            self.failures = 1
            return None
        return self.after(Failure(reason))

    def _spread(self, seconds: float) -> float:
        return seconds * self._rng.uniform(0.5, 1.0)
