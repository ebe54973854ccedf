"""How long to wait after failures."""

from __future__ import annotations

from random import Random
from typing import final

from inferencepool.adapters.kubernetes._feed import Failure
from inferencepool.adapters.kubernetes._options import ReflectorOptions

__all__ = ["Backoff"]

# The server says that the resource is not there: asking again soon is of no use.
_ABSENT = (404, 405)
_FORBIDDEN = 403
# Refusals in a row after which a right is taken for missing. A server that has just started knows no roles for a second
# or so; this many take at least seven times `ReflectorOptions.retry_first`.
_LASTING = 5
# Times in a row that what the server asks for is waited, and is no failure. That of client-go.
_MOST_ASKED = 10
# 2 to the power of this is more than any ratio of two waiting times that makes sense.
_MOST_DOUBLINGS = 30


@final
class Backoff:
    """
    Counts failures in a row, and says how long to wait.

    The time doubles with each failure up to a limit; at random between half of it and all, so that clients that failed
    together do not come back together. It never depends on a clock.

    A server that says when to come back is left alone for just that long, and it is no failure, ten times in a row.

    Attributes:
        failures: Failures in a row.
        refused: Whether the server says that the resource is not there, or lastingly that it is not for us.
    """

    def __init__(self, options: ReflectorOptions, rng: Random) -> None:
        """Begin without a failure."""
        self._options = options
        self._rng = rng
        self.reset()

    def reset(self) -> None:
        """Forget all failures."""
        self.failures = 0
        self.refused = False
        self._asked = self._forbidden = 0

    def after(self, failure: Failure) -> float:
        """Count *failure*, and give the seconds to wait."""
        options = self._options
        asked = min(max(failure.retry_after or 0.0, 0.0), options.retry_after_most)
        if failure.retry_after is not None and self._asked < _MOST_ASKED:
            self._asked += 1
            return asked
        self.failures += 1
        self._forbidden = self._forbidden + 1 if failure.status == _FORBIDDEN else 0
        self.refused = failure.status in _ABSENT or self._forbidden >= _LASTING
        if failure.status in _ABSENT:
            return self._spread(options.retry_refused)
        doublings = min(self.failures - 1, _MOST_DOUBLINGS)
        seconds = self._spread(min(options.retry_first * 2**doublings, options.retry_most))
        return max(seconds, asked)

    def after_short_turn(self, reason: str) -> float | None:
        """Count a turn that ended early though in order; None, to go on at once, for the first one in a row."""
        if self.failures == 0:
            self.failures = 1
            return None
        return self.after(Failure(reason))

    def _spread(self, seconds: float) -> float:
        return seconds * self._rng.uniform(0.5, 1.0)
