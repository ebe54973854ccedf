"""Random fleets, profiles and requests for the pick loop, and what a pick must answer by the definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

import attrs

from inferencepool.model import (
    Candidates,
    Endpoint,
    EndpointMetrics,
    EndpointSet,
    Fleet,
    InferenceRequest,
    Snapshot,
    to_endpoint_set,
)
from inferencepool.plugins import (
    KvCacheUtilizationScorer,
    LoadAwareScorer,
    LoraAffinityScorer,
    QueueScorer,
    RunningRequestsSizeScorer,
)
from inferencepool.scheduling import (
    ONE,
    CandidateSet,
    Demand,
    LinearLoad,
    MaxScorePicker,
    Scorer,
    Standing,
    WeightedScorer,
)

ADAPTERS = ("chat", "sql", "law", "math")


def endpoint(slot: int) -> Endpoint:
    """An endpoint whose address tells its slot; two of a pod, and every third an IPv6 one."""
    pod = slot // 2
    address = f"fd00::{pod + 1:x}" if pod % 3 == 2 else f"10.{pod >> 16}.{pod >> 8 & 255}.{pod & 255}"
    labels = {"zone": "abc"[slot % 3]}
    return Endpoint(
        namespace="default", pod_name=f"pod-{pod}", address=address, port=8000 + slot % 2, rank=slot % 2, labels=labels
    )


def metrics(rng: Random, spread: int, *, coarse: bool) -> EndpointMetrics:
    """Random load; *spread* 1 makes all queues equal, *coarse* makes ties likely."""
    knows_lora = rng.random() < 1 / 3
    names = ADAPTERS[:-1]
    return EndpointMetrics(
        waiting_queue_size=rng.randrange(spread),
        running_requests=rng.randrange(spread),
        kv_cache_usage=rng.choice([0.0, 0.5]) if coarse else rng.random(),
        active_models=frozenset(rng.sample(names, rng.randrange(3))) if knows_lora else frozenset(),
        waiting_models=frozenset(rng.sample(names, rng.randrange(2))) if knows_lora else frozenset(),
        max_active_models=rng.choice([2, 4]) if knows_lora else 0,
    )


def snapshot_of(
    endpoints: Sequence[Endpoint | None],
    loads: Sequence[EndpointMetrics],
    *,
    generation: int = 1,
    fleet: Fleet | None = None,
    observed_at: Sequence[float] = (),
    avoided: EndpointSet = 0,
) -> Snapshot:
    """Build a snapshot from endpoints and metrics by slot."""
    slots = [slot for slot, item in enumerate(endpoints) if item is not None]
    if fleet is None:
        fleet = Fleet(tuple(endpoints), tuple(range(len(endpoints))), to_endpoint_set(slots))
    return Snapshot(
        generation=generation,
        fleet=fleet,
        metrics=loads,
        waiting_queue_size=[load.waiting_queue_size for load in loads],
        running_requests=[load.running_requests for load in loads],
        kv_cache_usage=[load.kv_cache_usage for load in loads],
        observed_at=observed_at or [float("-inf")] * len(loads),
        avoided=avoided,
    )


@attrs.define
class PrefixLike:
    """A sparse scorer with nested and overlapping sets, as a prefix cache gives them; told what to give."""

    sets: Sequence[tuple[float, EndpointSet]] = ()

    def affinities(self, _request: InferenceRequest, _snapshot: Snapshot) -> Sequence[tuple[float, EndpointSet]]:
        """Give what was set."""
        return self.sets


@attrs.define(eq=False)
class Work:
    """A load scorer with a measure of its own; told how much the next request is."""

    capacity: int
    until_started: bool
    demand: Demand = attrs.field(factory=lambda: Demand(0))

    def amounts(self, _request: InferenceRequest, _snapshot: Snapshot) -> Demand:
        """Give what was set."""
        return self.demand

    def score_load(self, candidates: Candidates) -> LinearLoad:
        """Fall from 1 by the share of the capacity that is in flight."""
        return LinearLoad([0] * len(candidates), self.capacity, 1 / self.capacity, of=self)


@attrs.define(eq=False)
class FewInFlight:
    """Scores by picks in flight, relative to the candidate with the most."""

    def affinities_among(
        self, _request: InferenceRequest, candidates: CandidateSet
    ) -> Sequence[tuple[float, EndpointSet]]:
        """Give one set for each count."""
        by_count = candidates.by_in_flight()
        most = by_count[-1][0] or 1
        return [((most - count) / most, members) for count, members in by_count]


@attrs.define(eq=False)
class Chosen:
    """A set filter; told whom to keep."""

    is_preference: bool
    kept: EndpointSet = 0

    def narrow(self, _request: InferenceRequest, _candidates: CandidateSet) -> EndpointSet:
        """Keep what was set."""
        return self.kept


@attrs.define(eq=False)
class Counts:
    """What is pending and in flight, by slot."""

    pending: list[int]
    in_flight: list[int]
    amounts: dict[Work, list[int]]


def random_demand(rng: Random, size: int) -> Demand:
    """An amount, and less of it for some."""
    amount = rng.choice([0, 3, rng.randrange(1000)])
    sets = nested_sets(rng, size) if rng.random() < 0.5 else []
    return Demand(amount, [(rng.randrange(amount + 3), members) for _, members in sets])


def nested_sets(rng: Random, size: int) -> list[tuple[float, EndpointSet]]:
    """Sets that shrink as their score grows, sometimes with a stranger among them."""
    inside = [slot for slot in range(size) if rng.random() < rng.choice([0.02, 0.5, 1])]
    sets = []
    for depth in sorted(rng.sample(range(65), rng.randrange(4))):
        sets.append((depth / 64, to_endpoint_set(inside)))
        inside = rng.sample(inside, len(inside) // rng.choice([1, 2, 5]))
    rng.shuffle(sets)
    return sets


def scorers(rng: Random, prefix: PrefixLike) -> list[WeightedScorer]:
    """A random mix of scorers that ignore the request and sparse ones."""
    pool: list[Scorer] = [
        QueueScorer(),
        RunningRequestsSizeScorer(),
        KvCacheUtilizationScorer(),
        LoadAwareScorer(threshold=rng.choice([1, 4, 128])),
        LoraAffinityScorer(idle_adapters=False),
        prefix,
        Work(rng.choice([1000, 1 << 22]), rng.random() < 0.5),
        Work(77, until_started=False),
        FewInFlight(),
    ]
    chosen = rng.sample(pool, rng.randrange(len(pool) + 1))
    return [WeightedScorer(scorer, rng.choice([0, 0.3, 1, 2, 3])) for scorer in chosen]


@attrs.define
class Spy:
    """
    Picks like the max-score picker, and remembers the winners and the best score.

    Winners are taken in turn, so that picks do not depend on how they are drawn; a draw must give one of them.
    """

    winners: EndpointSet = 0
    best: float = 0.0
    _picker: MaxScorePicker = attrs.field(factory=lambda: MaxScorePicker(tie_break="rotation"))

    def choose(self, request: InferenceRequest, standing: Standing, count: int) -> Sequence[int]:
        """Look, then choose."""
        self.winners = standing.best()
        before = standing.rng.getstate()
        assert self.winners >> standing.any_best() & 1
        standing.rng.setstate(before)
        chosen = self._picker.choose(request, standing, count)
        self.best = standing.score(chosen[0])
        return chosen


def totals(
    profile_scorers: Sequence[WeightedScorer],
    request: InferenceRequest,
    snapshot: Snapshot,
    members: Sequence[int],
    counts: Counts,
    alive: Sequence[int] = (),
) -> dict[int, int]:
    """
    Score every member with every scorer, by the formulas, in whole units.

    The loads' extremes are the members'; of the counts in flight, those of the members that are *alive* count.
    """
    scores = dict.fromkeys(members, 0)
    for item in profile_scorers:
        for slot, score in _whole_scores(item, request, snapshot, members, counts, alive or members).items():
            scores[slot] += score
    return scores


def _whole_scores(
    item: WeightedScorer,
    request: InferenceRequest,
    snapshot: Snapshot,
    members: Sequence[int],
    counts: Counts,
    alive: Sequence[int],
) -> dict[int, int]:
    """Score every member with one scorer."""
    scale, pending = item.weight * int(ONE), counts.pending
    match item.scorer:
        case QueueScorer(pending_span=span):
            return _relative(snapshot.waiting_queue_size, members, pending, scale, span)
        case RunningRequestsSizeScorer(pending_span=span):
            return _relative(snapshot.running_requests, members, pending, scale, span)
        case LoadAwareScorer(threshold=limit):
            loads = {s: min(snapshot.waiting_queue_size[s], limit) for s in members}
            return _linear(loads, limit, 0.5 / limit * scale, pending)
        case KvCacheUtilizationScorer():
            return {s: round((1 - snapshot.kv_cache_usage[s]) * scale) for s in members}
        case LoraAffinityScorer():
            return {s: round(_lora_score(request.model, snapshot.metrics[s]) * scale) for s in members}
        case _:
            return _whole_scores_by_request(item, members, counts, alive)


def _whole_scores_by_request(
    item: WeightedScorer, members: Sequence[int], counts: Counts, alive: Sequence[int]
) -> dict[int, int]:
    """Score every member with one scorer that looks at the request or at what is in flight."""
    scale = item.weight * int(ONE)
    match item.scorer:
        case PrefixLike(sets=sets):
            return {s: round(max((v for v, within in sets if within >> s & 1), default=0.0) * scale) for s in members}
        case Work(capacity=limit, demand=demand) as work:
            held, unit = counts.amounts[work], 1 / limit * scale
            return {s: round(limit * unit) - round(held[s] * unit) - round(demand.at(s) * unit) for s in members}
        case FewInFlight():
            most = max(counts.in_flight[s] for s in alive) or 1
            return {s: round((most - counts.in_flight[s]) / most * scale) if s in alive else 0 for s in members}
        case _:
            message = f"no formula for {item.name}"
            raise AssertionError(message)


def _relative(
    column: Sequence[int], members: Sequence[int], pending: Sequence[int], scale: float, span: int
) -> dict[int, int]:
    low, high = min(column[s] for s in members), max(column[s] for s in members)
    zero, step = (high, 1 / (high - low)) if high > low else (high + 1, 1.0)
    scores = _linear({slot: column[slot] for slot in members}, zero, step * scale, [0] * len(pending))
    unit = max(1, round(1 / max(span, high - low) * scale)) if scale else 0
    return {slot: score - pending[slot] * unit for slot, score in scores.items()}


def _linear(loads: Mapping[int, int], zero: int, step: float, pending: Sequence[int]) -> dict[int, int]:
    """Round steps that are nearly whole, and the score of each load where they are not."""
    unit = max(1, round(step)) if step else 0
    if abs(unit - step) <= step / (1 << 20):
        return {slot: (zero - load - pending[slot]) * unit for slot, load in loads.items()}
    return {slot: round((zero - load) * step) - pending[slot] * unit for slot, load in loads.items()}


def _lora_score(model: str, load: EndpointMetrics) -> float:
    if model in load.active_models:
        return 1.0
    if load.has_room():
        return 0.8
    return 0.6 if model in load.waiting_models else 0.0
