"""Random fleets, profiles and requests for the pick loop, and what a pick must answer by the definition."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import attrs

from inferencepool.model import (
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
from inferencepool.scheduling import ONE, MaxScorePicker, Scorer, Standing, WeightedScorer

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
        LoraAffinityScorer(),
        prefix,
    ]
    chosen = rng.sample(pool, rng.randrange(len(pool) + 1))
    return [WeightedScorer(scorer, rng.choice([0, 0.3, 1, 2, 3])) for scorer in chosen]


@attrs.define
class Spy:
    """Picks like the max-score picker, and remembers the winners and the best score."""

    winners: EndpointSet = 0
    best: float = 0.0
    _picker: MaxScorePicker = attrs.field(factory=MaxScorePicker)

    def choose(self, request: InferenceRequest, standing: Standing, count: int) -> Sequence[int]:
        """Look, then choose."""
        self.winners = standing.best()
        chosen = self._picker.choose(request, standing, count)
        self.best = standing.score(chosen[0])
        return chosen


def totals(
    profile_scorers: Sequence[WeightedScorer],
    request: InferenceRequest,
    snapshot: Snapshot,
    members: Sequence[int],
    pending: Sequence[int],
) -> dict[int, int]:
    """Score every member with every scorer, by the formulas, in whole units; the loads' extremes are the members'."""
    scores = dict.fromkeys(members, 0)
    for item in profile_scorers:
        for slot, score in _whole_scores(item, request, snapshot, members, pending).items():
            scores[slot] += score
    return scores


def _whole_scores(
    item: WeightedScorer, request: InferenceRequest, snapshot: Snapshot, members: Sequence[int], pending: Sequence[int]
) -> dict[int, int]:
    """Score every member with one scorer."""
    scale = item.weight * int(ONE)
    match item.scorer:
        case QueueScorer():
            return _relative(snapshot.waiting_queue_size, members, pending, scale)
        case RunningRequestsSizeScorer():
            return _relative(snapshot.running_requests, members, pending, scale)
        case LoadAwareScorer(threshold=limit):
            step = round(0.5 / limit * scale)
            return {s: (limit - min(snapshot.waiting_queue_size[s], limit) - pending[s]) * step for s in members}
        case KvCacheUtilizationScorer():
            return {s: round((1 - snapshot.kv_cache_usage[s]) * scale) for s in members}
        case LoraAffinityScorer():
            return {s: round(_lora_score(request.model, snapshot.metrics[s]) * scale) for s in members}
        case PrefixLike(sets=sets):
            return {s: round(max((v for v, within in sets if within >> s & 1), default=0.0) * scale) for s in members}
        case _:
            message = f"no formula for {item.name}"
            raise AssertionError(message)


def _relative(column: Sequence[int], members: Sequence[int], pending: Sequence[int], scale: float) -> dict[int, int]:
    low, high = min(column[s] for s in members), max(column[s] for s in members)
    zero, step = (high, 1 / (high - low)) if high > low else (high + 1, 1.0)
    return {slot: (zero - column[slot] - pending[slot]) * round(step * scale) for slot in members}


def _lora_score(model: str, load: EndpointMetrics) -> float:
    if model in load.active_models:
        return 1.0
    if load.has_room():
        return 0.8
    return 0.6 if model in load.waiting_models else 0.0
