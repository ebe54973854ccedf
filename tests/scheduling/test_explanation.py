"""Explanations, as text and as plain data."""

from __future__ import annotations

import json
from random import Random

from inferencepool.model import Endpoint, InferenceRequest
from inferencepool.plugins import LoraAffinityScorer, QueueScorer
from inferencepool.scheduling import Scheduler, SchedulingProfile, WeightedScorer
from inferencepool.testing import make_snapshot

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
