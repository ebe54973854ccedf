"""What the log is told about scrapes: changes only."""

from __future__ import annotations

import logging
from typing import Final, final

from inferencepool.registry import Staleness
from inferencepool.runtime.logs import log_event
from inferencepool.runtime.scraping._target import Target

__all__ = ["ScrapeLog"]

_LOG = logging.getLogger(__name__)
# Kinds of incomplete pages that are told, each once.
_MOST_TOLD: Final = 100


@final
class ScrapeLog:
    """Logs that metrics are stale or fresh again, and what pages lack. Its scraper's event loop guards it."""

    def __init__(self, staleness: Staleness | None) -> None:
        """Judge metrics by *staleness*; None for never stale, where each failure that follows no other is told."""
        self._threshold = staleness.threshold if staleness is not None else None
        self._told: set[tuple[str, tuple[str, ...]]] = set()
        self._is_slow = False

    def tell(self, target: Target) -> None:
        """Take notice of a scrape that is over."""
        if target.reason:
            self._tell_failure(target)
        elif target.told:
            target.told = False
            log_event(_LOG, logging.INFO, "metrics fresh again", endpoint=target.endpoint.id)
        if target.reader.missing or target.reader.wrong:
            self._tell_incomplete(target)

    def tell_interval(self, interval: float) -> None:
        """Take notice of the interval, which grows with the fleet: it may come to exceed the threshold."""
        is_slow = self._threshold is not None and interval >= self._threshold
        if is_slow and not self._is_slow:
            log_event(_LOG, logging.WARNING, "too many endpoints to keep fresh", interval=interval)
        self._is_slow = is_slow

    def tell_cost(self, target: Target, interval: float) -> None:
        """Take notice that the next scrape of *target* is postponed, to *interval* seconds behind the last."""
        if not target.told_cost:
            target.told_cost = True
            log_event(
                _LOG,
                logging.WARNING,
                "metrics page too costly",
                endpoint=target.endpoint.id,
                destination=target.endpoint.destination,
                cost=round(target.cost, 3),
                interval=round(interval, 3),
            )

    def _tell_failure(self, target: Target) -> None:
        # One that was never there may only be starting.
        is_gone = target.lost and target.succeeded is not None
        if not target.told and (is_gone or target.began - target.fresh_since >= (self._threshold or 0.0)):
            target.told = True
            log_event(
                _LOG,
                logging.WARNING,
                "metrics stale",
                endpoint=target.endpoint.id,
                destination=target.endpoint.destination,
                reason=target.reason,
            )

    def _tell_incomplete(self, target: Target) -> None:
        reader = target.reader
        lacks = (reader.engine.name, (*reader.missing, *reader.wrong))
        if lacks not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(lacks)
            log_event(
                _LOG,
                logging.WARNING,
                "metrics incomplete",
                endpoint=target.endpoint.id,
                engine=reader.engine.name,
                missing=list(reader.missing),
                wrong=list(reader.wrong.values()),
            )
