"""How much work the pages of one endpoint may take."""

from __future__ import annotations

from typing import Final, final

__all__ = ["Allowance"]

# Seconds of work that may come at once: enough for a page that is long, or for a moment in which the machine is busy.
_RESERVE: Final = 0.1


@final
class Allowance:
    """
    A share of the time, with a reserve: who used more has to wait until it has grown again.

    An event loop's thread guards it.
    """

    def __init__(self, share: float, now: float) -> None:
        """Allow *share* of the time from *now* on, in seconds of the event loop."""
        self._share = share
        self._left = _RESERVE
        self._at = now

    def charge(self, seconds: float) -> None:
        """Take notice of work."""
        self._left -= seconds

    def pause(self, now: float) -> float:
        """Give the seconds from *now* until there is something left; 0 where there is."""
        self._left = min(_RESERVE, self._left + self._share * (now - self._at))
        self._at = now
        return max(0.0, -self._left / self._share)
