"""A limit on frames that carry no work."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["FrameBudget"]


class FrameBudget:
    """
    Counts frames that cost time and carry nothing: PING, SETTINGS, PRIORITY, RST_STREAM, empty DATA and the like.

    Work earns some of them back, because it needs them: a client answers messages with WINDOW_UPDATE and PING.
    The event loop's thread guards it.

    Args:
        burst: How many may come at once.
        rate: How many more may come per second.
        clock: Tells the time, in seconds.
    """

    __slots__ = ("_burst", "_clock", "_debt", "_rate", "_since")

    def __init__(self, burst: int, rate: float, clock: Callable[[], float]) -> None:
        self._burst = burst
        self._rate = rate
        self._clock = clock
        self._debt = 0
        self._since = clock()

    def charge(self, frames: int = 1) -> None:
        """Count *frames* that carry no work."""
        self._debt += frames

    def earn(self, frames: int) -> None:
        """Allow *frames* more, for work that was done. What is not owed cannot be saved."""
        if self._debt:
            self._debt = max(self._debt - frames, 0)

    def is_spent(self) -> bool:
        """Tell whether more frames came than the burst and the time allow. The clock is read only when it matters."""
        if self._debt <= self._burst:
            return False
        now = self._clock()
        self._debt = max(0, self._debt - int((now - self._since) * self._rate))
        self._since = now
        return self._debt > self._burst
