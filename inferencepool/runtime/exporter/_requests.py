"""`RequestMetrics`: counts what becomes of picks and of requests."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from threading import Lock
from typing import Final, TypeAlias, TypeVar, final

from inferencepool.adapters.extproc import Decision, Exchange, RequestTraits
from inferencepool.errors import InferencePoolError
from inferencepool.model import InferenceRequest
from inferencepool.runtime.exporter import _families as names
from inferencepool.runtime.exporter._families import Family
from inferencepool.runtime.exporter._histogram import Histogram
from inferencepool.runtime.exporter._limits import CardinalityLimits
from inferencepool.runtime.exporter._prometheus import Labels, Metric, histograms, numbers
from inferencepool.runtime.exporter._tallies import Pick, PickTally, RequestTallies
from inferencepool.scheduling import PickResult

__all__ = ["RequestMetrics"]

_T = TypeVar("_T")
_Decided: TypeAlias = tuple[RequestTraits, str]
"""The traits of a request that got an endpoint, and the rewrite that decided about its model."""

# So many events are counted at a time: in a list each costs a third of what it costs alone. More of them would save
# little, and keep requests waiting while they are counted.
_BATCH: Final = 128


@final
class RequestMetrics:
    """
    Counts what becomes of picks and of requests.

    It is an observer, for an `EndpointPicker`, an `ExternalProcessor` or both, and a collector, for a
    ``CollectorRegistry`` of prometheus-client. Nothing in it is global: there may be any number.

    Thread-safe. An event is put on a list, which takes no lock, and counted with hundreds of others: by the thread that
    finds so many there, or by the one that reads. One lock guards the counts; only readers wait for it.

    Attributes:
        keeps_results: False; see `inferencepool.picker.Observer`.
    """

    keeps_results: Final = False

    def __init__(self, limits: CardinalityLimits | None = None) -> None:
        """Count, and keep to *limits*."""
        limits = limits if limits is not None else CardinalityLimits()
        self._lock = Lock()
        self._requests = RequestTallies(limits)
        self._attempts = PickTally(self._requests.models, limits.picks)
        self._rewrites: Counter[tuple[str, ...]] = Counter()
        self._processing = Histogram(names.REQUEST_PROCESSING.buckets)
        self._streams = Histogram(names.STREAM_DURATION.buckets)
        self._picks: list[Pick] = []
        self._refusals: list[str] = []
        # On one list, so that whoever takes some of it has the decision of each request that is over.
        self._requests_told: list[_Decided | Exchange] = []

    def exempt_models(self, models: Callable[[], Collection[str]]) -> None:
        """Tell *models* by their names, whatever the limit; asked for each name that has no count of its own."""
        self._requests.models.exempt = models

    def picked(self, result: PickResult, /) -> None:
        """Count a pick."""
        picks = self._picks
        picks.append((result.request.model, result.snapshot.fleet, result.slot, result.seconds))
        if len(picks) >= _BATCH:
            self._count()

    def refused(self, request: InferenceRequest, _: InferencePoolError, /) -> None:
        """Count a pick that found nothing."""
        refusals = self._refusals
        refusals.append(request.model)
        if len(refusals) >= _BATCH:
            self._count()

    def decided(self, decision: Decision, /) -> None:
        """Count a request that got an endpoint."""
        told = self._requests_told
        told.append((decision.traits, decision.rewrite))
        if len(told) >= _BATCH:
            self._count()

    def finished(self, exchange: Exchange, /) -> None:
        """Count a request that is over."""
        told = self._requests_told
        told.append(exchange)
        # An error holds the frames that it went through, and so the request's body: it is not kept.
        if len(told) >= _BATCH or exchange.error is not None:
            self._count()

    def collect(self) -> list[Metric]:
        """Give all metrics, in a time that is proportional to their number."""
        with self._lock:
            self._count_all()
            return list(self._collect())

    def _count(self) -> None:
        """Count what waits, unless somebody does so already."""
        if self._lock.acquire(blocking=False):
            try:
                self._count_all()
            finally:
                self._lock.release()

    def _count_all(self) -> None:
        told = _take(self._requests_told)
        exchanges = [each for each in told if isinstance(each, Exchange)]
        self._requests.prove(exchanges)
        for (traits, rewrite), count in Counter(each for each in told if type(each) is tuple).items():
            tally = self._requests.begin(traits, count)
            if rewrite:
                self._rewrites[rewrite, *tally.labels[:2]] += count
        self._finish(exchanges)
        self._attempts.succeed(_take(self._picks))
        self._attempts.fail(_take(self._refusals))

    def _finish(self, exchanges: Sequence[Exchange]) -> None:
        self._streams.observe([each.seconds for each in exchanges])
        self._processing.observe([each.answered_after for each in exchanges if each.answered_after is not None])
        by_traits: defaultdict[RequestTraits, list[Exchange]] = defaultdict(list)
        for each in exchanges:
            by_traits[each.traits].append(each)
        for traits, group in by_traits.items():
            self._requests.finish(traits, group)

    def _collect(self) -> Iterator[Metric]:
        tallies = list(self._requests)
        begun = [tally for tally in tallies if tally.decided]
        yield numbers(names.REQUEST_TOTAL, ((tally.labels, tally.decided) for tally in begun))
        yield numbers(names.REQUEST_RUNNING, ((tally.labels, tally.decided - tally.finished) for tally in begun))
        errors = (((*tally.labels, code), count) for tally in tallies for code, count in tally.errors.items())
        yield numbers(names.REQUEST_ERROR_TOTAL, errors)
        by_family: defaultdict[Family, list[tuple[Labels, Histogram]]] = defaultdict(list)
        for tally in tallies:
            for (family, more), histogram in tally.histograms.items():
                by_family[family].append(((*tally.labels, *more), histogram))
        for family, found in by_family.items():
            yield histograms(family, found)
        yield histograms(names.REQUEST_PROCESSING, [((), self._processing)])
        yield histograms(names.STREAM_DURATION, [((), self._streams)])
        yield histograms(names.SCHEDULER_DURATION, [((), self._attempts.durations)])
        yield numbers(names.SCHEDULER_ATTEMPTS, self._attempts.attempts.items())
        yield numbers(names.REWRITE_DECISIONS, self._rewrites.items())


def _take(events: list[_T]) -> list[_T]:
    """Take all events off a list to which others go on adding."""
    taken = events[:]
    del events[: len(taken)]
    return taken
