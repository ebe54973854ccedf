"""The distribution of the weighted random picker, against the scores by definition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations
from math import sqrt
from random import Random
from typing import Any

import pytest

from inferencepool.model import Candidates, EndpointMetrics, InferenceRequest
from inferencepool.plugins import (
    KvCacheUtilizationScorer,
    LoadAwareScorer,
    LoraAffinityScorer,
    QueueScorer,
    WeightedRandomPicker,
)
from inferencepool.scheduling import PickResult, Scheduler, SchedulingProfile, WeightedScorer
from tests.strategies.fleets import Counts, endpoint, snapshot_of, totals

DRAWS = 5_000

SCORERS = (WeightedScorer(QueueScorer(), 2), WeightedScorer(KvCacheUtilizationScorer(), 1))
WITH_LORA = (*SCORERS, WeightedScorer(LoraAffinityScorer(idle_adapters=False), 3))
ABSOLUTE = (WeightedScorer(LoadAwareScorer(threshold=8), 4), WeightedScorer(LoraAffinityScorer(idle_adapters=False), 1))

LOADS = [
    EndpointMetrics(waiting_queue_size=0, kv_cache_usage=0.9, active_models=frozenset({"chat"}), max_active_models=1),
    EndpointMetrics(waiting_queue_size=4, kv_cache_usage=0.5, active_models=frozenset({"sql"}), max_active_models=4),
    EndpointMetrics(waiting_queue_size=4, kv_cache_usage=0.2, waiting_models=frozenset({"chat"}), max_active_models=1),
    EndpointMetrics(waiting_queue_size=8, kv_cache_usage=1.0, active_models=frozenset({"law"}), max_active_models=1),
    EndpointMetrics(waiting_queue_size=6, kv_cache_usage=0.0),
    EndpointMetrics(waiting_queue_size=8, kv_cache_usage=0.3),
]
SIZE = len(LOADS)


class Nothing:
    """Gives everyone 0, and makes every pick a scan: it may look at everything."""

    def score(self, _request: InferenceRequest, candidates: Candidates) -> Sequence[float]:
        """Give 0."""
        return [0.0] * len(candidates)


def chi_square(found: Mapping[Any, int], shares: Mapping[Any, float]) -> tuple[float, float]:
    """Give the statistic of *found* against *shares*, and the limit: 5 standard deviations above its mean."""
    draws = sum(found.values())
    statistic = sum((found.get(key, 0) - draws * share) ** 2 / (draws * share) for key, share in shares.items())
    freedom = len(shares) - 1
    return statistic, freedom + 5 * sqrt(2 * freedom)


class Setup:
    """A scheduler in which some picks are held, and what its picker must give by the definition."""

    def __init__(self, scorers: Sequence[WeightedScorer], *, scan: bool, count: int = 1) -> None:
        """Pick by *scorers* from the fleet of LOADS."""
        self.scorers = scorers
        profile = SchedulingProfile(
            scorers=[*scorers, Nothing()] if scan else scorers,
            picker=WeightedRandomPicker(),
            max_num_of_endpoints=count,
        )
        self.scheduler = Scheduler(profile, rng=Random(4))
        self.snapshot = snapshot_of([endpoint(slot) for slot in range(SIZE)], LOADS)
        self.held: list[PickResult] = []

    def hold(self, number: int) -> None:
        """Pick and do not release, *number* times."""
        self.held += [self.scheduler.schedule(InferenceRequest(model="law"), self.snapshot) for _ in range(number)]

    def rank_again(self) -> None:
        """Let a ranking assume what is pending now."""
        again = snapshot_of(self.snapshot.fleet.endpoints, LOADS, generation=2, fleet=self.snapshot.fleet)
        self.snapshot = again
        self.scheduler.adopt(again)

    def release(self, number: int) -> None:
        """Release the *number* picks that were held first."""
        for result in self.held[:number]:
            self.scheduler.release(result)
        del self.held[:number]

    def weights(self, model: str, members: Sequence[int]) -> dict[int, int]:
        """Give the scores above 0, by the formulas."""
        pending = [sum(result.slot == slot for result in self.held) for slot in range(SIZE)]
        counts = Counts(pending, pending, {})
        scores = totals(self.scorers, InferenceRequest(model=model), self.snapshot, members, counts)
        return {slot: score for slot, score in scores.items() if score > 0}

    def draw(self, model: str, subset: Sequence[str] | None = None, draws: int = DRAWS) -> Counter[tuple[int, ...]]:
        """Count who is picked with which fallbacks, each pick released at once."""
        found: Counter[tuple[int, ...]] = Counter()
        for _ in range(draws):
            result = self.scheduler.schedule(InferenceRequest(model=model), self.snapshot, subset=subset)
            self.scheduler.release(result)
            found[result.slot, *result.fallback_slots] += 1
        return found


@pytest.mark.parametrize("scan", [False, True])
class TestShares:
    """Shares in proportion to the scores, from a ranking as from a scan."""

    @pytest.mark.parametrize("scorers", [SCORERS, WITH_LORA, ABSOLUTE])
    @pytest.mark.parametrize("model", ["chat", "law"])
    @pytest.mark.parametrize("situation", ["idle", "held", "ranked", "released"])
    def test_shares_are_those_of_the_definition(
        self, scorers: Sequence[WeightedScorer], model: str, situation: str, *, scan: bool
    ) -> None:
        """
        With bonuses and picks in flight: unknown to the ranking, assumed by it, or released since.

        A ranking that assumes picks in flight puts endpoints below 0, whom a bonus lifts above it again. For how much
        the shares may be off see `chi_square`.
        """
        setup = Setup(scorers, scan=scan)
        if situation != "idle":
            setup.hold(5)
        if situation in {"ranked", "released"}:
            setup.rank_again()
        if situation == "released":
            setup.release(4)
        weights = setup.weights(model, range(SIZE))
        found = setup.draw(model)
        assert {slot for (slot,) in found} <= set(weights)
        shares = {(slot,): weight / sum(weights.values()) for slot, weight in weights.items()}
        statistic, limit = chi_square(found, shares)
        assert statistic < limit, (found, shares)

    def test_a_subset_is_drawn_from_alone(self, *, scan: bool) -> None:
        """The scale of queues is that of the subset, at the first pick as at later ones; see `chi_square`."""
        setup = Setup(WITH_LORA, scan=scan)
        setup.hold(3)
        members = [1, 2, 4]
        weights = setup.weights("chat", members)
        found = setup.draw("chat", [endpoint(slot).destination for slot in members])
        statistic, limit = chi_square(found, {(slot,): w / sum(weights.values()) for slot, w in weights.items()})
        assert statistic < limit, found

    def test_fallbacks_are_drawn_from_those_that_are_left(self, *, scan: bool) -> None:
        """The probability of a pick with its fallbacks is that of drawing without replacement; see `chi_square`."""
        setup = Setup(WITH_LORA, scan=scan, count=3)
        weights = setup.weights("chat", range(SIZE))
        total = sum(weights.values())
        shares = {}
        for order in permutations(weights, 3):
            share, left = 1.0, total
            for slot in order:
                share *= weights[slot] / left
                left -= weights[slot]
            shares[order] = share
        statistic, limit = chi_square(setup.draw("chat"), shares)
        assert statistic < limit


@pytest.mark.parametrize("scan", [False, True])
def test_overloaded_endpoints_come_after_all_others(*, scan: bool) -> None:
    """Pending picks may take a score below 0; such an endpoint is a trailing fallback, never a pick."""
    setup = Setup((WeightedScorer(QueueScorer()),), scan=scan, count=SIZE)
    setup.hold(12)
    weights = setup.weights("", range(SIZE))
    assert 0 < len(weights) < SIZE
    for order in setup.draw("", draws=200):
        assert set(order[: len(weights)]) == set(weights)
        assert sorted(order) == list(range(SIZE))
