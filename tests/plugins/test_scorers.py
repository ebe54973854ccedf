"""The formulas of the scorers, by example."""

from __future__ import annotations

from typing import Any

import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.model import Candidates, EndpointMetrics, InferenceRequest, Snapshot
from inferencepool.plugins import (
    KvCacheUtilizationScorer,
    LoadAwareScorer,
    LoraAffinityScorer,
    QueueScorer,
    RunningRequestsSizeScorer,
    default_profile,
)
from inferencepool.scheduling import LinearLoad, MaxScorePicker, strategy_name
from tests.strategies.fleets import endpoint, snapshot_of


def snapshot_with(*loads: EndpointMetrics) -> Snapshot:
    """A snapshot of endpoints with these loads."""
    return snapshot_of([endpoint(slot) for slot in range(len(loads))], loads)


def candidates_with(column: str, *values: Any) -> Candidates:
    """Candidates that differ in one value."""
    loads = [EndpointMetrics(**{column: value}) for value in values]
    return Candidates(snapshot_with(*loads), range(len(values)))


def scores_of(load: LinearLoad) -> list[float]:
    """What a description of loads means with nothing pending."""
    return [(load.zero - value) * load.step for value in load.loads]


@pytest.mark.parametrize(
    ("scorer", "column"), [(QueueScorer(), "waiting_queue_size"), (RunningRequestsSizeScorer(), "running_requests")]
)
class TestRelativeLoad:
    """The scorers that compare a load with the lowest and the highest among the candidates."""

    @pytest.mark.parametrize(
        ("loads", "expected"),
        [([0, 5, 10], [1.0, 0.5, 0.0]), ([7, 3], [0.0, 1.0]), ([4, 4, 4], [1.0, 1.0, 1.0]), ([9], [1.0])],
    )
    def test_lowest_is_one_and_highest_is_zero(
        self, scorer: QueueScorer | RunningRequestsSizeScorer, column: str, loads: list[int], expected: list[float]
    ) -> None:
        """Scores lie in proportion between; equal loads all score 1."""
        assert scores_of(scorer.score_load(candidates_with(column, *loads))) == pytest.approx(expected)

    def test_only_candidates_count(self, scorer: QueueScorer | RunningRequestsSizeScorer, column: str) -> None:
        """An endpoint that is no candidate does not stretch the scale."""
        everyone = candidates_with(column, 0, 5, 10, 90)
        some = Candidates(everyone.snapshot, [1, 2])
        assert scores_of(scorer.score_load(some)) == [1.0, 0.0]


class TestLoadAwareScorer:
    """The scorer with an absolute scale."""

    @pytest.mark.parametrize(
        ("queue", "expected"), [(0, 0.5), (1, 0.5 * 127 / 128), (64, 0.25), (128, 0.0), (5000, 0.0)]
    )
    def test_falls_from_one_half_to_zero(self, queue: int, expected: float) -> None:
        """An empty queue scores 0.5, one of 128 or more 0, whatever the other candidates have."""
        described = LoadAwareScorer().score_load(candidates_with("waiting_queue_size", queue, 3))
        assert scores_of(described)[0] == pytest.approx(expected)
        assert not described.is_relative

    def test_threshold_sets_the_scale(self) -> None:
        """A threshold of 4 makes a queue of 1 score three quarters of one half."""
        described = LoadAwareScorer(threshold=4).score_load(candidates_with("waiting_queue_size", 1))
        assert scores_of(described) == [0.375]

    @pytest.mark.parametrize("threshold", [0, -1, 1.5, True, "128", None])
    def test_refuses(self, threshold: Any) -> None:
        """The error names the scorer, the parameter, the value and what is allowed."""
        message = f"load-aware-scorer: threshold: {threshold!r} is not a whole number from 1 to 2147483647"
        with pytest.raises(ConfigurationError) as caught:
            LoadAwareScorer(threshold=threshold)
        assert str(caught.value) == message


def test_kv_cache_utilization_scores_what_is_free() -> None:
    """The score is 1 less the used share, and does not depend on the other candidates."""
    scorer = KvCacheUtilizationScorer()
    assert scorer.score_endpoints(candidates_with("kv_cache_usage", 0.0, 0.25, 1.0)) == [1.0, 0.75, 0.0]
    assert scorer.pointwise


class TestLoraAffinityScorer:
    """The scorer that knows where adapters are loaded."""

    LOADS = (
        EndpointMetrics(active_models=frozenset({"sql"}), max_active_models=1),
        EndpointMetrics(active_models=frozenset({"law"}), max_active_models=2),
        EndpointMetrics(active_models=frozenset({"law"}), waiting_models=frozenset({"sql"}), max_active_models=2),
        EndpointMetrics(active_models=frozenset({"law"}), max_active_models=1),
        EndpointMetrics(),
    )

    def scores_for(self, model: str) -> list[float]:
        """The best score that each endpoint gets."""
        found = LoraAffinityScorer(idle_adapters=False).affinities(
            InferenceRequest(model=model), snapshot_with(*self.LOADS)
        )
        return [max((score for score, members in found if members >> slot & 1), default=0.0) for slot in range(5)]

    def test_active_then_room_then_waiting(self) -> None:
        """Loaded is 1, room 0.8, waiting without room 0.6, and anything else 0."""
        assert self.scores_for("sql") == [1.0, 0.8, 0.6, 0.0, 0.0]

    def test_an_unknown_adapter_goes_where_there_is_room(self) -> None:
        """A model that no endpoint knows, such as the base model, leaves only the endpoints with room."""
        assert self.scores_for("chat") == [0.0, 0.8, 0.0, 0.0, 0.0]


def test_default_profile() -> None:
    """Queue and KV cache with weight 2 each, cached prefixes with 3, and the highest score wins."""
    profile = default_profile()
    assert [(item.name, item.weight) for item in profile.scorers] == [
        ("queue-scorer", 2),
        ("kv-cache-utilization-scorer", 2),
        ("prefix-cache-scorer", 3),
    ]
    assert isinstance(profile.picker, MaxScorePicker)
    assert profile.max_num_of_endpoints == 1
    assert default_profile().picker is not profile.picker


def test_class_names_are_type_names() -> None:
    """Explanations name the scorers as configurations do."""
    scorers = (QueueScorer, RunningRequestsSizeScorer, LoadAwareScorer, KvCacheUtilizationScorer, LoraAffinityScorer)
    assert [strategy_name(scorer()) for scorer in scorers] == [
        "queue-scorer",
        "running-requests-size-scorer",
        "load-aware-scorer",
        "kv-cache-utilization-scorer",
        "lora-affinity-scorer",
    ]
