"""Explanations, as text and as plain data."""

from __future__ import annotations

import json
from random import Random

from inferencepool.model import Endpoint, EndpointSet, InferenceRequest
from inferencepool.picker import EndpointPicker
from inferencepool.plugins import LoraAffinityScorer, QueueScorer
from inferencepool.registry import EndpointRegistry
from inferencepool.scheduling import CandidateSet, Scheduler, SchedulingProfile, WeightedScorer
from inferencepool.testing import make_pod, make_pool, make_snapshot

SNAPSHOT = make_snapshot(
    {
        "a": {"waiting_queue_size": 4},
        "b": {"active_models": ["sql"], "max_active_models": 2},
        "c": {"waiting_queue_size": 1},
        "gone": {},
        "odd": {},
        "far": {},
    }
)


class NotOdd:
    """An endpoint filter."""

    def keep(self, endpoint: Endpoint) -> bool:
        """Refuse one."""
        return endpoint.pod_name != "odd"


PROFILE = SchedulingProfile(
    name="mixed",
    filters=[NotOdd()],
    scorers=[WeightedScorer(QueueScorer(), 2), WeightedScorer(LoraAffinityScorer())],
    max_num_of_endpoints=2,
)
SUBSET = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]


def test_an_explanation_tells_who_and_why() -> None:
    """Chosen ones first, every score with its weight, and why the others were no candidates."""
    scheduler = Scheduler(PROFILE, rng=Random(1))
    result = scheduler.schedule(InferenceRequest(model="sql"), SNAPSHOT, departed=1 << 3, subset=SUBSET)
    explanation = result.explain()
    assert explanation.picked.endpoint.pod_name == "b"
    assert [(item.endpoint.pod_name, item.place) for item in explanation.candidates] == [
        ("b", 1),
        ("c", 2),
        ("a", None),
    ]
    assert [round(item.total, 6) for item in explanation.candidates] == [3.0, 1.5, 0.0]
    assert [score.weighted for score in explanation.picked.scores] == [2.0, 1.0]
    assert {item.endpoint.pod_name: item.reason for item in explanation.rejected} == {
        "gone": "departed",
        "odd": "filter not-odd",
        "far": "not in the subset",
    }


def test_an_explanation_is_a_text_and_plain_data() -> None:
    """The text holds a table for people; the dict survives JSON."""
    result = Scheduler(PROFILE, rng=Random(1)).schedule(InferenceRequest(model="sql"), SNAPSHOT, subset=SUBSET[:3])
    explanation = result.explain()
    lines = str(explanation).splitlines()
    assert lines[0] == "picked 10.0.0.2:8000 (default/b-rank-0) for model sql"
    assert lines[1] == "profile mixed, snapshot 1, 3 candidates"
    assert "queue-scorer x2" in lines[3]
    assert lines[4].split() == ["picked", "default/b-rank-0", "10.0.0.2:8000", "0", "1.000", "1.000", "3.000"]
    assert lines[5].startswith("fallback 1")
    assert "not considered:" in lines
    document = explanation.to_dict()
    assert json.loads(json.dumps(document)) == document
    assert document["candidates"][0]["scores"]["queue-scorer"] == {"score": 1.0, "weight": 2, "weighted": 2.0}
    assert document["rejected"][0]["reason"] == "filter not-odd"


def test_an_explanation_tells_ties() -> None:
    """Without scorers all candidates tie, and nothing is rejected."""
    text = str(Scheduler(SchedulingProfile()).schedule(InferenceRequest(), make_snapshot(4)).explain())
    assert "4 candidates share the highest score" in text
    assert "not considered" not in text
    assert " for model" not in text


def test_an_explanation_asked_for_late_says_so() -> None:
    """After thousands of picks what was pending at the time is forgotten; releases are undone as well as picks."""
    scheduler = Scheduler(PROFILE, rng=Random(1))
    request = InferenceRequest()
    held = scheduler.schedule(request, SNAPSHOT)
    result = scheduler.schedule(request, SNAPSHOT)
    held.release()
    assert sum(item.pending for item in result.explain().candidates) == 1
    for _ in range(2_100):
        scheduler.schedule(request, SNAPSHOT).release()
    explanation = result.explain()
    assert not explanation.exact
    assert "too many picks" in str(explanation)
    assert not explanation.to_dict()["exact"]


def test_an_endpoint_that_goes_leaves_explanations_exact() -> None:
    """What it had in flight is known for picks from before, and those after it count from then on."""
    registry = EndpointRegistry(make_pool(), publish_interval=0)
    registry.resync([make_pod(name, ip=f"10.0.0.{number}") for number, name in enumerate("abc", 1)])
    picker = EndpointPicker(registry, profile=SchedulingProfile(scorers=[QueueScorer()]), rng=Random(1))
    results = [picker.pick(InferenceRequest()) for _ in range(6)]
    at_once = [result.explain() for result in results]
    registry.delete_pod("default", "b")
    later = picker.pick(InferenceRequest()).explain()

    assert at_once == [result.explain() for result in results]
    assert (True, 2) == (later.exact, len(later.candidates))


def test_a_fleet_that_shrinks() -> None:
    """Snapshots of somebody else's making may have fewer slots than those before."""
    scheduler = Scheduler(SchedulingProfile(scorers=[QueueScorer()]))
    first = scheduler.schedule(InferenceRequest(), make_snapshot(3))
    second = scheduler.schedule(InferenceRequest(), make_snapshot(1, generation=2))

    assert (0, True) == (second.slot, second.explain().exact)
    assert (3, True) == (len(first.explain().candidates), first.explain().exact)


def test_without_reservations_explanations_are_exact() -> None:
    """Nothing is pending, whatever came and went."""
    scheduler = Scheduler(SchedulingProfile(scorers=[QueueScorer()]), reserve=False)
    scheduler.schedule(InferenceRequest(), make_snapshot(3))
    result = scheduler.schedule(InferenceRequest(), make_snapshot(2, generation=2))

    assert result.explain().exact


class Least:
    """A filter that keeps the endpoints with the fewest picks in flight."""

    def narrow(self, _request: InferenceRequest, candidates: CandidateSet) -> EndpointSet:
        """Keep them."""
        return candidates.least_in_flight(candidates.members)


def test_a_late_explanation_names_the_endpoint_that_was_picked() -> None:
    """Where the counts of that moment are forgotten, filters answer by those of today, but for who was picked."""
    scheduler = Scheduler(SchedulingProfile(filters=[Least()], scorers=[QueueScorer()]), rng=Random(1))
    snapshot = make_snapshot(2)
    scheduler.schedule(InferenceRequest(), snapshot, subset="10.0.0.1")
    result = scheduler.schedule(InferenceRequest(), snapshot)
    assert "10.0.0.2:8000" == result.destination
    for _ in range(10_000):
        scheduler.schedule(InferenceRequest(), snapshot).release()
    scheduler.schedule(InferenceRequest(), snapshot, subset="10.0.0.2")
    explanation = result.explain()

    assert not explanation.exact
    assert (result.endpoint, 1) == (explanation.picked.endpoint, explanation.picked.place)
    assert result.endpoint not in [item.endpoint for item in explanation.rejected]
