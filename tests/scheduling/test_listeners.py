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


@attrs.define(eq=False)
class Shared:
    """State that strategies share; notes what it hears."""

    heard: list[str] = attrs.field(factory=list)
    producers: tuple[object, ...] = ()

    def prepare(self, snapshot: Snapshot) -> None:
        """Note the snapshot."""
        self.heard.append(f"prepare {snapshot.generation}")

    def produce(self, request: InferenceRequest, _snapshot: Snapshot) -> None:
        """Note, and leave a note."""
        assert request.produced is not None
        request.produced[self] = f"of {request.id}"
        self.heard.append(f"produce {request.id}")

    def picked(self, result: PickResult) -> None:
        """Read the note of the request that was picked for."""
        self.heard.append(f"picked {(result.produced or {}).get(self)}")

    def started(self, _result: PickResult) -> None:
        """Note."""
        self.heard.append("started")

    def released(self, _result: PickResult) -> None:
        """Note."""
        self.heard.append("released")


@attrs.define(eq=False)
class User:
    """A scorer that names producers."""

    producers: tuple[object, ...]

    def affinities(self, request: InferenceRequest, _snapshot: Snapshot) -> Sequence[tuple[float, EndpointSet]]:
        """Find the notes that its producers left."""
        assert request.produced is not None
        assert all(producer in request.produced for producer in self.producers)
        return []


def test_a_producer_that_several_share_is_told_once() -> None:
    """Of snapshots, requests, picks, beginnings and releases, and before the strategies are asked."""
    below = Shared()
    shared = Shared(producers=(below,))
    scorers = [WeightedScorer(User((shared,)), name="a"), WeightedScorer(User((shared, below)), name="b")]
    scheduler, snapshot = Scheduler(SchedulingProfile(scorers=scorers)), make_snapshot(2)
    result = scheduler.schedule(InferenceRequest(id="1"), snapshot)
    result.explain()
    for _ in range(2):
        result.started()
    result.detach()
    for _ in range(2):
        result.release()
    result.started()
    expected = ["prepare 1", "produce 1", "picked of 1", "started", "released"]
    assert [expected, expected] == [shared.heard, below.heard]


def test_what_was_produced_is_that_of_the_pick() -> None:
    """A request that is picked for again starts anew, and an explanation of the first pick finds the first notes."""

    class Counting:
        calls = 0

        def affinities(self, request: InferenceRequest, _: Snapshot) -> Sequence[tuple[float, EndpointSet]]:
            assert request.produced is not None
            if self not in request.produced:
                self.calls += 1
                request.produced[self] = self.calls / 8
            return [(request.produced[self], 1)]

    scheduler, request, snapshot = (
        Scheduler(SchedulingProfile(scorers=[Counting()])),
        InferenceRequest(),
        make_snapshot(1),
    )
    first, second = (scheduler.schedule(request, snapshot) for _ in range(2))
    assert [0.125, 0.25] == [result.explain().picked.total for result in (first, second)]
