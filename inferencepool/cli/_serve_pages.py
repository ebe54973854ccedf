"""The pages of ``serve``: metrics about the picker, and what it knows. Imports extras, so it is imported late."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import final

from inferencepool.adapters.extproc import ExchangeObserver, ExchangeObservers, ExternalProcessor
from inferencepool.picker import Observer, Observers
from inferencepool.runtime.debug import DebugPages, DecisionLog
from inferencepool.runtime.exporter import (
    CardinalityLimits,
    MetricsPage,
    PoolMetrics,
    RequestMetrics,
    StreamMetrics,
)
from inferencepool.runtime.health import Health
from inferencepool.runtime.http import PageHandler, PageServer

__all__ = ["ServedPages"]


@final
class ServedPages:
    """The pages that flags ask for, and what has to be told to whom for them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Prepare what *arguments* ask for."""
        self._arguments = arguments
        self._metrics = RequestMetrics(CardinalityLimits(fairness_ids=arguments.fairness_id_metric_label_limit))
        self._decisions = DecisionLog(arguments.debug_decisions) if arguments.debug else None

    def picker_observer(self) -> Observer:
        """Give what the picker is to tell of its picks."""
        return self._metrics if self._decisions is None else Observers(self._metrics, self._decisions)

    def exchange_observer(self, log: ExchangeObserver) -> ExchangeObserver:
        """Give what the processor is to tell of its requests; it tells *log*, too."""
        return ExchangeObservers(self._metrics, log)

    def server_for(
        self, processor: ExternalProcessor, health: Health, more: Mapping[str, Callable[[], object]]
    ) -> tuple[PageServer, StreamMetrics]:
        """
        Give the server of the pages about *processor*, and what is to be told of the ends of its streams.

        The debug page shows the statistics that *more* gives as well.
        """
        arguments, picker = self._arguments, processor.picker
        self._metrics.exempt_models(lambda: processor.rewrites.models)
        streams = StreamMetrics(processor)
        pool = PoolMetrics(picker, staleness=arguments.metrics_staleness_threshold)
        pages: dict[str, PageHandler] = {
            "/metrics": MetricsPage(self._metrics, pool, streams, deprecated=arguments.deprecated_metrics)
        }
        if self._decisions is not None:
            statistics = {"processor": processor.statistics, "health": lambda: {"unmet": health.unmet}, **more}
            remote = arguments.debug_from == "anywhere"
            pages |= DebugPages(picker, self._decisions, statistics=statistics, remote=remote).pages()
        return PageServer(pages, address=arguments.address, port=arguments.metrics_port), streams
