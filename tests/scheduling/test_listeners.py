"""Strategies that remember where requests went."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from inferencepool.model import Candidates, EndpointSet, InferenceRequest, Snapshot
from inferencepool.scheduling import PickResult, Scheduler, SchedulingProfile, WeightedScorer
from inferencepool.testing import make_snapshot


@attrs.define(eq=False)
class Sticky:
    """Scores the endpoint that got the last request."""

    picked_slots: list[int] = attrs.field(factory=list)
    released_slots: list[int] = attrs.field(factory=list)
    births: list[int] = attrs.field(factory=list)

    def affinities(self, _: InferenceRequest, __: Snapshot, /) -> Sequence[tuple[float, EndpointSet]]:
        """Prefer where the last request went."""
        return [(1.0, 1 << self.picked_slots[-1])] if self.picked_slots else []

    def picked(self, result: PickResult) -> None:
        """Remember."""
        self.picked_slots.append(result.slot)
        self.births.append(result.birth)

    def released(self, result: PickResult) -> None:
        """Remember."""
        self.released_slots.append(result.slot)


class Failing:
    """Breaks when it hears of a pick."""

    def score_endpoints(self, candidates: Candidates, /) -> Sequence[float]:
        """Give all the same."""
        return [0.0] * len(candidates)

    def picked(self, result: PickResult) -> None:
        """Fail."""
        message = f"broken at {result.slot}"
        raise RuntimeError(message)


@pytest.mark.parametrize("reserve", [True, False])
def test_hears_of_each_pick_and_each_release_once(reserve: bool) -> None:
    """Also where one strategy has two roles, and whether or not picks are reserved."""
    sticky, snapshot = Sticky(), make_snapshot(5)
    profile = SchedulingProfile(scorers=[WeightedScorer(sticky), WeightedScorer(sticky, name="again")])
    scheduler = Scheduler(profile, reserve=reserve)
    first = scheduler.schedule(InferenceRequest(), snapshot)
    second = scheduler.schedule(InferenceRequest(), snapshot)
    assert sticky.picked_slots == [first.slot, second.slot]
    assert first.slot == second.slot
    assert sticky.births == [snapshot.fleet.births[first.slot]] * 2
    assert not sticky.released_slots
    for result in (first, first, second):
        result.detach()
        result.release()
    assert sticky.released_slots == [first.slot, second.slot]


def test_a_listener_that_fails_leaves_no_load() -> None:
    """The error reaches the caller, who gets no result to release."""
    scheduler = Scheduler(SchedulingProfile(scorers=[Failing()]))
    with pytest.raises(RuntimeError, match="broken at"):
        scheduler.schedule(InferenceRequest(), make_snapshot(2))
    assert scheduler.in_flight == 0
