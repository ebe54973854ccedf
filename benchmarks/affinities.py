"""Picks of long prompts whose beginning is cached: lookup, pick, insert and reservation through the public API."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, cycle
from random import Random
from statistics import median
from typing import Any

import attrs

from benchmarks.fleets import make_registry
from benchmarks.measure import Row, ratio_to_choice, time_of
from inferencepool import EndpointPicker, InferenceRequest
from inferencepool.model import Snapshot
from inferencepool.plugins import (
    ApproxPrefixCacheProducer,
    ConsistentHashPicker,
    EncodedEndpoint,
    SessionAffinityScorer,
    SessionBindings,
    SessionHome,
    default_profile,
)
from inferencepool.scheduling import PickResult, SchedulingProfile

__all__ = ["measure_affinities", "measure_prefix_picks", "measure_token_picks"]

SIZES = (10, 1_000, 10_000)
_LIMITS = {10: 110, 1_000: 180, 10_000: 320}
_SYSTEM, _PROMPT = 2048, 8192
_FLEET, _MOST_TOKENS = 100, 1.6

# Picks before the measurement: enough to fill the endpoints of the smallest fleet, so that they have to forget.
_WARM_UP = 25_000


@attrs.define(eq=False, slots=False)
class Workload:
    """
    Prompts of 8 KiB for a picker by the default profile, whose endpoints all hold the system prompt.

    Of each prompt *cached* bytes were part of an earlier one, so that some endpoint holds them; what follows is new.
    """

    size: int
    cached: int
    _ready: Iterator[InferenceRequest] = attrs.field(factory=lambda: iter(()))
    _requests: list[InferenceRequest] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        rng, profile = Random(self.size), default_profile()
        self._pick = EndpointPicker(make_registry(self.size), profile=profile, rng=rng).pick
        (producer,) = (part for part in profile.parts_with("match") if isinstance(part, ApproxPrefixCacheProducer))
        system = rng.randbytes(_SYSTEM)
        for slot in range(self.size):
            producer.index.insert(producer.index.match(system, ("chat", "")), slot)
        self._earlier = cycle([system + rng.randbytes(self.cached - _SYSTEM) for _ in range(64)])
        self._number = count()

    def prepare(self, requests: int) -> None:
        """Put the next requests together, and take the last ones apart: neither is the picker's work."""
        tail = (_PROMPT - self.cached) // 16
        self._requests = [
            InferenceRequest(model="chat", prompt=next(self._earlier) + b"%016d" % next(self._number) * tail)
            for _ in range(requests)
        ]
        self._ready = iter(self._requests)

    def step(self) -> None:
        """Pick, which looks the prompt up, reserves and inserts it; then release."""
        self._pick(next(self._ready)).release()


def measure_prefix_picks() -> Iterator[Row]:
    """Measure lookup, pick, reservation and insertion together."""
    for what, cached in (("7 KiB of 8 cached", 7168), ("2 KiB of 8 cached", _SYSTEM)):
        for size in SIZES:
            work = Workload(size, cached)
            for _ in range(_WARM_UP // 100):
                work.prepare(100)
                for _ in range(100):
                    work.step()
            name = f"pick with prefix, {what}, n={size}, released at once"
            yield ratio_to_choice(name, work.step, _LIMITS[size], prepare=work.prepare)


def measure_token_picks() -> Iterator[Row]:
    """
    Measure picks of 8,192 token ids, given as a list, against those of the same bytes given as text.

    A list is packed when its request is built, so that is measured too, as the text's request is.
    """
    ids = Random(5).choices(range(150_000), k=8_192)
    text = array("I", ids).tobytes()
    picker = EndpointPicker(make_registry(_FLEET))
    requests = InferenceRequest(prompt=text), InferenceRequest(prompt_tokens=ids)
    steps = [partial(_pick_and_release, picker, request) for request in requests]
    for step in steps:
        time_of(step, 200)
    pairs = [tuple(time_of(step, 200) for step in steps) for _ in range(15)]
    ratio = median(tokens / plain for plain, tokens in pairs)
    yield Row(
        f"pick with 8,192 token ids as a list, n={_FLEET}",
        f"{median(tokens for _, tokens in pairs) / 1000:.1f} µs",
        f"the same as text {median(plain for plain, _ in pairs) / 1000:.1f} µs",
        f"{ratio:.2f}",
        f"<= {_MOST_TOKENS:g}",
        ratio <= _MOST_TOKENS,
    )
    built = median(time_of(partial(InferenceRequest, prompt_tokens=ids), 200) for _ in range(15))
    plain = median(time_of(partial(InferenceRequest, prompt=text), 200) for _ in range(15))
    yield Row(
        "build a request with 8,192 token ids as a list",
        f"{built / 1000:.1f} µs",
        f"with text {plain / 1000:.2f} µs",
        f"{built / plain:.0f}",
    )


def _pick_and_release(picker: EndpointPicker, request: InferenceRequest) -> None:
    picker.pick(request).release()


# Sessions that take turns.
_SESSIONS = 1_000


def measure_affinities() -> Iterator[Row]:
    """Measure what session affinity and consistent hashing add to a pick: their own calls, on a fleet at rest."""
    limit = 10.0
    for size in (10, 100, 1_000, 10_000):
        registry = make_registry(size)
        snapshot = registry.snapshot()
        bindings, hashing = SessionBindings(), ConsistentHashPicker()
        tokens = EncodedEndpoint()
        ids = [f"session-{number}" for number in range(_SESSIONS)]
        requests = [InferenceRequest(headers={"x-session-id": name}) for name in ids]
        results = [EndpointPicker(registry, profile=_session_profile(bindings)).pick(request) for request in requests]
        tokened = [InferenceRequest(headers=tokens.response_headers(result)) for result in results]
        shown: Any = IdleFleet(snapshot.fleet.members, snapshot)
        for request in requests:
            hashing.choose(request, shown, 1)
        by_token = SessionAffinityScorer(tokens)
        yield ratio_to_choice(f"session by id, own calls, n={size}", _turns(bindings, results, shown), limit)
        yield ratio_to_choice(f"session by token, own call, n={size}", _asks(by_token, tokened, shown), limit)
        name = f"consistent hashing with bounded load, own call, n={size}"
        yield ratio_to_choice(name, _chooses(hashing, requests, shown), limit)


def _session_profile(home: SessionHome) -> SchedulingProfile:
    return SchedulingProfile(scorers=[SessionAffinityScorer(home)])


@attrs.define(eq=False)
class IdleFleet:
    """An idle fleet, as a picker sees it."""

    members: int
    snapshot: Snapshot
    rng: Random = attrs.field(factory=Random)

    def in_flight(self, _: int) -> int:
        """Nothing is in flight."""
        return 0

    def total_in_flight(self) -> int:
        """Nothing is in flight."""
        return 0


def _turns(home: SessionBindings, results: list[PickResult], shown: Any) -> Callable[[], object]:
    scorer, following = SessionAffinityScorer(home), cycle(results).__next__

    def step() -> None:
        result = following()
        result.request.produced = result.produced = {}
        scorer.affinities_among(result.request, shown)
        home.picked(result)

    return step


def _asks(scorer: SessionAffinityScorer, requests: list[InferenceRequest], shown: Any) -> Callable[[], object]:
    following = cycle(requests).__next__
    return lambda: scorer.affinities_among(following(), shown)


def _chooses(picker: ConsistentHashPicker, requests: list[InferenceRequest], shown: Any) -> Callable[[], object]:
    following = cycle(requests).__next__
    return lambda: picker.choose(following(), shown, 1)
