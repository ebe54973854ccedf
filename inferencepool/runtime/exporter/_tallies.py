"""What is counted of requests and of picks. Not thread-safe: the lock of `RequestMetrics` guards all of it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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

# What there is on a line beside names and values of labels: punctuation, an ending, a bucket's edge, and the number.
_FRAMING: Final = 64

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
    _room: Callable[[int], bool] = attrs.field(default=lambda _: True)
    _other: RequestTally | None = None
    decided: int = 0
    finished: int = 0
    errors: Counter[str] = attrs.field(factory=Counter)
    histograms: dict[tuple[Family, _Labels], Histogram] = attrs.field(factory=dict)

    def finish(self, exchanges: Sequence[Exchange]) -> None:
        """Count requests that are over."""
        for code in [code for each in exchanges if (code := each.error_code)]:
            tally = self if code in self.errors or self._has_room(names.REQUEST_ERROR_TOTAL) else self._rest
            tally.errors[code] += 1
        # Without a destination it was refused, and was never counted as begun.
        served = [each for each in exchanges if each.destination]
        self.finished += len(served)
        self.observe(names.REQUEST_SIZE, [each.request_bytes for each in served])
        self.observe(names.REQUEST_DURATION, [each.seconds for each in served if each.complete])
        if seen := [each for each in served if each.first_byte_after is not None]:
            self._finish_seen(seen)
        if told := [(each, each.usage) for each in served if each.usage is not None]:
            self._finish_told(told)

    def _finish_seen(self, exchanges: Sequence[Exchange]) -> None:
        """Count those whose response's body was seen."""
        sizes = [each.response_bytes for each in exchanges if each.complete and each.response_bytes is not None]
        self.observe(names.RESPONSE_SIZE, sizes)
        for streaming in (False, True):
            seconds = [
                each.first_byte_after
                for each in exchanges
                if each.streaming is streaming and each.first_byte_after is not None
            ]
            self.observe(names.FIRST_TOKEN, seconds, str(streaming).lower())

    def _finish_told(self, exchanges: Sequence[tuple[Exchange, Usage]]) -> None:
        """Count those whose response told its tokens."""
        self.observe(names.INPUT_TOKENS, [usage.prompt_tokens for _, usage in exchanges if usage.prompt_tokens])
        cached = [usage.cached_tokens for _, usage in exchanges if usage.cached_tokens is not None]
        self.observe(names.CACHED_TOKENS, cached)
        written = [(each, usage.output_tokens) for each, usage in exchanges if usage.output_tokens]
        self.observe(names.OUTPUT_TOKENS, [tokens for _, tokens in written])
        whole = [(each, tokens) for each, tokens in written if each.complete]
        self.observe(names.TIME_PER_TOKEN, [each.seconds / tokens for each, tokens in whole])
        streamed = [
            (each.seconds - each.first_byte_after) / (tokens - 1)
            for each, tokens in whole
            if each.streaming and tokens > 1 and each.first_byte_after is not None
        ]
        self.observe(names.TIME_PER_STREAMED_TOKEN, streamed)

    def observe(self, family: Family, values: Sequence[float], *labels: str) -> None:
        """Count *values*. A histogram exists from its first value on."""
        if values:
            histogram = self.histograms.get((family, labels))
            if histogram is None:
                if not self._has_room(family):
                    self._rest.observe(family, values, *labels)
                    return
                histogram = self.histograms[family, labels] = Histogram(family.buckets)
            histogram.observe(values)

    @property
    def _rest(self) -> RequestTally:
        """Where that is counted for which there is no room here."""
        return self._other if self._other is not None else self

    def _has_room(self, family: Family) -> bool:
        return self._other is None or self._room(bytes_of(family, self.labels))


def bytes_of(family: Family, labels: _Labels) -> int:
    """Tell how many bytes of the page a series of *family* takes at most, with the *labels* of requests."""
    # Escaping doubles a character at most. In a histogram there are two lines beside those of its buckets.
    lines = len(family.buckets) + 3 if family.buckets else 1
    named = sum(map(len, family.labels)) + sum(len(label.encode()) + label.count('"') for label in labels)
    return lines * (len(family.name) + named + _FRAMING)


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
        self._most_bytes = limits.request_bytes
        self._bytes = 0
        self._other = RequestTally((OTHER, OTHER, OTHER, OTHER))
        # The models that have a tally of their own.
        self._told: set[_Labels] = set()
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
        labels: _Labels = (model, target, self._fairness_ids.bound(traits.fairness_id), str(traits.priority))
        tally = self._by_labels.get(labels)
        if tally is None:
            tally = self._begin(labels)
            labels = tally.labels
        if labels[:-1] == traits[:-1]:
            # Only traits that have a tally of their own: those that clients make up are without number.
            self._by_traits[traits] = tally
        return tally

    def _begin(self, labels: _Labels) -> RequestTally:
        """Begin a tally for *labels*, where there is room for one."""
        models = labels[:2]
        # Others of a model, and models that are only claimed, leave half of the room to those that are known.
        is_first = models not in self._told
        tally = RequestTally(labels, lambda size: self._take(size, labels, is_first=is_first), self._other)
        size = bytes_of(names.REQUEST_TOTAL, labels) + bytes_of(names.REQUEST_RUNNING, labels)
        if labels == self._other.labels or len(self._by_labels) >= self._limit:
            tally = self._other
        elif self._take(size, labels, is_first=is_first):
            self._told.add(models)
        else:
            tally = self._other
        return self._by_labels.setdefault(tally.labels, tally)

    def _take(self, size: int, labels: _Labels, *, is_first: bool) -> bool:
        """Take *size* bytes of the page, if there are so many for these labels."""
        is_known = is_first and all(map(self.models.is_proven, labels[:2]))
        most = self._most_bytes if is_known else self._most_bytes // 2
        if self._bytes + size > most:
            return False
        self._bytes += size
        return True

    def __iter__(self) -> Iterator[RequestTally]:
        yield from self._by_labels.values()
        if self._other.labels not in self._by_labels:
            yield self._other


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
