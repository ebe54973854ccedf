"""Strategies that depend on the request or on what is in flight: the fast path decides as the scan does."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import NoEndpointsError
from inferencepool.model import (
    Candidates,
    Endpoint,
    EndpointMetrics,
    Fleet,
    InferenceRequest,
    Snapshot,
    to_endpoint_set,
)
from inferencepool.plugins import (
    CONTEXT_LENGTH_LABEL,
    ActiveRequestScorer,
    ApproxPrefixCacheProducer,
    ContextLengthAware,
    EncodedEndpoint,
    InflightLoadProducer,
    KvCacheUtilizationScorer,
    LoadBound,
    NoHitLruScorer,
    PrefixCacheAffinityFilter,
    PrefixCacheScorer,
    QueueScorer,
    SessionAffinityFilter,
    SessionAffinityScorer,
    SessionBindings,
    SessionHome,
    TokenLoadScorer,
    WarmUpFilter,
)
from inferencepool.scheduling import ONE, PickResult, Scheduler, SchedulingProfile, Scorer, WeightedScorer
from inferencepool.testing import ManualClock
from tests.strategies.fleets import Spy, endpoint, metrics, snapshot_of

LABELS: list[dict[str, str]] = [{}, {CONTEXT_LENGTH_LABEL: "0-150"}, {CONTEXT_LENGTH_LABEL: "x"}]


class Indifferent:
    """A plain scorer that gives everybody 0: it changes no score, and makes the scheduler scan."""

    def score(self, _request: InferenceRequest, candidates: Candidates) -> Sequence[float]:
        """Give 0."""
        return [0.0] * len(candidates)


def strategies(rng: Random, clock: ManualClock) -> tuple[list[Any], list[Any]]:
    """Random filters and scorers of all kinds that share their producers."""
    prefix = ApproxPrefixCacheProducer(
        lru_capacity_per_server=rng.choice([8, 31_250]),
        insert_at=rng.choice(["pick", "response"]),
        compatibility=rng.random() < 0.2,
        fingerprints=False,
    )
    load = InflightLoadProducer(rng.choice([prefix, None]), add_estimated_output_tokens=rng.random() < 0.5)
    homes: list[SessionHome] = [EncodedEndpoint(), SessionBindings(ttl=3, capacity=4, clock=clock)]
    home = rng.choice(homes)
    bound = rng.choice([None, LoadBound(1, 1), LoadBound(2, 3)])
    context = ContextLengthAware(enable_filtering=True)
    filters = [
        SessionAffinityFilter(home, bound),
        PrefixCacheAffinityFilter(
            prefix,
            load,
            affinity_threshold=rng.choice([0.2, 0.8]),
            exploration_probability=rng.choice([0, 0.3]),
            max_ttft_penalty_ms=rng.choice([0, 20]),
        ),
        WarmUpFilter(duration=2, share=rng.choice([0.5, 5]), clock=clock),
        context,
    ]
    scorers: list[Scorer] = [
        QueueScorer(),
        KvCacheUtilizationScorer(),
        PrefixCacheScorer(prefix, rng.choice([0, 0.4]), 100, bound),
        NoHitLruScorer(prefix, rng.choice([2, 1024])),
        SessionAffinityScorer(home, bound),
        ActiveRequestScorer(rng.choice([0, 2]), rng.choice([1.0, 0.5])),
        TokenLoadScorer(load, rng.choice([300, 4_194_304])),
        context,
    ]
    chosen = rng.sample(scorers, rng.randrange(1, len(scorers) + 1))
    weighted = [WeightedScorer(scorer, rng.choice([0.3, 1, 2, 3])) for scorer in chosen]
    return rng.sample(filters, rng.choice([0, 0, 1, 2])), weighted


@attrs.define(eq=False, slots=False)
class Twin:
    """One scheduler with strategies of its own."""

    seed: int
    scanning: bool

    def __attrs_post_init__(self) -> None:
        self.clock = ManualClock()
        self.spy = Spy()
        rng = Random(self.seed)
        filters, scorers = strategies(rng, self.clock)
        profile = SchedulingProfile(
            filters=filters,
            scorers=[*scorers, *([WeightedScorer(Indifferent())] if self.scanning else [])],
            picker=self.spy,
            max_num_of_endpoints=rng.choice([1, 1, 3]),
        )
        self.scheduler = Scheduler(profile, rng=Random(self.seed), clock=self.clock)
        self.held: list[PickResult] = []

    def pick(self, request: InferenceRequest, snapshot: Snapshot, departed: int, subset: list[str] | None) -> object:
        """Pick; give what can be compared, which is what an explanation made later must tell as well."""
        copy = InferenceRequest(model=request.model, prompt=request.prompt, headers=request.headers)
        try:
            result = self.scheduler.schedule(copy, snapshot, departed=departed, subset=subset)
        except NoEndpointsError as error:
            return str(error)
        self.held.append(result)
        explanation = result.explain()
        assert explanation.exact
        assert round(explanation.picked.total * ONE) == self.spy.best
        assert explanation.picked.endpoint == result.endpoint
        return (result.slot, result.fallback_slots, self.spy.winners, self.spy.best, dict(result.response_headers))


@attrs.define(eq=False, slots=False)
class World:
    """What happens to both: requests, and a fleet whose endpoints come and go, some into slots that others had."""

    rng: Random
    size: int

    def __attrs_post_init__(self) -> None:
        self.births = list(range(1, self.size + 1))
        self.generation = 0
        self.departed: set[int] = set()
        self.texts = [self.rng.randbytes(600) for _ in range(3)]
        self.tokens: dict[str, str] = {}
        self.publish()

    def publish(self) -> None:
        """A new snapshot; now and then of other endpoints."""
        rng = self.rng
        changed = self.departed | {slot for slot in range(self.size) if rng.random() < rng.choice([0, 0, 0.3])}
        for slot in changed:
            self.births[slot] = max(self.births) + 1
        if changed or not self.generation:
            endpoints = [
                attrs.evolve(
                    endpoint(slot),
                    labels=rng.choice(
                        [{}, {"llm-d.ai/context-length-range": "0-150"}, {"llm-d.ai/context-length-range": "x"}]
                    ),
                )
                for slot in range(self.size)
            ]
            self.fleet = Fleet(tuple(endpoints), tuple(self.births), to_endpoint_set(range(self.size)))
        self.generation += 1
        self.departed.clear()
        endpoints_now: list[Endpoint | None] = list(self.fleet.endpoints)
        loads: list[EndpointMetrics] = [metrics(rng, rng.choice([1, 4]), coarse=True) for _ in range(self.size)]
        loads = [attrs.evolve(load, cache_num_blocks=rng.choice([None, 4, 500])) for load in loads]
        self.snapshot = snapshot_of(endpoints_now, loads, generation=self.generation, fleet=self.fleet)

    def request(self) -> InferenceRequest:
        """A prompt that may begin as others did, of a session that may have been there before."""
        rng = self.rng
        text = rng.choice(self.texts)[: rng.choice([0, 64, 300, 600])] + rng.randbytes(rng.choice([0, 10, 300]))
        session = rng.choice(["", "a", "b", "c", "d", "e", "f"])
        headers = {"x-session-id": session, "x-session-token": self.tokens.get(session, "?")} if session else {}
        return InferenceRequest(model=rng.choice(["chat", "sql"]), prompt=text, headers=headers)


@given(seed=st.integers(0, 2**32), size=st.sampled_from([1, 2, 5, 20, 70]))
def test_the_fast_path_decides_as_the_scan_does(seed: int, size: int) -> None:
    """Winners, ties, fallbacks, scores, session tokens and explanations, through departures and slots used again."""
    rng = Random(seed)
    world = World(rng, size)
    ranked, scanned = Twin(seed, scanning=False), Twin(seed, scanning=True)
    for _ in range(30):
        request = world.request()
        subset = (
            None
            if rng.random() < 0.7
            else [endpoint(slot).destination for slot in rng.sample(range(size), min(3, size))]
        )
        departed = to_endpoint_set(world.departed)
        found = ranked.pick(request, world.snapshot, departed, subset)
        assert found == scanned.pick(request, world.snapshot, departed, subset)
        if isinstance(found, tuple):
            world.tokens[request.headers.get("x-session-id", "")] = found[4].get("x-session-token", "?")
        act, number, chance = rng.random(), rng.random(), rng.random()
        for twin in (ranked, scanned):
            twin.clock.advance(0.1)
            if twin.held and act < 0.3:
                twin.held[int(number * len(twin.held))].started()
            elif twin.held and act < 0.8:
                twin.held.pop(int(number * len(twin.held))).release()
        if chance < 0.1:
            world.departed.add(rng.randrange(size))
        elif chance < 0.2:
            world.publish()
    for twin in (ranked, scanned):
        for result in twin.held:
            result.release()
        assert not any(map(sum, twin.scheduler._fleet.reservations.amounts))
