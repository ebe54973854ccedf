"""Picks whose end cannot be seen, and for how long their load counts."""

from __future__ import annotations

import heapq
from typing import Final, final

from inferencepool.scheduling import PickResult

__all__ = ["LONGEST_HOLD", "Holds", "ResponseTimes"]

LONGEST_HOLD: Final = 300.0
"""Most seconds that an estimate says."""

# What is believed as long as nothing was seen, in seconds, and as many responses it weighs as.
_START = 10.0
_START_WEIGHT = 10
# How many responses an estimate remembers: later ones weigh as much as one of so many.
_MEMORY = 1000


@final
class ResponseTimes:
    """
    How long responses take, as far as their ends are seen: a mean over about the last 1,000.

    The mean, because only with it the load that is held in all is right: as many requests as come in a second, times
    the seconds that each one takes on average (Little's law). Until responses are seen it is 10 seconds, which weigh as
    much as ten of them. Constant time and memory. Whoever owns it guards it.
    """

    def __init__(self) -> None:
        self._mean = _START
        self._weight = _START_WEIGHT

    @property
    def estimate(self) -> float:
        """Seconds that a response is likely to take."""
        return self._mean

    def add(self, seconds: float) -> None:
        """Learn that a response took *seconds*; beyond `LONGEST_HOLD` it counts as that."""
        self._weight = min(self._weight + 1, _MEMORY)
        self._mean += (min(max(seconds, 0.0), LONGEST_HOLD) - self._mean) / self._weight


@final
class Holds:
    """
    Picks whose end cannot be seen, and until when their load counts. Whoever owns it guards it.

    Args:
        most: How many there may be; beyond it, the one goes that would have gone first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: list[tuple[float, int, PickResult]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def deadline(self) -> float | None:
        """When the next one is to be let go of; None while there is none."""
        return self._held[0][0] if self._held else None

    def hold(self, result: PickResult, until: float) -> None:
        """Keep the load of *result* until a time of the clock, in O(log held)."""
        result.detach()
        self._number += 1
        heapq.heappush(self._held, (until, self._number, result))
        if len(self._held) > self._most:
            heapq.heappop(self._held)[2].cancelled()

    def let_go(self, now: float, most: int) -> bool:
        """Take back the load of those whose time is over, *most* at once; tell whether there are more of them."""
        for _ in range(most):
            if not self._is_due(now):
                return False
            heapq.heappop(self._held)[2].cancelled()
        return self._is_due(now)

    def _is_due(self, now: float) -> bool:
        return bool(self._held) and self._held[0][0] <= now
