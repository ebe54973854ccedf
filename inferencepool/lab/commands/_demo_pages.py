"""The pages of the picker of ``demo``: what it counts, and why it decided as it did."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

from inferencepool.adapters.extproc import ExternalProcessor
from inferencepool.cli._serve_scraping import scraping_state
from inferencepool.picker import Observer, Observers
from inferencepool.runtime.debug import DebugPages, DecisionLog
from inferencepool.runtime.exporter import (
    EjectionMetrics,
    MetricsPage,
    PoolMetrics,
    RequestMetrics,
    ScrapeMetrics,
    StreamMetrics,
)
from inferencepool.runtime.http import PageServer
from inferencepool.runtime.scraping import MetricsScraper

__all__ = ["DemoPages"]


@final
class DemoPages:
    """
    What is counted and kept for the pages, as `serve --debug` does. Belongs to the event loop's thread.

    Attributes:
        requests: Is told what became of each request.
    """

    def __init__(self) -> None:
        """Count from now on."""
        self.requests = RequestMetrics()
        self._decisions = DecisionLog()

    def observer(self, other: Observer) -> Observer:
        """Give what the picker is to tell of its picks; it tells *other*, too."""
        return Observers(other, self.requests, self._decisions)

    def server_for(
        self, processor: ExternalProcessor, scraper: MetricsScraper, streams: StreamMetrics, address: str
    ) -> PageServer:
        """Give the server of ``/metrics`` and ``/debug/``, at a free port of *address*."""
        picker = processor.picker
        metrics = MetricsPage(
            self.requests,
            PoolMetrics(picker),
            streams,
            EjectionMetrics(picker.registry),
            ScrapeMetrics(scraper.statistics),
        )
        statistics: dict[str, Callable[[], object]] = {
            "processor": processor.statistics,
            "scraping": partial(scraping_state, scraper),
        }
        debug = DebugPages(picker, self._decisions, statistics=statistics)
        return PageServer({"/metrics": metrics, **debug.pages()}, address=address)
