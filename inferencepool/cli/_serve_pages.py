"""The pages of ``serve``: metrics about the picker, and what it knows. Imports extras, so it is imported late."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, final

import attrs

from inferencepool.adapters.extproc import ExchangeObserver, ExchangeObservers, ExternalProcessor
from inferencepool.cli._serve_limits import page_limits
from inferencepool.cli._serve_scraping import scraping_state
from inferencepool.picker import Observer, Observers
from inferencepool.plugins import ApproxPrefixCacheProducer
from inferencepool.runtime.debug import DebugPages, DecisionLog
from inferencepool.runtime.exporter import (
    CardinalityLimits,
    EjectionMetrics,
    LimitMetrics,
    MetricsPage,
    PoolMetrics,
    PrefixMetrics,
    RequestMetrics,
    ScrapeMetrics,
    StreamMetrics,
)
from inferencepool.runtime.health import Health
from inferencepool.runtime.http import PageHandler, PageServer

if TYPE_CHECKING:
    from inferencepool.runtime.scraping import MetricsScraper
    from inferencepool.scheduling import SchedulingProfile

__all__ = ["ServedPages"]

_PREFIX_INDEX = "approx-prefix-cache-producer"


@attrs.frozen
class PagesServer:
    """
    A server of pages, and what the pages have yet to hear of.

    Attributes:
        server: The server.
        metrics: The page about the picker.
        streams: What is to be told of the ends of streams.
    """

    server: PageServer
    metrics: MetricsPage
    streams: StreamMetrics

    def tell_limits(self, acted: Callable[[], Mapping[str, Mapping[str, int]]]) -> None:
        """Show how often limits acted: those of other servers, which *acted* gives, and those of the pages' own."""
        self.metrics.add(LimitMetrics(lambda: {**acted(), "pages": self.server.limits_acted}))


@final
class ServedPages:
    """The pages that flags ask for, and what has to be told to whom for them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Prepare what *arguments* ask for."""
        self._arguments = arguments
        limits = CardinalityLimits(
            models=arguments.model_name_metric_label_limit, fairness_ids=arguments.fairness_id_metric_label_limit
        )
        self._metrics = RequestMetrics(limits)
        self._decisions = DecisionLog(arguments.debug_decisions) if arguments.debug else None

    def picker_observer(self) -> Observer:
        """Give what the picker is to tell of its picks."""
        return self._metrics if self._decisions is None else Observers(self._metrics, self._decisions)

    def exchange_observer(self, log: ExchangeObserver) -> ExchangeObserver:
        """Give what the processor is to tell of its requests; it tells *log*, too."""
        return ExchangeObservers(self._metrics, log)

    def server_for(
        self,
        processor: ExternalProcessor,
        health: Health,
        scraper: MetricsScraper | None,
        states: Mapping[str, Callable[[], object]],
    ) -> PagesServer:
        """
        Give the server of the pages, with what is to be told for them while the picker serves.

        Args:
            processor: What the pages are about.
            health: Whether it is ready.
            scraper: What scrapes its endpoints, if anything does.
            states: What tells about other parts, by their names on the debug page.
        """
        arguments, picker = self._arguments, processor.picker
        self._metrics.exempt_models(lambda: processor.rewrites.models)
        streams = StreamMetrics(processor)
        pool = PoolMetrics(picker, staleness=arguments.metrics_staleness_threshold)
        metrics = MetricsPage(self._metrics, pool, streams, deprecated=arguments.deprecated_metrics)
        most = arguments.ejected_endpoint_metric_label_limit
        metrics.add(EjectionMetrics(picker.registry, most_endpoints=most))
        statistics: dict[str, Callable[[], object]] = {
            "processor": processor.statistics,
            "health": lambda: {"unmet": health.unmet},
            **states,
        }
        if scraper is not None:
            metrics.add(ScrapeMetrics(scraper.statistics))
            statistics["scraping"] = partial(scraping_state, scraper)
        for producer in _prefix_producers(picker.profile):
            metrics.add(PrefixMetrics(producer.index.statistics, plugin_name=_PREFIX_INDEX, plugin_type=_PREFIX_INDEX))
            statistics["prefixes"] = producer.index.statistics
        pages: dict[str, PageHandler] = {"/metrics": metrics}
        if self._decisions is not None:
            remote = arguments.debug_from == "anywhere"
            pages |= DebugPages(picker, self._decisions, statistics=statistics, remote=remote).pages()
        server = PageServer(
            pages, address=arguments.address, port=arguments.metrics_port, limits=page_limits(arguments)
        )
        return PagesServer(server, metrics, streams)


def _prefix_producers(profile: SchedulingProfile) -> list[ApproxPrefixCacheProducer]:
    return [part for part in profile.parts_with("match") if isinstance(part, ApproxPrefixCacheProducer)]
