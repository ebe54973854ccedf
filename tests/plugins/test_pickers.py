"""What all pickers promise, and how each of them decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from inferencepool.model import Candidates, EndpointMetrics, InferenceRequest, Snapshot
from inferencepool.plugins import (
    ConsistentHashPicker,
    LeastRequestPicker,
    MaxScorePicker,
    PowerOfTwoChoicesPicker,
    QueueScorer,
    RandomPicker,
    RoundRobinPicker,
    WeightedRandomPicker,
)
from inferencepool.scheduling import Picker, PickResult, Scheduler, SchedulingProfile, StandingPicker
from tests.strategies.fleets import endpoint, metrics, snapshot_of

PICKERS: list[Callable[[], StandingPicker]] = [
    ConsistentHashPicker,
    LeastRequestPicker,
    MaxScorePicker,
    PowerOfTwoChoicesPicker,
    RandomPicker,
    RoundRobinPicker,
    WeightedRandomPicker,
]

# A share of DRAWS picks is binomial; 5 standard deviations of one with p = 1/2 are 5 * sqrt(DRAWS) / 2 = 112.
DRAWS = 2_000
TOLERANCE = 112


class PlainQueueScorer:
    """The queue scorer again, as a plain scorer, so that the candidates are scanned."""

    def score(self, _request: InferenceRequest, candidates: Candidates) -> list[float]:
        """Score by the formula."""
        queues = candidates.waiting_queue_size
        low, high = min(queues), max(queues)
        return [(high - queue) / (high - low) if high > low else 1.0 for queue in queues]


def fleet_of(*queues: int) -> Snapshot:
    """A snapshot whose endpoints have these queues."""
    loads = [EndpointMetrics(waiting_queue_size=queue) for queue in queues]
    return snapshot_of([endpoint(slot) for slot in range(len(queues))], loads)


def scheduler_of(
    picker: Picker, *, count: int = 1, scorer: Any = None, seed: int = 1, reserve: bool = True
) -> Scheduler:
    """A scheduler of this picker and one scorer."""
    profile = SchedulingProfile(scorers=[scorer or QueueScorer()], picker=picker, max_num_of_endpoints=count)
    return Scheduler(profile, rng=Random(seed), reserve=reserve)


def slots_of(result: PickResult) -> list[int]:
    """The slots that a pick chose, best first."""
    return [result.slot, *result.fallback_slots]


def share_of_picks(scheduler: Scheduler, snapshot: Snapshot, draws: int = DRAWS) -> Counter[int]:
    """Count who is picked, releasing every pick at once."""
    found: Counter[int] = Counter()
    for _ in range(draws):
        result = scheduler.schedule(InferenceRequest(), snapshot)
        found[result.slot] += 1
        scheduler.release(result)
    return found


@pytest.mark.parametrize("build", PICKERS)
class TestEveryPicker:
    """What holds for every picker."""

    @pytest.mark.parametrize("scorer", [QueueScorer(), PlainQueueScorer()])
    def test_equal_seeds_give_equal_picks(self, build: Callable[[], StandingPicker], scorer: object) -> None:
        """The scheduler's source of randomness is the only one."""
        rng = Random(5)
        snapshot = snapshot_of([endpoint(s) for s in range(20)], [metrics(rng, 9, coarse=True) for _ in range(20)])
        runs = []
        for _ in range(2):
            scheduler = scheduler_of(build(), count=3, scorer=scorer, seed=7)
            requests = [InferenceRequest(headers={"x-session-id": f"s{n % 4}"} if n % 3 else {}) for n in range(60)]
            runs.append([slots_of(scheduler.schedule(request, snapshot)) for request in requests])
        assert runs[0] == runs[1]

    @pytest.mark.parametrize("size", [1, 2, 3, 8])
    @pytest.mark.parametrize("count", [1, 2, 3, 20])
    @pytest.mark.parametrize("headers", [{}, {"x-session-id": "a"}])
    def test_gives_as_many_different_members_as_it_can(
        self, build: Callable[[], StandingPicker], size: int, count: int, headers: dict[str, str]
    ) -> None:
        """A pick has *count* different endpoints, or all there are."""
        scheduler = scheduler_of(build(), count=count)
        snapshot = fleet_of(*range(size))
        for _ in range(20):
            slots = slots_of(scheduler.schedule(InferenceRequest(headers=headers), snapshot))
            assert len(slots) == len(set(slots)) == min(size, count)

    @pytest.mark.parametrize("headers", [{}, {"x-session-id": "a"}])
    def test_picks_from_the_subset_only(self, build: Callable[[], StandingPicker], headers: dict[str, str]) -> None:
        """Endpoints outside the subset are neither picked nor fallbacks."""
        scheduler = scheduler_of(build(), count=5)
        snapshot = fleet_of(*range(12))
        wanted = {2, 5, 7}
        hint = [endpoint(slot).destination for slot in wanted]
        for _ in range(20):
            result = scheduler.schedule(InferenceRequest(headers=headers), snapshot, subset=hint)
            assert set(slots_of(result)) == wanted


class TestUniformity:
    """Pickers without a preference spread their picks evenly."""

    @pytest.mark.parametrize("build", [RandomPicker, LeastRequestPicker, PowerOfTwoChoicesPicker])
    def test_equal_endpoints_get_equal_shares(self, build: Callable[[], StandingPicker]) -> None:
        """Of DRAWS picks each of four equal endpoints gets a quarter, within TOLERANCE."""
        found = share_of_picks(scheduler_of(build()), fleet_of(3, 3, 3, 3))
        assert all(abs(found[slot] - DRAWS / 4) < TOLERANCE for slot in range(4)), found

    def test_random_ignores_scores(self) -> None:
        """A loaded endpoint gets as many picks as an idle one."""
        found = share_of_picks(scheduler_of(RandomPicker()), fleet_of(0, 50))
        assert abs(found[0] - DRAWS / 2) < TOLERANCE

    def test_round_robin_takes_turns(self) -> None:
        """Every endpoint is picked once in a round, in the order of the slots, whatever the load."""
        scheduler = scheduler_of(RoundRobinPicker(), count=2)
        snapshot = fleet_of(0, 9, 3, 5)
        picks = [slots_of(scheduler.schedule(InferenceRequest(), snapshot)) for _ in range(8)]
        assert picks == [[0, 1], [1, 2], [2, 3], [3, 0]] * 2


class TestWeightedRandom:
    """Shares in proportion to the scores."""

    @pytest.mark.parametrize("scorer", [QueueScorer(), PlainQueueScorer()])
    def test_shares_follow_the_scores(self, scorer: object) -> None:
        """Scores 1, 0.5, 0.5 and 0 get a half, two quarters and nothing of DRAWS picks, within TOLERANCE."""
        scheduler = scheduler_of(WeightedRandomPicker(), scorer=scorer)
        found = share_of_picks(scheduler, fleet_of(0, 2, 2, 4))
        expected = {0: DRAWS / 2, 1: DRAWS / 4, 2: DRAWS / 4}
        assert all(abs(found[slot] - share) < TOLERANCE for slot, share in expected.items()), found
        assert found[3] == 0

    def test_endpoints_without_a_score_come_last(self) -> None:
        """An endpoint that scores 0 is only a trailing fallback."""
        scheduler = scheduler_of(WeightedRandomPicker(), count=4, reserve=False)
        for _ in range(50):
            assert slots_of(scheduler.schedule(InferenceRequest(), fleet_of(0, 2, 2, 4)))[3] == 3

    def test_without_any_score_it_is_random(self) -> None:
        """A profile without scorers spreads picks evenly, within TOLERANCE."""
        scheduler = Scheduler(SchedulingProfile(picker=WeightedRandomPicker()), rng=Random(1))
        found = share_of_picks(scheduler, fleet_of(0, 5))
        assert abs(found[0] - DRAWS / 2) < TOLERANCE


class TestPowerOfTwoChoices:
    """The better of two."""

    def test_of_two_endpoints_the_better_one_wins(self) -> None:
        """With two endpoints both are always drawn, so the higher score always wins."""
        found = share_of_picks(scheduler_of(PowerOfTwoChoicesPicker()), fleet_of(9, 0))
        assert found == {1: DRAWS}

    def test_the_worst_is_never_picked(self) -> None:
        """The worst of three loses against whichever it is drawn with; the best wins two draws of three."""
        found = share_of_picks(scheduler_of(PowerOfTwoChoicesPicker()), fleet_of(0, 4, 9))
        assert found[2] == 0
        assert abs(found[0] - DRAWS * 2 / 3) < TOLERANCE

    def test_equal_scores_are_settled_by_picks_in_flight(self) -> None:
        """Without scorers two endpoints alternate, since the other one always has fewer picks in flight."""
        scheduler = Scheduler(SchedulingProfile(picker=PowerOfTwoChoicesPicker()), rng=Random(1))
        picks = [scheduler.schedule(InferenceRequest(), fleet_of(0, 0)).slot for _ in range(20)]
        assert all({first, second} == {0, 1} for first, second in zip(picks[::2], picks[1::2], strict=True))


class TestLeastRequest:
    """Fewest picks in flight."""

    def test_levels_the_picks_in_flight(self) -> None:
        """No endpoint gets a second pick before all have one; a released one is next."""
        scheduler = scheduler_of(LeastRequestPicker())
        snapshot = fleet_of(0, 9, 3, 5)
        results = [scheduler.schedule(InferenceRequest(), snapshot) for _ in range(12)]
        for start in range(0, 12, 4):
            assert {result.slot for result in results[start : start + 4]} == {0, 1, 2, 3}
        scheduler.release(results[-1])
        assert scheduler.schedule(InferenceRequest(), snapshot).slot == results[-1].slot

    def test_fallbacks_follow_in_order(self) -> None:
        """The fallbacks of a pick are ordered by their picks in flight."""
        scheduler = scheduler_of(LeastRequestPicker(), count=3)
        snapshot = fleet_of(0, 0, 0)
        first, second = (scheduler.schedule(InferenceRequest(), snapshot) for _ in range(2))
        third = scheduler.schedule(InferenceRequest(), snapshot)
        assert {first.slot, second.slot, third.slot} == {0, 1, 2}
        scheduler.release(second)
        assert slots_of(scheduler.schedule(InferenceRequest(), snapshot))[0] == second.slot
