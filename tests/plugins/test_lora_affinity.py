"""Adapters that are loaded and run nothing at the moment."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.model import EndpointMetrics, InferenceRequest
from inferencepool.picker import EndpointPicker
from inferencepool.plugins import KvCacheUtilizationScorer, LoraAffinityScorer, QueueScorer
from inferencepool.registry import EndpointRegistry
from inferencepool.scheduling import SchedulingProfile, WeightedScorer
from inferencepool.testing import ManualClock, make_pod, make_pool

ADAPTERS = "abcd"


class Stage:
    """Some endpoints with room for so many adapters, and a picker that looks at adapters."""

    def __init__(self, endpoints: int, most: int = 1, weight: float = 1.0) -> None:
        self.registry = EndpointRegistry(make_pool(), publish_interval=0, clock=ManualClock())
        self.scorer = LoraAffinityScorer()
        self.most = most
        for number in range(endpoints):
            self.join(number)
        load = (WeightedScorer(QueueScorer(), 2), WeightedScorer(KvCacheUtilizationScorer(), 2))
        profile = SchedulingProfile(scorers=[*load, WeightedScorer(self.scorer, weight)])
        self.picker = EndpointPicker(self.registry, profile=profile, rng=Random(7))

    def join(self, number: int) -> None:
        """A pod comes, with room and without adapters."""
        self.registry.upsert_pod(make_pod(f"p{number}", ip=f"10.0.0.{number + 1}"))
        self.tell(number)

    def tell(self, number: int, running: Iterable[str] = (), waiting: Iterable[str] = ()) -> None:
        """An endpoint tells which adapters run and wait."""
        metrics = EndpointMetrics(
            active_models=frozenset(running), waiting_models=frozenset(waiting), max_active_models=self.most
        )
        self.registry.observe_metrics(f"default/p{number}-rank-0", metrics)

    def ran(self, number: int, *adapters: str) -> None:
        """An endpoint ran these adapters, one after the other, and runs none any more."""
        for adapter in adapters:
            self.tell(number, [adapter])
            self.scores(adapter)
        self.tell(number)

    def scores(self, adapter: str) -> list[float]:
        """The score that the scorer gives each endpoint."""
        with self.picker.pick(InferenceRequest(model="nobody")):
            pass
        snapshot = self.registry.snapshot()
        found = self.scorer.affinities(InferenceRequest(model=adapter), snapshot)
        return [max((s for s, members in found if members >> slot & 1), default=0.0) for slot in snapshot.fleet.slots]

    def pick(self, adapter: str) -> str:
        """The pod that a request goes to, where it stays."""
        return self.picker.pick(InferenceRequest(model=adapter)).endpoint.pod_name


def test_an_adapter_that_runs_nothing_is_still_loaded() -> None:
    """Its endpoint scores as if it ran; one where another adapter has to go scores less than one with a free place."""
    stage = Stage(3)
    stage.ran(0, "a")
    stage.ran(1, "b")

    assert [1.0, 0.4, 0.8] == stage.scores("a")


def test_the_adapter_that_was_used_longest_ago_goes() -> None:
    """An endpoint with room for two adapters that ran three has the latest two."""
    stage = Stage(1, most=2)
    stage.ran(0, "a", "b", "a", "c")

    assert [[1.0], [0.4], [1.0]] == [stage.scores(adapter) for adapter in "abc"]


def test_a_pending_request_does_not_outweigh_a_loaded_adapter() -> None:
    """With weight 1 beside the weight 2 of queues, two requests at once both go where their adapter is loaded."""
    stage = Stage(2)
    stage.ran(0, "a")
    stage.ran(1, "b")

    assert ["p0", "p0"] == [stage.pick("a"), stage.pick("a")]


def test_a_pick_is_remembered_before_metrics_show_it() -> None:
    """Where a request for an adapter went it is loaded from then on, and what was there is not."""
    stage = Stage(2)
    stage.ran(0, "a")
    stage.ran(1, "b")
    for name in "ccc":
        stage.tell(0, waiting=[name])
        stage.scores(name)
    stage.tell(0)
    stage.scores("c")
    gone_to = int(stage.pick("c")[1:])

    assert 1.0 == stage.scores("c")[gone_to]
    assert 0.4 == stage.scores("ab"[gone_to])[gone_to]


def test_an_explanation_tells_what_the_pick_was_made_by() -> None:
    """Even after other picks changed what is loaded."""
    stage = Stage(2)
    stage.ran(0, "a", "b")
    stage.ran(1, "a")
    result = stage.picker.pick(InferenceRequest(model="b"))
    for _ in range(3):
        stage.pick("a")

    assert result.endpoint == result.explain().picked.endpoint
    assert pytest.approx({"p0": 1.0, "p1": 0.4}) == {
        candidate.endpoint.pod_name: candidate.scores[-1].score for candidate in result.explain().candidates
    }


def test_what_waits_behind_running_adapters_is_not_loaded() -> None:
    """A pick for an adapter does not count as loaded where others run in all places."""
    stage = Stage(1)
    stage.ran(0, "b", "a")
    stage.tell(0, ["a"])
    stage.scores("a")
    stage.pick("b")

    assert [[1.0], [0.0]] == [stage.scores("a"), stage.scores("b")]


def test_the_base_model_displaces_nothing() -> None:
    """A model that no metrics told to be an adapter takes no place, and scores what the reference gives it."""
    stage = Stage(1)
    stage.ran(0, "a")
    stage.pick("base")

    assert [[1.0], [0.8]] == [stage.scores("a"), stage.scores("base")]


def test_what_a_replaced_endpoint_had_is_forgotten() -> None:
    """An endpoint in the slot of one that went has nothing loaded."""
    stage = Stage(1)
    stage.ran(0, "a")
    assert [1.0] == stage.scores("a")
    stage.registry.delete_pod("default", "p0")
    stage.join(1)

    assert [0.8] == stage.scores("a")


@given(
    most=st.integers(0, 3),
    steps=st.lists(st.tuples(st.integers(0, 2), st.sets(st.sampled_from(ADAPTERS), max_size=3), st.booleans())),
)
def test_no_endpoint_has_more_loaded_than_it_has_room_for(most: int, steps: list[tuple[int, set[str], bool]]) -> None:
    """Beside those that run; and those that run always score 1."""
    stage = Stage(3, most)
    for number, names, picks in steps:
        if picks:
            for name in sorted(names):
                stage.pick(name)
            continue
        stage.tell(number, names)
        by_adapter = {adapter: stage.scores(adapter) for adapter in ADAPTERS}
        assert all(1.0 == by_adapter[name][number] for name in names)
        loaded = [adapter for adapter in ADAPTERS if 1.0 == by_adapter[adapter][number]]
        assert len(loaded) <= max(most, len(names))
