"""Metrics that are too old to be trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import floor, inf, nan
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import ConfigurationError
from inferencepool.model import Candidate, Candidates, Endpoint, EndpointMetrics, InferenceRequest, to_slots
from inferencepool.picker import EndpointPicker
from inferencepool.plugins import KvCacheUtilizationScorer, QueueScorer
from inferencepool.registry import EndpointRegistry, StaleMetrics, Staleness
from inferencepool.scheduling import SchedulingProfile, WeightedScorer
from inferencepool.testing import ManualClock

POLICIES = st.sampled_from(StaleMetrics)


def endpoint(name: str) -> Endpoint:
    """An endpoint of no pool."""
    return Endpoint(namespace="default", pod_name=name, address=f"10.0.0.{ord(name)}", port=8000, rank=None)


def registry_of(
    names: str, staleness: Staleness | None, clock: Callable[[], float], *, interval: float = 0
) -> EndpointRegistry:
    """A registry of endpoints with names of one letter."""
    registry = EndpointRegistry(clock=clock, publish_interval=interval, staleness=staleness)
    registry.set_endpoints(map(endpoint, names))
    registry.publish()
    return registry


def observe(registry: EndpointRegistry, **waiting: int) -> None:
    """Report queues, now."""
    for name, length in waiting.items():
        load = EndpointMetrics(waiting_queue_size=length, running_requests=length, kv_cache_usage=length / 100)
        registry.observe_metrics(endpoint(name), load)


def queues(registry: EndpointRegistry) -> Mapping[str, int]:
    """Queues by name, as they are scored."""
    snapshot = registry.snapshot()
    return {snapshot.fleet.at(slot).pod_name: snapshot.waiting_queue_size[slot] for slot in snapshot.fleet.slots}


def stale(registry: EndpointRegistry) -> set[str]:
    """Names of the stale endpoints."""
    snapshot = registry.snapshot()
    return {snapshot.fleet.at(slot).pod_name for slot in to_slots(snapshot.stale)}


class TestWhen:
    def test_without_a_threshold_nothing_is_ever_stale(self) -> None:
        """A registry that nobody keeps fresh behaves as if all metrics were new."""
        clock = ManualClock()
        registry = registry_of("ab", None, clock)
        observe(registry, a=5)
        clock.advance(1e9)

        assert registry.staleness is None
        assert set() == stale(registry)
        # What was never told counts as the mean.
        assert {"a": 5, "b": 5} == queues(registry)

    def test_metrics_age(self) -> None:
        """Metrics are fresh up to the threshold and stale beyond it, without any event; new ones are fresh."""
        clock = ManualClock()
        registry = registry_of("ab", Staleness(2.0), clock)
        assert {"a", "b"} == stale(registry)
        observe(registry, a=5, b=1)
        clock.advance(1)
        observe(registry, b=2)
        assert set() == stale(registry)
        clock.advance(1)
        generation = registry.snapshot().generation
        assert set() == stale(registry)
        clock.advance(0.5)
        assert {"a"} == stale(registry)
        assert generation + 1 == registry.snapshot().generation
        clock.advance(1)
        assert {"a", "b"} == stale(registry)
        generation = registry.snapshot().generation
        clock.advance(100)
        assert generation == registry.snapshot().generation
        observe(registry, a=1)
        assert {"b"} == stale(registry)

    def test_within_the_publish_interval(self) -> None:
        """Metrics that become stale wait for the next snapshot like everything else, and come with `publish`."""
        clock = ManualClock()
        registry = registry_of("ab", Staleness(1.0), clock, interval=10)
        clock.advance(10)
        observe(registry, a=1, b=1)
        assert set() == stale(registry)
        clock.advance(5)
        assert set() == stale(registry)
        registry.publish()
        assert {"a", "b"} == stale(registry)

    def test_clock_that_steps_back(self) -> None:
        """Observations from the future are not trusted, and make room for those of the present."""
        now = [1000.0]
        registry = registry_of("ab", Staleness(2.0), lambda: now[0], interval=1)
        observe(registry, a=5, b=5)
        registry.publish()
        now[0] = 500
        observe(registry, a=1)

        assert {"b"} == stale(registry)
        assert not registry.observe_metrics("default/a", EndpointMetrics(observed_at=499.0))
        now[0] = 501
        observe(registry, b=2)
        assert set() == stale(registry)
        assert {"a": 1, "b": 2} == queues(registry)


class TestPolicies:
    def test_worst(self) -> None:
        """A stale endpoint counts as the most loaded one, or as what it reported if that was more."""
        clock = ManualClock()
        registry = registry_of("abcd", Staleness(2.0, StaleMetrics.WORST), clock)
        observe(registry, a=90, b=0)
        clock.advance(3)
        observe(registry, c=7, d=3)
        snapshot = registry.snapshot()

        assert {"a": 90, "b": 8, "c": 7, "d": 3} == queues(registry)
        assert [90, 7, 7, 3] == list(snapshot.running_requests)
        assert [0.9, 0.07, 0.07, 0.03] == list(snapshot.kv_cache_usage)
        assert 0 == snapshot.metrics[1].waiting_queue_size
        assert (8, 7, 0.07) == (
            snapshot.candidate(1).metrics.waiting_queue_size,
            snapshot.candidate(1).metrics.running_requests,
            snapshot.candidate(1).metrics.kv_cache_usage,
        )

    def test_longest_queue_there_is(self) -> None:
        """No queue is made longer than a queue may be."""
        registry = registry_of("ab", Staleness(policy=StaleMetrics.WORST), ManualClock())
        most = EndpointMetrics(waiting_queue_size=2**31 - 1)
        registry.observe_metrics("default/a", most)

        assert {"a": 2**31 - 1, "b": 2**31 - 1} == queues(registry)
        EndpointPicker(registry).pick(InferenceRequest()).release()

    @pytest.mark.parametrize("policy", StaleMetrics)
    def test_all_stale(self, policy: StaleMetrics) -> None:
        """Where nothing is fresh the last values count, and picks are what they would be without any of this."""
        picked = []
        for staleness in (Staleness(2.0, policy), None):
            clock = ManualClock()
            registry = registry_of("abc", staleness, clock)
            observe(registry, a=9, b=1, c=0)
            clock.advance(3)
            assert {"a": 9, "b": 1, "c": 0} == queues(registry)
            picker = EndpointPicker(registry, rng=Random(1))
            picked.append([picker.pick(InferenceRequest()).endpoint.pod_name for _ in range(20)])

        assert picked[0] == picked[1]

    @pytest.mark.parametrize(
        ("policy", "expected"),
        [("worst", ["b", "c", "b"]), ("avoid", ["b", "b", "b"]), ("last", ["a", "a", "c"])],
    )
    def test_picks(self, policy: str, expected: list[str]) -> None:
        """Where picks go when one of three is stale that claimed to be idle."""
        clock = ManualClock()
        registry = registry_of("abc", Staleness(2.0, StaleMetrics(policy)), clock)
        observe(registry, a=0)
        clock.advance(3)
        observe(registry, b=3, c=5)
        picker = EndpointPicker(registry, rng=Random(1), reserve=policy != "avoid")
        picked = [picker.pick(InferenceRequest()).endpoint.pod_name for _ in range(3)]

        assert expected[0] == picked[0]
        if policy == "avoid":
            assert expected == picked
        assert ("a" in picked) is (policy == "last")

    def test_avoided_unless_nothing_else_is_left(self) -> None:
        """An avoided endpoint serves where a subset, a filter or a departure leaves no other."""
        clock = ManualClock()
        registry = registry_of("abc", Staleness(2.0, StaleMetrics.AVOID), clock, interval=5)
        observe(registry, b=1, c=2)
        clock.advance(6)
        observe(registry, b=1, c=2)

        class OnlyA:
            def filter(self, _request: InferenceRequest, candidates: Candidates) -> list[Candidate]:
                return [candidate for candidate in candidates if candidate.endpoint.pod_name == "a"]

        profile = SchedulingProfile(filters=[OnlyA()])
        assert "a" == EndpointPicker(registry, profile=profile).pick(InferenceRequest()).endpoint.pod_name
        picker = EndpointPicker(registry)
        assert "a" == picker.pick(InferenceRequest(), subset=endpoint("a").address).endpoint.pod_name
        assert "a" != picker.pick(InferenceRequest()).endpoint.pod_name
        registry.set_endpoints([endpoint("a")])
        assert "a" == picker.pick(InferenceRequest()).endpoint.pod_name

    def test_plain_scorers_see_what_is_scored(self) -> None:
        """A strategy that walks the candidates does not see the old numbers of a stale one."""
        seen: dict[str, int] = {}

        class Plain:
            def score(self, _request: InferenceRequest, candidates: Candidates) -> list[float]:
                seen.update({each.endpoint.pod_name: each.metrics.waiting_queue_size for each in candidates})
                return [0.5] * len(candidates)

        registry = registry_of("ab", Staleness(policy=StaleMetrics.WORST), ManualClock())
        observe(registry, a=4)
        EndpointPicker(registry, profile=SchedulingProfile(scorers=[WeightedScorer(Plain())])).pick(InferenceRequest())

        assert {"a": 4, "b": 5} == seen


class TestLostEndpoints:
    def test_lost_endpoint_is_stale_at_once(self) -> None:
        """An endpoint that cannot be reached is avoided before its metrics are old, and fresh with its next page."""
        clock = ManualClock()
        registry = registry_of("ab", Staleness(2.0), clock)
        observe(registry, a=0, b=9)

        assert registry.lose(endpoint("a"))
        assert not registry.lose(endpoint("a"))
        assert {"a"} == stale(registry)
        picker = EndpointPicker(registry)
        assert "b" == picker.pick(InferenceRequest()).endpoint.pod_name
        clock.advance(0.01)
        observe(registry, a=0)
        assert set() == stale(registry)
        assert "a" == picker.pick(InferenceRequest()).endpoint.pod_name

    def test_all_lost_endpoints_are_used(self) -> None:
        """Where none can be reached all of them are candidates."""
        registry = registry_of("ab", Staleness(2.0), ManualClock())
        observe(registry, a=0, b=9)
        for name in "ab":
            registry.lose(endpoint(name))

        assert {"a", "b"} == stale(registry)
        assert 0 == registry.snapshot().avoided
        assert "a" == EndpointPicker(registry).pick(InferenceRequest()).endpoint.pod_name

    def test_unknown_endpoint_is_not_lost(self) -> None:
        """One that is gone, or was replaced by another of the same name, changes nothing."""
        registry = registry_of("a", Staleness(2.0), ManualClock())

        assert not registry.lose(endpoint("b"))
        registry.lose(endpoint("a"))
        registry.set_endpoints([])
        registry.set_endpoints([endpoint("a")])
        observe(registry, a=1)
        assert set() == stale(registry)


class TestUnknownSignals:
    def test_unknown_signal_counts_as_the_mean(self) -> None:
        """What an endpoint never told is scored as the mean of what others tell, by all paths, and is named."""
        registry = registry_of("abc", None, ManualClock())
        registry.observe_metrics("default/a", EndpointMetrics(waiting_queue_size=0, kv_cache_usage=0.25))
        registry.observe_metrics("default/b", EndpointMetrics(waiting_queue_size=10, kv_cache_usage=0.75))
        registry.observe_metrics("default/c", EndpointMetrics(running_requests=1))
        snapshot = registry.snapshot()

        assert [0, 10, 5] == list(snapshot.waiting_queue_size)
        assert [0.25, 0.75, 0.5] == list(snapshot.kv_cache_usage)
        assert {"waiting_queue_size": 4, "kv_cache_usage": 4, "running_requests": 3} == snapshot.unknown
        assert (5, 1, 0.5) == (
            snapshot.candidate(2).metrics.waiting_queue_size,
            snapshot.candidate(2).metrics.running_requests,
            snapshot.candidate(2).metrics.kv_cache_usage,
        )
        assert {"waiting_queue_size", "kv_cache_usage"} == snapshot.candidate(2).metrics.unknown
        assert 0 == snapshot.metrics[2].waiting_queue_size
        profile = SchedulingProfile(scorers=[QueueScorer(), KvCacheUtilizationScorer()])
        explanation = EndpointPicker(registry, profile=profile).pick(InferenceRequest()).explain()
        by_name = {each.endpoint.pod_name: each for each in explanation.candidates}
        scores = {name: [score.score for score in each.scores] for name, each in by_name.items()}
        for told_by_a, told_by_b, guessed in zip(scores["a"], scores["b"], scores["c"], strict=True):
            assert guessed == (told_by_a + told_by_b) / 2
        assert ("waiting_queue_size", "kv_cache_usage") == by_name["c"].unknown
        assert "unknown" in str(explanation)

    def test_signal_that_nobody_tells(self) -> None:
        """It is the same for all, and so decides nothing and is not mentioned."""
        registry = registry_of("ab", None, ManualClock())
        for name in "ab":
            registry.observe_metrics(f"default/{name}", EndpointMetrics(running_requests=1))

        assert {} == registry.snapshot().unknown
        assert "unknown" not in str(EndpointPicker(registry).pick(InferenceRequest()).explain())

    def test_new_endpoint_is_not_the_best_one(self) -> None:
        """One that was not observed yet does not get all picks from those that are busy."""
        registry = registry_of("ab", None, ManualClock())
        observe(registry, a=2, b=8)
        registry.set_endpoints(map(endpoint, "abc"))
        registry.publish()

        assert "a" == EndpointPicker(registry, reserve=False).pick(InferenceRequest()).endpoint.pod_name

    def test_fresh_endpoints_tell_the_mean(self) -> None:
        """What was told too long ago is left out of the mean while there is something newer."""
        clock = ManualClock()
        registry = registry_of("abc", Staleness(2.0, StaleMetrics.LAST), clock)
        observe(registry, a=100)
        clock.advance(3)
        observe(registry, b=4)

        assert {"a": 100, "b": 4, "c": 4} == queues(registry)


class TestExplanation:
    def test_stale_candidates_are_marked(self) -> None:
        """An explanation tells whose metrics were stale at the pick, and how old they were."""
        clock = ManualClock(10)
        registry = registry_of("abc", Staleness(2.0, StaleMetrics.WORST), clock)
        observe(registry, a=1)
        clock.advance(3)
        observe(registry, b=1)
        explanation = EndpointPicker(registry).pick(InferenceRequest()).explain()
        clock.advance(5)
        ages = {item.endpoint.pod_name: (item.stale, item.age) for item in explanation.candidates}

        assert {"a": (True, 3.0), "b": (False, 0.0), "c": (True, None)} == ages
        text = str(explanation)
        assert "metrics" in text
        assert "3.00 s old, stale" in text
        assert "none, stale" in text
        given = {item["endpoint"]: (item["stale"], item["age"]) for item in explanation.to_dict()["candidates"]}
        assert given["default/a"] == (True, 3.0)

    def test_fresh_fleets_show_no_ages(self) -> None:
        """Where nothing is stale there is nothing to tell."""
        registry = registry_of("ab", None, ManualClock())

        assert "stale" not in str(EndpointPicker(registry).pick(InferenceRequest()).explain())

    def test_avoided_endpoints_are_rejected(self) -> None:
        """An endpoint that was avoided is listed with the reason."""
        registry = registry_of("ab", Staleness(2.0, StaleMetrics.AVOID), ManualClock())
        observe(registry, a=1)
        explanation = EndpointPicker(registry).pick(InferenceRequest()).explain()

        assert [("default/b", "stale metrics")] == [(item.endpoint.id, item.reason) for item in explanation.rejected]


@given(st.data(), POLICIES)
def test_snapshots_say_what_the_definition_says(data: st.DataObject, policy: StaleMetrics) -> None:
    """Whatever is observed when, a snapshot has the stale endpoints and the columns of the definition."""
    clock, threshold = ManualClock(), 2.0
    names = data.draw(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1))
    registry = registry_of("".join(names), Staleness(threshold, policy), clock)
    known: dict[str, tuple[float, EndpointMetrics]] = {}
    for _ in range(data.draw(st.integers(0, 8))):
        clock.advance(data.draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0])))
        name = data.draw(st.sampled_from(names))
        load = EndpointMetrics(
            waiting_queue_size=data.draw(st.integers(0, 5)),
            running_requests=data.draw(st.integers(0, 5)),
            kv_cache_usage=data.draw(st.sampled_from([0.0, 0.5, 1.0])),
        )
        if data.draw(st.booleans()) and f"default/{name}" in registry._slots:
            registry.observe_metrics(f"default/{name}", load)
            known[name] = clock(), load
        if data.draw(st.booleans()):
            registry.set_endpoints(endpoint(name) for name in names if name not in known or data.draw(st.booleans()))
            known = {name: seen for name, seen in known.items() if f"default/{name}" in registry._slots}
        snapshot = registry.snapshot()
        slots = {snapshot.fleet.at(slot).pod_name: slot for slot in snapshot.fleet.slots}
        fresh = {name for name, (at, _) in known.items() if clock() - at <= threshold}

        assert set(slots) - fresh == {snapshot.fleet.at(slot).pod_name for slot in to_slots(snapshot.stale)}
        assert snapshot.avoided == (snapshot.stale if fresh and policy is StaleMetrics.AVOID else 0)
        for field, more in (("waiting_queue_size", 1), ("running_requests", 0), ("kv_cache_usage", 0)):
            own = {name: getattr(known.get(name, (0, EndpointMetrics()))[1], field) for name in slots}
            told = [own[name] for name in fresh or known]
            mean = sum(told) / len(told) if told else 0
            rounded = floor(mean + 0.5) if field != "kv_cache_usage" else mean
            own |= dict.fromkeys(set(slots) - set(known), rounded)
            if fresh and policy is StaleMetrics.WORST:
                worst = max(own[name] for name in fresh) + more
                own |= {name: max(own[name], worst) for name in set(slots) - fresh}
            assert own == {name: getattr(snapshot, field)[slot] for name, slot in slots.items()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            ({"threshold": value}, "registry: staleness: threshold: .* is not a finite number of seconds above 0")
            for value in (0, -1, nan, inf, True, "2")
        ),
        ({"policy": "best"}, "registry: staleness: policy: 'best' is not one of worst, avoid, last"),
    ],
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    """The error names the field, the value and what is allowed."""
    with pytest.raises(ConfigurationError, match=message):
        Staleness(**arguments)
