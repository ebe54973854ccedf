"""What is counted of requests and of picks. Not thread-safe: the lock of `RequestMetrics` guards all of it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias, final

import attrs

from inferencepool.adapters.bodies import Usage
from inferencepool.adapters.extproc import Exchange, RequestTraits
from inferencepool.model import Fleet
from inferencepool.runtime.exporter import _families as names
from inferencepool.runtime.exporter._families import Family
from inferencepool.runtime.exporter._histogram import Histogram
from inferencepool.runtime.exporter._labels import OTHER, BoundedLabel
from inferencepool.runtime.exporter._limits import CardinalityLimits

__all__ = ["Pick", "PickTally", "RequestTallies", "RequestTally"]

Pick: TypeAlias = tuple[str, Fleet, int, float]
"""The model asked for, the endpoint's fleet and slot, and the seconds that it took."""

_Labels: TypeAlias = tuple[str, ...]

# Statuses by which a model server says that it served what was asked for.
_ANSWERED: Final = range(200, 300)

_SUCCESS: Final = "success"
_FAILURE: Final = ("failure", "", "", "")


@final
@attrs.define(eq=False)
class RequestTally:
    """
    What is counted of the requests that share all labels.

    Attributes:
        labels: The values of these labels.
        decided: How many got an endpoint.
        finished: How many of those are over.
        errors: How many ended with which error.
        histograms: Their distributions, by family and the labels it has beyond these.
    """

    labels: _Labels
    decided: int = 0
    finished: int = 0
    errors: Counter[str] = attrs.field(factory=Counter)
    histograms: dict[tuple[Family, _Labels], Histogram] = attrs.field(factory=dict)

    def finish(self, exchanges: Sequence[Exchange]) -> None:
        """Count requests that are over."""
        self.errors.update(code for each in exchanges if (code := each.error_code))
        # Without a destination it was refused, and was never counted as begun.
        served = [each for each in exchanges if each.destination]
        self.finished += len(served)
        self._observe(names.REQUEST_SIZE, [each.request_bytes for each in served])
        self._observe(names.REQUEST_DURATION, [each.seconds for each in served if each.complete])
        if seen := [each for each in served if each.first_byte_after is not None]:
            self._finish_seen(seen)
        if told := [(each, each.usage) for each in served if each.usage is not None]:
            self._finish_told(told)

    def _finish_seen(self, exchanges: Sequence[Exchange]) -> None:
        """Count those whose response's body was seen."""
        sizes = [each.response_bytes for each in exchanges if each.complete and each.response_bytes is not None]
        self._observe(names.RESPONSE_SIZE, sizes)
        for streaming in (False, True):
            seconds = [
                each.first_byte_after
                for each in exchanges
                if each.streaming is streaming and each.first_byte_after is not None
            ]
            self._observe(names.FIRST_TOKEN, seconds, str(streaming).lower())

    def _finish_told(self, exchanges: Sequence[tuple[Exchange, Usage]]) -> None:
        """Count those whose response told its tokens."""
        self._observe(names.INPUT_TOKENS, [usage.prompt_tokens for _, usage in exchanges if usage.prompt_tokens])
        cached = [usage.cached_tokens for _, usage in exchanges if usage.cached_tokens is not None]
        self._observe(names.CACHED_TOKENS, cached)
        written = [(each, usage.output_tokens) for each, usage in exchanges if usage.output_tokens]
        self._observe(names.OUTPUT_TOKENS, [tokens for _, tokens in written])
        whole = [(each, tokens) for each, tokens in written if each.complete]
        self._observe(names.TIME_PER_TOKEN, [each.seconds / tokens for each, tokens in whole])
        streamed = [
            (each.seconds - each.first_byte_after) / (tokens - 1)
            for each, tokens in whole
            if each.streaming and tokens > 1 and each.first_byte_after is not None
        ]
        self._observe(names.TIME_PER_STREAMED_TOKEN, streamed)

    def _observe(self, family: Family, values: Sequence[float], *labels: str) -> None:
        """Count *values*. A histogram exists from its first value on."""
        if values:
            histogram = self.histograms.get((family, labels))
            if histogram is None:
                histogram = self.histograms[family, labels] = Histogram(family.buckets)
            histogram.observe(values)


@final
class RequestTallies:
    """
    The tallies of all requests, as many as the limits allow.

    Attributes:
        models: Bounds the names of models.
    """

    def __init__(self, limits: CardinalityLimits) -> None:
        """Keep to *limits*."""
        # A client may claim any model; half of the places are for those that a model server answered for.
        self.models = BoundedLabel(limits.models, (limits.models + 1) // 2)
        self._fairness_ids = BoundedLabel(limits.fairness_ids)
        self._limit = limits.requests
        self._by_traits: dict[RequestTraits, RequestTally] = {}
        self._by_labels: dict[_Labels, RequestTally] = {}
        # Those who began under other labels than their own, and so end under these whatever is proven meanwhile.
        self._misnamed: dict[RequestTraits, deque[RequestTally]] = {}

    def of(self, traits: RequestTraits) -> RequestTally:
        """Give the tally of requests with these *traits*."""
        found = self._by_traits.get(traits)
        return found if found is not None else self._admit(traits)

    def begin(self, traits: RequestTraits, count: int) -> RequestTally:
        """Count *count* requests that got an endpoint."""
        tally = self.of(traits)
        tally.decided += count
        if tally.labels[:-1] != traits[:-1]:
            self._misnamed.setdefault(traits, deque()).extend([tally] * count)
        return tally

    def finish(self, traits: RequestTraits, exchanges: Sequence[Exchange]) -> None:
        """Count requests that are over; what a model server answered for is a model."""
        misnamed = self._misnamed.get(traits)
        if misnamed:
            exchanges = self._finish_misnamed(misnamed, exchanges)
            if not misnamed:
                del self._misnamed[traits]
        if exchanges:
            self.of(traits).finish(exchanges)

    def prove(self, exchanges: Iterable[Exchange]) -> None:
        """Take note of the models that model servers answered for."""
        answered = {each.traits for each in exchanges if each.destination and each.status in _ANSWERED}
        for model in {name for traits in answered for name in traits[:2]}:
            self.models.prove(model)

    @staticmethod
    def _finish_misnamed(misnamed: deque[RequestTally], exchanges: Sequence[Exchange]) -> list[Exchange]:
        """Count those that began under other labels; gives the others."""
        rest = []
        for each in exchanges:
            if each.destination and misnamed:
                misnamed.popleft().finish([each])
            else:
                rest.append(each)
        return rest

    def _admit(self, traits: RequestTraits) -> RequestTally:
        model, target = self.models.bound(traits.model), self.models.bound(traits.target_model)
        labels = (model, target, self._fairness_ids.bound(traits.fairness_id), str(traits.priority))
        tally = self._by_labels.get(labels)
        if tally is None:
            if len(self._by_labels) >= self._limit:
                labels = (OTHER, OTHER, OTHER, OTHER)
            tally = self._by_labels.setdefault(labels, RequestTally(labels))
        if labels[:-1] == traits[:-1]:
            # Only traits that have a tally of their own: those that clients make up are without number.
            self._by_traits[traits] = tally
        return tally

    def __iter__(self) -> Iterator[RequestTally]:
        return iter(self._by_labels.values())


@final
class PickTally:
    """
    What is counted of picks.

    Attributes:
        attempts: How many picks there were by result, model and endpoint.
        durations: How long those took that found an endpoint.
    """

    def __init__(self, models: BoundedLabel, limit: int) -> None:
        """Tell models as *models* does, and keep *limit* combinations of model and endpoint."""
        self.attempts: dict[_Labels, int] = {}
        self.durations = Histogram(names.SCHEDULER_DURATION.buckets)
        self._models = models
        self._limit = limit

    def succeed(self, picks: Sequence[Pick]) -> None:
        """Count picks that found an endpoint."""
        self.durations.observe([seconds for _, _, _, seconds in picks])
        # Fleets are told apart as objects; the list keeps them alive.
        fleets = {id(fleet): fleet for _, fleet, _, _ in picks}
        for (model, key, slot), count in Counter((model, id(fleet), slot) for model, fleet, slot, _ in picks).items():
            endpoint = fleets[key].at(slot)
            labels = (self._models.bound(model), endpoint.pod_name, endpoint.namespace, str(endpoint.port))
            self._add((_SUCCESS, *labels), count)

    def fail(self, models: Sequence[str]) -> None:
        """Count picks that found none."""
        result, *endpoint = _FAILURE
        for model, count in Counter(models).items():
            self._add((result, self._models.bound(model), *endpoint), count)

    def _add(self, labels: _Labels, count: int) -> None:
        # Put in anew, so that the first one is the one that got nothing for the longest time.
        self.attempts[labels] = self.attempts.pop(labels, 0) + count
        if len(self.attempts) > self._limit:
            del self.attempts[next(iter(self.attempts))]
