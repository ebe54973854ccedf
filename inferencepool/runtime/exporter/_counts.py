"""Metrics from what others count: scrapers, limits of servers, and indexes of cached prefixes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol, final

from inferencepool.runtime.exporter import _families as names
from inferencepool.runtime.exporter._prometheus import Metric, numbers

__all__ = ["LimitMetrics", "PrefixCounts", "PrefixMetrics", "ScrapeCounts", "ScrapeMetrics"]

# What the reference calls its own.
_SOURCE: Final = "metrics-data-source"
_EXTRACTOR: Final = "core-metrics-extractor"


class ScrapeCounts(Protocol):
    """**Protocol:** what became of scrapes."""

    @property
    def fetch_errors(self) -> int:
        """Scrapes that got no page."""
        ...

    @property
    def read_errors(self) -> int:
        """Scrapes that got a page without metrics."""
        ...

    @property
    def postponed(self) -> int:
        """Scrapes that began later because those before took too much work."""
        ...


class PrefixCounts(Protocol):
    """**Protocol:** what an index of cached prefixes holds, and how often it knew something."""

    @property
    def held(self) -> int:
        """Blocks held, summed over endpoints."""
        ...

    @property
    def hits(self) -> int:
        """Lookups in which some endpoint held at least one block."""
        ...

    @property
    def misses(self) -> int:
        """Lookups in which none did."""
        ...


@final
class ScrapeMetrics:
    """
    Tells how many scrapes of endpoints failed, and how many were put off.

    A collector, for a ``CollectorRegistry`` of prometheus-client. It has no state.
    """

    def __init__(self, tell: Callable[[], ScrapeCounts]) -> None:
        """Ask *tell*, such as the ``statistics`` of a scraper; in another thread than the event loop's."""
        self._tell = tell

    def collect(self) -> list[Metric]:
        """Give all of them."""
        counts = self._tell()
        return [
            numbers(names.POLL_ERRORS, [((_SOURCE,), counts.fetch_errors)]),
            numbers(names.EXTRACT_ERRORS, [((_SOURCE, _EXTRACTOR), counts.read_errors)]),
            numbers(names.POSTPONED_SCRAPES, [((), counts.postponed)]),
        ]


@final
class LimitMetrics:
    """
    Tells how often limits acted that protect servers from all their clients together.

    A collector, for a ``CollectorRegistry`` of prometheus-client. It has no state.
    """

    def __init__(self, tell: Callable[[], Mapping[str, Mapping[str, int]]]) -> None:
        """Ask *tell*, by server and by limit, both of a fixed set; in another thread than the event loop's."""
        self._tell = tell

    def collect(self) -> list[Metric]:
        """Give the metric; a limit that never acted is there, as 0."""
        counts = [
            ((server, limit), times) for server, limits in self._tell().items() for limit, times in limits.items()
        ]
        return [numbers(names.LIMITS_REACHED, counts)]


@final
class PrefixMetrics:
    """
    Tells how much an index of cached prefixes holds, and how often it knew something.

    A collector, for a ``CollectorRegistry`` of prometheus-client. It has no state.
    """

    def __init__(self, tell: Callable[[], PrefixCounts], *, plugin_name: str, plugin_type: str) -> None:
        """
        Ask *tell*.

        Args:
            tell: Such as the ``statistics`` of an index; called in another thread than the event loop's.
            plugin_name: The index's name, for the label.
            plugin_type: The name of its type, such as ``approx-prefix-cache-producer``.
        """
        self._tell = tell
        self._labels = (plugin_name, plugin_type)

    def collect(self) -> list[Metric]:
        """Give both metrics."""
        counts, labels = self._tell(), self._labels
        lookups = [((*labels, "hit"), counts.hits), ((*labels, "miss"), counts.misses)]
        return [numbers(names.PREFIX_INDEXER_SIZE, [(labels, counts.held)]), numbers(names.PREFIX_LOOKUPS, lookups)]
