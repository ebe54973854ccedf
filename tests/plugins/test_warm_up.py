"""A share of the traffic for endpoints that have just joined."""

from __future__ import annotations

from random import Random

import attrs
import pytest

from inferencepool.model import InferenceRequest
from inferencepool.picker import EndpointPicker
from inferencepool.plugins import PrefixCacheScorer, WarmUpFilter
from inferencepool.registry import EndpointRegistry
from inferencepool.scheduling import SchedulingProfile
from inferencepool.testing import ManualClock, make_pod, make_pool

PROMPT = InferenceRequest(prompt=b"the same for all, and long enough to be some blocks of text" * 20)
PICKS = 2000


class Stage:
    """Three warm endpoints that all know the prompt, and what joins them."""

    def __init__(self, share: float) -> None:
        self.clock = ManualClock()
        self.registry = EndpointRegistry(make_pool(), publish_interval=0, clock=self.clock)
        for number in range(3):
            self.join(number)
        warm_up = WarmUpFilter(duration=60, share=share, clock=self.clock)
        profile = SchedulingProfile(filters=[warm_up], scorers=[PrefixCacheScorer()], max_num_of_endpoints=2)
        self.picker = EndpointPicker(self.registry, profile=profile, rng=Random(7))
        self.share_of(0)

    def join(self, number: int) -> None:
        """A pod comes."""
        self.registry.upsert_pod(make_pod(f"p{number}", ip=f"10.0.0.{number + 1}"))
        self.registry.publish()

    def share_of(self, *numbers: int) -> float:
        """Which share of the picks goes to these pods; no prompt is remembered from here on but the one."""
        names, found = {f"p{number}" for number in numbers}, 0
        for _ in range(PICKS):
            with self.picker.pick(PROMPT) as result:
                found += result.endpoint.pod_name in names
                assert 1 == len(result.fallbacks) or len(self.registry.endpoints()) == 1
        return found / PICKS


@pytest.mark.parametrize(("share", "expected"), [(1, 1 / 4), (2, 1 / 2), (0.4, 0.1), (10, 1)])
def test_a_newcomer_gets_its_share(share: float, expected: float) -> None:
    """Although nothing is cached there at first: at least its factor on an even share, until its time is over."""
    stage = Stage(share)
    stage.join(3)
    first = stage.picker.pick(PROMPT)
    # From the first pick on the newcomer holds the prompt as well, so that it also wins its share of ties.
    got = stage.share_of(3)
    assert expected - 0.05 < got < expected + (1 - expected) * 0.5 + 0.05
    first.release()


def test_the_first_fleet_is_not_new() -> None:
    """Where all are cold alike, nobody is preferred."""
    stage = Stage(10)
    home = stage.picker.pick(PROMPT).endpoint.pod_name
    assert 1 == stage.share_of(int(home[1:]))


def test_one_that_comes_back_is_not_new() -> None:
    """A pod that was not ready for a while has still cached what it had; one whose containers restarted has not."""
    registry = EndpointRegistry(make_pool(), publish_interval=0, clock=ManualClock())
    pods = [attrs.evolve(make_pod(name, ip=f"10.0.0.{number}"), uid=name) for number, name in enumerate("ab", 1)]
    registry.resync(pods)
    warm_up = WarmUpFilter(share=10, clock=registry.clock)
    picker = EndpointPicker(registry, profile=SchedulingProfile(filters=[warm_up]), rng=Random(1))

    def names() -> set[str]:
        registry.publish()
        return {picker.pick(InferenceRequest()).endpoint.pod_name for _ in range(20)}

    assert {"a", "b"} == names()
    for ready, expected in ((False, {"b"}), (True, {"a", "b"})):
        registry.upsert_pod(attrs.evolve(pods[0], ready=ready))
        assert expected == names()
    registry.upsert_pod(attrs.evolve(pods[0], restarts=1))
    assert {"a"} == names()


def test_newcomers_grow_old() -> None:
    """After its time one is like all others: whoever holds the prompt gets it."""
    stage = Stage(10)
    home = int(stage.picker.pick(PROMPT).endpoint.pod_name[1:])
    stage.clock.advance(10)
    stage.join(3)
    assert 1 == stage.share_of(3)
    stage.clock.advance(30)
    stage.join(4)
    assert 1 == stage.share_of(3, 4)
    stage.clock.advance(30)
    assert 1 == stage.share_of(4)
    stage.clock.advance(30)
    assert 1 == stage.share_of(home, 3, 4)


def test_one_that_goes_is_not_new_any_more() -> None:
    """Nor is its slot."""
    stage = Stage(10)
    stage.join(3)
    assert 1 == stage.share_of(3)
    stage.registry.delete_pod("default", "p3")
    stage.registry.publish()
    assert 1 == stage.share_of(0, 1, 2)


def test_an_explanation_tells() -> None:
    """The others were left out by this filter; asked again, it draws the same."""
    stage = Stage(2)
    stage.join(3)
    kept = set()
    for _ in range(40):
        with stage.picker.pick(PROMPT) as result:
            explanation = result.explain()
            assert explanation == result.explain()
            kept.add(len(explanation.candidates))
            reasons = {item.reason for item in explanation.rejected}
            assert reasons == ({"filter warm-up-filter"} if len(explanation.candidates) == 1 else set())
    assert {1, 4} == kept


def test_endpoints_that_join_all_the_time() -> None:
    """However many snapshots bring new ones, what is remembered of them stays small."""
    stage = Stage(1)
    warm_up = stage.picker.profile.filters[0].filter
    assert isinstance(warm_up, WarmUpFilter)
    for number in range(3, 120):
        stage.join(number)
        stage.picker.pick(PROMPT).release()
        stage.clock.advance(1)
    assert len(warm_up._joined) <= 33
    joined = [number for number in range(3, 120) if warm_up._new() >> number & 1]
    # Those of the last minute, and none that is older than that.
    assert 120 - 60 <= joined[0] <= 120 - 58
    assert list(range(joined[0], 120)) == joined
