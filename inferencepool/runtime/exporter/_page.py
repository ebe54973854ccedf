"""`MetricsPage`: the page ``/metrics``."""

from __future__ import annotations

from typing import final

from inferencepool._version import __version__
from inferencepool.runtime.exporter import _families as names
from inferencepool.runtime.exporter._deprecated import DeprecatedNames
from inferencepool.runtime.exporter._prometheus import (
    Collector,
    CollectorRegistry,
    Metric,
    ProcessCollector,
    numbers,
    write_page,
)
from inferencepool.runtime.http import Page, PageRequest

__all__ = ["MetricsPage"]

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


@final
class MetricsPage:
    """
    The page ``/metrics``: what collectors tell, in the text format of Prometheus, whatever else a scraper takes.

    Give it to a `PageServer`. It tells about the build and about the process as well.

    Attributes:
        registry: The collectors, of which yours may be some; it is nobody else's, and never the global one.
    """

    def __init__(self, *collectors: Collector, deprecated: bool = False) -> None:
        """
        Show what *collectors* tell.

        Args:
            collectors: Tell something, such as `RequestMetrics` and `PoolMetrics`.
            deprecated: Whether metrics that had other names are shown under these as well.
        """
        self.registry = CollectorRegistry()
        self._deprecated = deprecated
        ProcessCollector(registry=self.registry)
        for collector in (_Build(), *collectors):
            self.add(collector)

    def add(self, collector: Collector) -> None:
        """Show what *collector* tells, too."""
        self.registry.register(DeprecatedNames(collector) if self._deprecated else collector)

    def __call__(self, _: PageRequest, /) -> Page:
        """Make the page."""
        # OpenMetrics would take three times as long to write, and tell nothing more.
        return Page(write_page(self.registry.collect()), _TEXT)


class _Build:
    """Tells which build this is."""

    def collect(self) -> list[Metric]:
        return [numbers(names.INFO, [(("unknown", f"inferencepool {__version__}"), 1)])]
