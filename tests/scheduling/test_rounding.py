"""Scores of loads that span much, zeros with a sign, and clocks that step back."""

from __future__ import annotations

from typing import Any

import pytest

from inferencepool.model import InferenceRequest
from inferencepool.plugins import LoadAwareScorer, QueueScorer
from inferencepool.scheduling import Scheduler, SchedulingProfile, WeightedScorer
from inferencepool.testing import ManualClock, make_snapshot


@pytest.mark.parametrize("most", [3, 2_999, 1_000_003, 2**31 - 1])
@pytest.mark.parametrize("weight", [0.3, 1, 7])
def test_a_score_is_off_by_less_than_a_millionth_of_the_weight(most: int, weight: float) -> None:
    """However many loads lie between the lowest and the highest, the total is the weighted score."""
    loads = {"low": 0, "third": most // 3, "half": most // 2, "high": most}
    snapshot = make_snapshot({name: {"waiting_queue_size": load} for name, load in loads.items()})
    profile = SchedulingProfile(scorers=[WeightedScorer(QueueScorer(), weight)])

    explanation = Scheduler(profile, reserve=False).schedule(InferenceRequest(), snapshot).explain()

    for candidate in explanation.candidates:
        exact = weight * (most - loads[candidate.endpoint.pod_name]) / most
        assert abs(candidate.total - exact) < weight * 2**-20


def test_a_pending_request_ties_with_a_waiting_one() -> None:
    """A step that is no whole number of units is the same for both."""
    snapshot = make_snapshot(
        {"a": {"waiting_queue_size": 0}, "b": {"waiting_queue_size": 1}, "c": {"waiting_queue_size": 3}}
    )
    scheduler = Scheduler(SchedulingProfile(scorers=[WeightedScorer(QueueScorer(pending_span=1), 2)]))
    scheduler.schedule(InferenceRequest(), snapshot)

    first, second, _ = scheduler.schedule(InferenceRequest(), snapshot).explain().candidates

    assert first.total == second.total


class MinusZero:
    """A plain scorer that gives everybody -0.0."""

    def score(self, _request: InferenceRequest, candidates: Any) -> list[float]:
        """Give it."""
        return [-0.0] * len(candidates)


def test_no_zero_has_a_sign() -> None:
    """What scores nothing scores 0.0 in every part of an explanation."""
    scorers = [WeightedScorer(MinusZero()), WeightedScorer(LoadAwareScorer())]
    snapshot = make_snapshot({"a": {"waiting_queue_size": 500}, "b": {"waiting_queue_size": 500}})
    scheduler = Scheduler(SchedulingProfile(scorers=scorers))

    explanation = scheduler.schedule(InferenceRequest(), snapshot).explain()

    assert "-0" not in str(explanation).replace("rank-0", "")
    assert "-0.0" not in str(explanation.to_dict())


def test_a_clock_that_steps_back_leaves_nothing_pending() -> None:
    """An observation that shows a pick shows the ones before it, whatever the clock said then."""
    clock = ManualClock(100)
    snapshot = make_snapshot(1)
    scheduler = Scheduler(SchedulingProfile(scorers=[QueueScorer()]), clock=clock)
    scheduler.schedule(InferenceRequest(), snapshot)
    stepped = ManualClock(50)
    scheduler._clock = stepped
    scheduler.schedule(InferenceRequest(), snapshot)

    scheduler.adopt(make_snapshot({"pod-0": {"observed_at": 51.0}}, generation=snapshot.generation + 1))

    assert [0] == list(scheduler.reserved().pending)
