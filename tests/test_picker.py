"""The picker: what a gateway sees of the registry and the scheduler together."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import EndpointsFilteredError, InferencePoolError, NoEndpointsError
from inferencepool.model import Endpoint, EndpointMetrics, InferenceRequest
from inferencepool.picker import EndpointPicker, Observers
from inferencepool.plugins import QueueScorer, RunningRequestsSizeScorer
from inferencepool.registry import EndpointRegistry
from inferencepool.scheduling import PickResult, SchedulingProfile
from inferencepool.testing import ManualClock, make_pod, make_pool

REQUEST = InferenceRequest(model="llama")


def registry_of(size: int, clock: ManualClock | None = None, *, ipv6: bool = False) -> EndpointRegistry:
    """A registry of *size* pods with two ports each, idle."""
    registry = EndpointRegistry(make_pool(ports=[8000, 8001]), clock=clock or ManualClock())
    address = "fd00::{}" if ipv6 else "10.0.0.{}"
    registry.resync([make_pod(f"p{number}", ip=address.format(number + 1)) for number in range(size)])
    registry.publish()
    return registry


def picker_of(registry: EndpointRegistry, *, seed: int = 1, reserve: bool = True) -> EndpointPicker:
    """A picker by queue length."""
    profile = SchedulingProfile(name="short", scorers=[QueueScorer()])
    return EndpointPicker(registry, profile=profile, rng=Random(seed), reserve=reserve)


def pending(result: PickResult) -> dict[str, int]:
    """What the explanation of a pick says is pending."""
    return {candidate.endpoint.id: candidate.pending for candidate in result.explain().candidates}


class Nobody:
    """An endpoint filter that keeps none."""

    def keep(self, _endpoint: Endpoint) -> bool:
        """Refuse."""
        return False


@attrs.define
class Witness:
    """An observer that remembers."""

    results: list[PickResult] = attrs.field(factory=list)
    errors: list[tuple[InferenceRequest, InferencePoolError]] = attrs.field(factory=list)

    def picked(self, result: PickResult) -> None:
        """Remember a pick."""
        self.results.append(result)

    def refused(self, request: InferenceRequest, error: InferencePoolError) -> None:
        """Remember a refusal."""
        self.errors.append((request, error))


class TestPick:
    def test_a_pick_names_an_endpoint(self) -> None:
        """By default the profile is the default one; the result tells where the request goes."""
        registry = registry_of(1)
        picker = EndpointPicker(registry)
        result = picker.pick(REQUEST)
        assert result.destination == result.endpoint.destination
        assert result.destination in {"10.0.0.1:8000", "10.0.0.1:8001"}
        assert result.fallbacks == ()
        assert result.request is REQUEST
        assert picker.registry is registry
        assert picker.profile.name == "default"
        assert repr(picker) == "<EndpointPicker by profile default of <EndpointRegistry of 2 endpoints>>"
        assert repr(result) == f"<PickResult {result.endpoint}>"

    def test_the_shortest_queue_wins(self) -> None:
        """Observed load decides."""
        registry = registry_of(2)
        for id in ("default/p0-rank-0", "default/p0-rank-1", "default/p1-rank-0"):
            registry.observe_metrics(id, EndpointMetrics(waiting_queue_size=5))
        registry.observe_metrics("default/p1-rank-1", EndpointMetrics(waiting_queue_size=4))
        registry.publish()
        assert picker_of(registry).pick(REQUEST).endpoint.id == "default/p1-rank-1"

    def test_a_seed_repeats_all_picks(self) -> None:
        """Two pickers with equally seeded randomness pick the same."""

        def picks(seed: int) -> list[str]:
            picker = picker_of(registry_of(5), seed=seed)
            return [picker.pick(REQUEST).destination for _ in range(50)]

        assert picks(3) == picks(3)
        assert picks(3) != picks(4)

    def test_ties_are_uniform(self) -> None:
        """R picks among N equals hit each R/N times, give or take epsilon (five standard deviations)."""
        size, rounds = 10, 20_000
        picker = picker_of(registry_of(size // 2), reserve=False)
        hits = Counter(picker.pick(REQUEST).destination for _ in range(rounds))
        epsilon = 5 * (rounds / size * (1 - 1 / size)) ** 0.5
        assert len(hits) == size
        assert all(abs(count - rounds / size) < epsilon for count in hits.values())


class TestReservation:
    def test_a_result_is_released_once(self) -> None:
        """Leaving the context releases; further calls do nothing."""
        picker = picker_of(registry_of(2))
        with picker.pick(REQUEST) as result:
            assert picker.statistics().in_flight == 1
        assert picker.statistics().in_flight == 0
        result.release()
        assert picker.statistics().in_flight == 0
        assert picker.statistics().endpoints == 4
        assert picker.statistics().generation == 1

    def test_an_error_inside_releases_too(self) -> None:
        """However the request ended, its load is taken back."""
        picker = picker_of(registry_of(1))
        with pytest.raises(KeyError), picker.pick(REQUEST):
            raise KeyError
        assert picker.statistics().in_flight == 0

    @given(pods=st.integers(1, 8), rounds=st.integers(1, 3), seed=st.integers(0, 99))
    def test_a_burst_spreads(self, pods: int, rounds: int, seed: int) -> None:
        """As many picks as there are idle endpoints hit each of them once, and again in every further round."""
        picker = picker_of(registry_of(pods), seed=seed)
        for _ in range(rounds):
            assert len({picker.pick(REQUEST).destination for _ in range(2 * pods)}) == 2 * pods

    def test_without_reservation_nothing_counts(self) -> None:
        """The option turns counting off."""
        picker = picker_of(registry_of(2), reserve=False)
        result = picker.pick(REQUEST)
        assert picker.statistics().in_flight == 0
        assert set(pending(result).values()) == {0}
        result.release()
        assert result.released

    @pytest.mark.parametrize(("began", "left"), [(9.0, 1), (10.0, 1), (11.0, 0)], ids=["before", "same", "after"])
    def test_metrics_cover_picks_made_before_their_scrape_began(self, began: float, left: int) -> None:
        """A scrape that began after the pick shows it; an older one that arrives later does not."""
        clock = ManualClock(10)
        registry = registry_of(1, clock)
        picker = picker_of(registry)
        first = picker.pick(REQUEST)
        clock.advance(5)
        registry.observe_metrics(first.endpoint.id, EndpointMetrics(waiting_queue_size=0, observed_at=began))
        registry.publish()
        picker.pick(REQUEST)
        # The third pick's explanation shows what was pending before it, of the first pick and the second.
        second = picker.pick(REQUEST)
        total = sum(pending(second).values())
        assert total == left + 1
        assert picker.statistics().in_flight == 3
        first.release()
        assert picker.statistics().in_flight == 2

    @given(loads=st.lists(st.integers(0, 5), min_size=2, max_size=8), picks=st.integers(1, 20))
    def test_a_pick_moves_only_its_own_score_and_by_one_step(self, loads: list[int], picks: int) -> None:
        """Score = (max - observed) / (max - min) - pending / max(max - min, 5), with the extremes of the snapshot."""
        registry = EndpointRegistry(make_pool(), clock=ManualClock())
        registry.resync([make_pod(f"p{number}", ip=f"10.0.0.{number + 1}") for number in range(len(loads))])
        observed = {f"default/p{number}-rank-0": load for number, load in enumerate(loads)}
        for id, load in observed.items():
            registry.observe_metrics(id, EndpointMetrics(running_requests=load))
        profile = SchedulingProfile(scorers=[RunningRequestsSizeScorer()])
        picker = EndpointPicker(registry, profile=profile, rng=Random(1))
        taken = dict.fromkeys(observed, 0)
        low, high = min(loads), max(loads)
        for _ in range(picks):
            result = picker.pick(REQUEST)
            for candidate in result.explain().candidates:
                id = candidate.endpoint.id
                # Where all are equal, all score 1 less what is pending.
                zero, span = (high, high - low) if high > low else (high + 1, 1)
                expected = (zero - observed[id]) / span - taken[id] / max(high - low, 5)
                assert candidate.scores[0].score == pytest.approx(expected)
            taken[result.endpoint.id] += 1

    def test_load_of_a_pod_that_is_gone_is_forgotten(self) -> None:
        """Its successor in the same slot starts with nothing, and a late release does nothing."""
        registry = registry_of(1)
        picker = picker_of(registry)
        held = [picker.pick(REQUEST) for _ in range(6)]
        registry.delete_pod("default", "p0")
        registry.publish()
        registry.upsert_pod(make_pod("p1", ip="10.0.0.9"))
        registry.publish()
        result = picker.pick(REQUEST)
        assert picker.statistics().in_flight == 1
        for old in held:
            old.release()
        assert picker.statistics().in_flight == 1
        result.release()
        assert picker.statistics().in_flight == 0

    def test_load_survives_new_labels(self) -> None:
        """An endpoint that changes in place keeps the requests it has."""
        registry = registry_of(1)
        picker = picker_of(registry)
        held = picker.pick(REQUEST)
        registry.upsert_pod(make_pod("p0", ip="10.0.0.1", labels={"zone": "b"}))
        registry.publish()
        assert picker.pick(REQUEST).destination != held.destination


class TestSubset:
    @pytest.mark.parametrize(
        ("subset", "expected"),
        [
            ("10.0.0.1:8001", {"10.0.0.1:8001"}),
            ("10.0.0.2", {"10.0.0.2:8000", "10.0.0.2:8001"}),
            (" 10.0.0.1:8000 , 10.0.0.2:8000,9.9.9.9", {"10.0.0.1:8000", "10.0.0.2:8000"}),
            (["10.0.0.1:8000", "10.0.0.2:8001"], {"10.0.0.1:8000", "10.0.0.2:8001"}),
        ],
    )
    def test_a_subset_limits_the_pick(self, subset: str | list[str], expected: set[str]) -> None:
        """One text with commas or a list, addresses with or without a port."""
        picker = picker_of(registry_of(3))
        assert {picker.pick(REQUEST, subset).destination for _ in range(40)} == expected

    @pytest.mark.parametrize("subset", ["[fd00::1]:8000", "[FD00:0::1]:8000"])
    def test_a_subset_may_name_ipv6(self, subset: str) -> None:
        """However the address is spelled."""
        assert picker_of(registry_of(2, ipv6=True)).pick(REQUEST, subset).destination == "[fd00::1]:8000"

    @pytest.mark.parametrize("subset", ["", [], "9.9.9.9", "10.0.0.1:9999", "nonsense"])
    def test_a_subset_that_names_nothing_is_refused(self, subset: str | list[str]) -> None:
        """An empty hint, too: no endpoint outside of it is picked (503)."""
        with pytest.raises(NoEndpointsError, match="subset") as caught:
            picker_of(registry_of(2)).pick(REQUEST, subset)
        assert caught.value.http_status == 503


class TestRefusal:
    def test_an_empty_pool_is_a_503(self) -> None:
        """The error carries what an edge answers with."""
        with pytest.raises(NoEndpointsError, match="no ready endpoints") as caught:
            picker_of(registry_of(0)).pick(REQUEST)
        assert not isinstance(caught.value, EndpointsFilteredError)
        assert (caught.value.http_status, caught.value.dropped_reason) == (503, "rejected-no-endpoints")

    def test_filters_that_keep_none_are_a_429(self) -> None:
        """The error names the profile and the filters."""
        profile = SchedulingProfile(name="strict", filters=[Nobody()])
        with pytest.raises(EndpointsFilteredError, match=r"profile strict: .* nobody") as caught:
            EndpointPicker(registry_of(1), profile=profile).pick(REQUEST)
        assert (caught.value.http_status, caught.value.dropped_reason) == (429, "rejected-saturated")

    def test_an_observer_hears_of_everything(self) -> None:
        """Picks and refusals, the error as it was raised."""
        witness = Witness()
        picker = EndpointPicker(registry_of(1), observer=witness)
        result = picker.pick(REQUEST)
        with pytest.raises(NoEndpointsError) as caught:
            picker.pick(REQUEST, [])
        assert witness.results == [result]
        assert witness.errors == [(REQUEST, caught.value)]
        assert picker.observed

    def test_how_long_a_pick_took(self) -> None:
        """It is told to an observer, by the picker's clock; without one nobody measures."""
        ticks = iter(range(100))
        witness = Witness()
        EndpointPicker(registry_of(1), observer=witness, clock=lambda: float(next(ticks))).pick(REQUEST)
        (result,) = witness.results
        assert result.seconds == 2  # the clock is read at the beginning, for `picked_at` and at the end
        assert EndpointPicker(registry_of(1)).pick(REQUEST).seconds == 0

    def test_several_observers(self) -> None:
        """Each hears everything; whether results are kept depends on all of them."""

        @attrs.define
        class Passing(Witness):
            keeps_results = False

        first, last = Passing(), Passing()
        picker = EndpointPicker(registry_of(1), observer=Observers(first, last))
        result = picker.pick(REQUEST)
        with pytest.raises(NoEndpointsError):
            picker.pick(REQUEST, [])
        assert first.results == last.results == [result]
        assert len(first.errors) == len(last.errors) == 1
        assert not picker.observed
        assert not EndpointPicker(registry_of(1), observer=first).observed
        assert EndpointPicker(registry_of(1), observer=Observers(first, Witness())).observed


class TestReservedLoad:
    def test_is_told_by_slot(self) -> None:
        """Pending and in flight, for the fleet of the latest pick."""
        registry = registry_of(1)
        picker = picker_of(registry)
        picker.pick(REQUEST)
        result = picker.pick(REQUEST)
        load = picker.reserved()
        assert load.fleet is registry.snapshot().fleet
        assert list(load.pending) == list(load.in_flight) == [1, 1]
        result.release()
        assert sorted(picker.reserved().in_flight) == [0, 1]
        assert sorted(load.in_flight) == [1, 1]

    def test_before_the_first_pick(self) -> None:
        """There is nothing to tell."""
        load = picker_of(registry_of(1)).reserved()
        assert (len(load.fleet), list(load.pending)) == (0, [])


def test_the_picker_may_have_a_clock_of_its_own() -> None:
    """Times of picks are told by it."""
    assert EndpointPicker(registry_of(1), clock=lambda: 42.0).pick(REQUEST).picked_at == 42


def test_a_pick_that_nobody_gets_counts_for_nothing() -> None:
    """An observer that fails takes the result with it, so its load is taken back."""

    class Failing(Witness):
        def picked(self, result: PickResult) -> None:
            super().picked(result)
            raise KeyError

    observer = Failing()
    picker = EndpointPicker(registry_of(1), observer=observer)
    with pytest.raises(KeyError):
        picker.pick(REQUEST)
    assert (1, 0) == (len(observer.results), picker.statistics().in_flight)


def test_a_subset_is_read_once() -> None:
    """What is no list, changes later, or holds what is no text means the same to the pick and to its explanation."""
    picker = picker_of(registry_of(2))
    hint = ["10.0.0.1"]
    subsets: list[Any] = [iter(hint), hint, [{"a": 1}, *hint]]
    results = [picker.pick(REQUEST, subset) for subset in subsets]
    hint[0] = "10.0.0.2"
    for result in results:
        assert result.endpoint == result.explain().picked.endpoint
        assert "10.0.0.1" == result.endpoint.address


@given(st.integers(0, 2**32))
def test_a_burst_of_one_prompt_spreads(seed: int) -> None:
    """Of 40 requests with one long prompt at once no one of 8 idle endpoints gets more than 8; none is cached."""
    picker = EndpointPicker(registry_of(4), rng=Random(seed))
    prompt = Random(seed).randbytes(8192)

    picks = Counter(picker.pick(InferenceRequest(model="llama", prompt=prompt)).destination for _ in range(40))

    assert 8 >= max(picks.values())
