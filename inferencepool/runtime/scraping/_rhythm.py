"""When an endpoint is scraped again."""

from __future__ import annotations

from random import Random
from typing import Final, final

from inferencepool.runtime.scraping._options import ScrapingOptions

__all__ = ["Rhythm"]

# Longest time between two tries of an endpoint that fails, unless the interval is longer.
_LONGEST_PAUSE: Final = 1.0
# Intervals vary by a tenth, so that scrapes do not fall into step.
_JITTER: Final = 0.1
# Enough doublings for any pair of intervals, and no overflow.
_MOST_DOUBLINGS: Final = 40


@final
class Rhythm:
    """
    The rule by which intervals are chosen.

    - An endpoint is scraped every `ScrapingOptions.interval`, or less often for all where that would be more than
      `ScrapingOptions.most_per_second`.
    - *Failures:* the pause doubles with each failure in a row, up to one second.
    - *Adaptive*, where `ScrapingOptions.idle_interval` is set: an endpoint is idle when no pick of it is in flight and
      its page shows nothing waiting and nothing running. With each scrape in a row that finds it idle its interval
      doubles, up to the idle interval. A pick in flight ends that within one interval: the endpoint is then scraped at
      once, or one interval after the last scrape began if that is later.
    - All of these vary at random by up to a tenth.

    It has no state of its own.
    """

    def __init__(self, options: ScrapingOptions, rng: Random) -> None:
        """Choose by *options*, with chance from *rng*."""
        self._options = options
        self._rng = rng

    @property
    def adapts(self) -> bool:
        """Whether idle endpoints are scraped less often."""
        return self._options.idle_interval is not None

    def interval(self, endpoints: int) -> float:
        """Give the seconds between two scrapes of an endpoint in use, where there are so many *endpoints*."""
        return max(self._options.interval, endpoints / self._options.most_per_second)

    def first(self, endpoints: int) -> float:
        """Give the seconds to wait before the first scrape: many new endpoints are not all scraped in one moment."""
        return self._rng.random() * self.interval(endpoints)

    def next(self, endpoints: int, *, failures: int, calm: int) -> float:
        """
        Give the seconds from the start of a scrape to the next.

        Args:
            endpoints: How many endpoints are scraped.
            failures: Scrapes in a row that failed.
            calm: Scrapes in a row that found the endpoint idle.
        """
        interval = self.interval(endpoints)
        if failures:
            interval = self._grown(interval, failures, _LONGEST_PAUSE)
        elif calm and self._options.idle_interval is not None:
            interval = self._grown(interval, calm, self._options.idle_interval)
        return interval * (1 + _JITTER * (2 * self._rng.random() - 1))

    @staticmethod
    def _grown(interval: float, times: int, limit: float) -> float:
        return max(interval, min(interval * 2.0 ** min(times, _MOST_DOUBLINGS), limit))
