"""Requests that go elsewhere: endpoints that are excluded, retries, and what is told of how requests end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import permutations
from random import Random
from typing import Any

import attrs
import pytest

from inferencepool.errors import ConfigurationError, EndpointsFilteredError, InferencePoolError, NoEndpointsError
from inferencepool.model import Candidate, Endpoint, EndpointSet, InferenceRequest
from inferencepool.picker import EndpointPicker
from inferencepool.plugins import QueueScorer
from inferencepool.registry import EndpointRegistry, OutlierDetection
from inferencepool.scheduling import PickResult, SchedulingProfile
from inferencepool.testing import ManualClock, make_pod, make_pool

REQUEST = InferenceRequest(model="llama")


@attrs.define
class Listener:
    """A strategy that remembers what it is told, and scores nothing."""

    told: list[tuple[str, PickResult]] = attrs.field(factory=list)

    def affinities(self, _request: InferenceRequest, _snapshot: object) -> dict[float, EndpointSet]:
        """Give nobody anything."""
        return {}

    def picked(self, result: PickResult) -> None:
        """Hear of a pick."""
        self.told.append(("picked", result))

    def released(self, result: PickResult) -> None:
        """Hear of a release."""
        self.told.append(("released", result))


class Last:
    """A picker of its own: takes the last ones."""

    def pick(self, _request: InferenceRequest, scored: list[Any], _rng: Random) -> list[Any]:
        """Take the last one."""
        return scored[-1:]


def picker_of(size: int = 4, *, reserve: bool = True, **profile: Any) -> EndpointPicker:
    """A picker of *size* idle endpoints, that ejects them after two failures in a row."""
    registry = EndpointRegistry(
        make_pool(ports=[8000]),
        clock=ManualClock(),
        publish_interval=0,
        outlier_detection=OutlierDetection(consecutive_gateway_failure=2, max_ejection_time_jitter=0),
    )
    registry.resync([make_pod(f"p{number}", ip=f"10.0.0.{number + 1}") for number in range(size)])
    made = SchedulingProfile(name="short", **{"scorers": [QueueScorer()], **profile})
    return EndpointPicker(registry, profile=made, rng=Random(1), reserve=reserve)


def loads(picker: EndpointPicker) -> int:
    """How much load there is."""
    return sum(picker.reserved().in_flight)


class TestExclude:
    def test_nobody_who_is_excluded_gets_it(self) -> None:
        """By id or as an endpoint; those that do not exist are passed over."""
        picker = picker_of()
        endpoints = picker.registry.endpoints()
        exclude: list[str | Endpoint] = [endpoints[0], endpoints[1].id, "default/nobody-rank-0"]
        for _ in range(9):
            result = picker.pick(REQUEST, exclude=exclude)
            assert result.endpoint in endpoints[2:]
        assert {str(each.endpoint.id): each.reason for each in result.explain().rejected} == {
            endpoints[0].id: "excluded",
            endpoints[1].id: "excluded",
        }
        with pytest.raises(NoEndpointsError, match="all 4 endpoints for the request are excluded"):
            picker.pick(REQUEST, exclude=endpoints)

    def test_a_single_one(self) -> None:
        """One endpoint, or its id, needs no list."""
        picker = picker_of(2)
        first, second = picker.registry.endpoints()
        assert {second} == {picker.pick(REQUEST, exclude=first).endpoint for _ in range(9)}
        assert {second} == {picker.pick(REQUEST, exclude=first.id).endpoint for _ in range(9)}

    def test_it_may_be_read_only_once(self) -> None:
        """A generator will do, with a subset hint that is one as well."""
        picker = picker_of(2)
        ids = (endpoint.id for endpoint in picker.registry.endpoints()[:1])
        hint = (f"10.0.0.{number}" for number in (1, 2))
        assert picker.pick(REQUEST, hint, ids).endpoint.pod_name == "p1"


def _early(keep: Callable[[Endpoint], bool]) -> Any:
    class Early:
        def keep(self, endpoint: Endpoint) -> bool:
            return keep(endpoint)

    return Early()


def _plain(keep: Callable[[Endpoint], bool]) -> Any:
    class Plain:
        def filter(self, _request: InferenceRequest, candidates: list[Candidate]) -> list[Candidate]:
            return [each for each in candidates if keep(each.endpoint)]

    return Plain()


def _late(keep: Callable[[Endpoint], bool]) -> Any:
    class Late:
        def narrow(self, _request: InferenceRequest, candidates: Any) -> EndpointSet:
            fleet = candidates.snapshot.fleet
            members: EndpointSet = candidates.members
            return members & sum(1 << slot for slot in range(len(fleet.endpoints)) if keep(fleet.at(slot)))

    return Late()


PROFILES: dict[str, dict[str, Any]] = {
    "by load": {},
    "with fallbacks": {"max_num_of_endpoints": 3},
    "with an endpoint filter": {"filters": [_early(lambda each: each.pod_name != "p3")]},
    "with a plain filter": {"filters": [_plain(lambda each: each.pod_name != "p3")]},
    "with a set filter": {"filters": [_late(lambda each: each.pod_name != "p3")]},
    "with a picker of its own": {"picker": Last()},
}


class TestRetry:
    @pytest.mark.parametrize("reserve", [True, False])
    @pytest.mark.parametrize("profile", PROFILES)
    def test_all_are_tried_once_and_the_load_moves_with_the_request(self, profile: str, reserve: bool) -> None:
        """Filters hold for every try; when nobody is left, nothing is."""
        listener = Listener()
        options = PROFILES[profile]
        picker = picker_of(reserve=reserve, **{**options, "scorers": [QueueScorer(), listener]})
        result = picker.pick(REQUEST)
        tried = [result]
        with suppress(NoEndpointsError, EndpointsFilteredError):
            while len(tried) < 9:
                assert loads(picker) == reserve
                assert result.endpoint not in result.fallbacks
                result = result.retry("reset")
                tried.append(result)
        names = [each.endpoint.pod_name for each in tried]
        assert sorted(names) == ["p0", "p1", "p2", "p3"][: 3 if "filter" in profile else 4]
        assert all(each.released for each in tried)
        assert loads(picker) == 0
        # Each is picked before the one before it is told to be over, and each once.
        ends = [each for event, each in listener.told if event == "released"]
        assert ends == tried
        assert [each for event, each in listener.told if event == "picked"] == tried

    def test_a_subset_holds_for_every_try(self) -> None:
        """Also where it could be read only once."""
        picker = picker_of()
        result = picker.pick(REQUEST, (f"10.0.0.{number}" for number in (2, 3)))
        again = result.retry("reset")
        assert {result.endpoint.pod_name, again.endpoint.pod_name} == {"p1", "p2"}
        with pytest.raises(NoEndpointsError):
            again.retry("reset")

    def test_failures_are_reported_once_each(self) -> None:
        """A retry says that the endpoint failed; what is said of the result afterwards comes too late."""
        picker = picker_of(2)
        result = picker.pick(REQUEST)
        again = result.retry("reset")
        for _ in range(5):
            result.failed("reset")
            with pytest.raises(InferencePoolError, match="it is over"):
                result.retry("reset")
        assert picker.registry.health.ejections() == ()
        again.succeeded()

    def test_an_observer_hears_of_every_try(self) -> None:
        """It may say something of the result that is being retried, and that comes too late as well."""
        results: list[PickResult] = []

        class Observer:
            def picked(self, result: PickResult) -> None:
                if results:
                    results[-1].cancelled()
                results.append(result)

            def refused(self, _request: InferenceRequest, _error: InferencePoolError) -> None:
                results.append(results[-1])

        registry = picker_of(2).registry
        picker = EndpointPicker(registry, observer=Observer(), rng=Random(1))
        result = picker.pick(REQUEST)
        again = result.retry(502)
        assert results == [result, again]
        with pytest.raises(NoEndpointsError):
            again.retry(502)
        assert len(results) == 3
        assert picker.statistics().in_flight == 0

    def test_a_try_that_nobody_gets_leaves_no_load(self) -> None:
        """An observer that fails keeps the new result from the caller: both are over."""
        calls = []

        class Observer:
            def picked(self, result: PickResult) -> None:
                calls.append(result)
                if len(calls) > 1:
                    raise OSError(28, "no place")

            def refused(self, _request: InferenceRequest, _error: InferencePoolError) -> None:
                raise AssertionError

        picker = EndpointPicker(picker_of(3).registry, observer=Observer(), rng=Random(1))
        result = picker.pick(REQUEST)
        with pytest.raises(OSError, match="no place"):
            result.retry("reset")
        assert result.released
        assert picker.statistics().in_flight == 0

    def test_where_the_others_are_ejected_they_are_tried_all_the_same(self) -> None:
        """Better than nobody."""
        picker = picker_of(3)
        for _ in range(2):
            picker.pick(REQUEST, ["10.0.0.1"]).failed("reset")
        result = picker.pick(REQUEST)
        tried = [result.endpoint.pod_name]
        for _ in range(2):
            result = result.retry("reset")
            tried.append(result.endpoint.pod_name)
        assert tried[-1] == "p0"

    def test_a_result_that_let_go_of_its_request_cannot(self) -> None:
        """It can still be ended."""
        picker = picker_of()
        result = picker.pick(REQUEST)
        result.detach()
        with pytest.raises(InferencePoolError, match="PickResult, detached"):
            result.retry("reset")
        result.failed("reset")
        assert loads(picker) == 0

    def test_without_its_picker_there_is_nothing_to_pick_by(self) -> None:
        """Results do not keep it; the load is over with it."""
        picker = picker_of()
        result = picker.pick(REQUEST)
        del picker
        with pytest.raises(InferencePoolError, match="the picker is gone"):
            result.retry("reset")
        assert result.released


ENDS: dict[str, Callable[[PickResult], object]] = {
    "failed": lambda result: result.failed("reset"),
    "succeeded": PickResult.succeeded,
    "cancelled": PickResult.cancelled,
    "released": PickResult.release,
}


class TestPassedOn:
    @pytest.mark.parametrize("served", [0, None])
    def test_a_response_that_began_moves_no_load(self, served: int | None) -> None:
        """Else its beginning would be taken back where it was never counted."""
        picker = picker_of(max_num_of_endpoints=3)
        result = picker.pick(REQUEST)
        slot = result.slot
        result.started()
        result.passed_on(1, served)
        assert result.slot == slot
        result.release()
        assert picker._scheduler.awaited()[1] == [0, 0, 0, 0]

    @pytest.mark.parametrize(("failed", "served"), [(1, 2), (1, -1), (-1, 0), (0, 99)])
    def test_numbers_that_name_nobody_are_refused(self, failed: int, served: int) -> None:
        """Nothing is done then."""
        picker = picker_of(max_num_of_endpoints=3)
        result = picker.pick(REQUEST)
        slot = result.slot
        with pytest.raises(ConfigurationError, match="0 to below 2"):
            result.passed_on(failed, served)
        assert (result.slot, result.released, loads(picker)) == (slot, False, 1)


class TestEnds:
    @pytest.mark.parametrize("order", list(permutations(ENDS, 2)))
    @pytest.mark.parametrize("started", [(), (0,), (1,), (0, 1, 2)])
    @pytest.mark.parametrize("reserve", [True, False])
    def test_the_first_one_counts(self, order: tuple[str, str], started: tuple[int, ...], reserve: bool) -> None:
        """In whatever order, twice, and with its beginning told before, between or after."""
        picker = picker_of(1, reserve=reserve)
        for _ in range(2):
            result = picker.pick(REQUEST)
            for place, end in enumerate([*order, order[0], order[1]]):
                for _ in range(started.count(place)):
                    result.started()
                    result.started()
                ENDS[end](result)
                assert result.released
                assert loads(picker) == 0
        assert bool(picker.registry.health.ejections()) is (order[0] == "failed")

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, None])
    def test_a_context_that_is_left(self, error: type[BaseException] | None) -> None:
        """By an exception: nobody knows whose fault it is. What was said within counts."""
        picker = picker_of(1)
        for _ in range(2):
            with pytest.raises(error) if error else picker.pick(REQUEST), picker.pick(REQUEST):
                if error:
                    raise error
        assert picker.registry.health.ejections() == ()
        for _ in range(2):
            with picker.pick(REQUEST) as result:
                result.failed("reset")
        assert len(picker.registry.health.ejections()) == 1
        assert loads(picker) == 0

    @pytest.mark.parametrize("end", ["failed", "succeeded"])
    def test_a_result_that_let_go_of_its_request_still_tells(self, end: str) -> None:
        """What is kept for minutes is small, and says as much in the end."""
        picker = picker_of(1)
        for _ in range(2):
            result = picker.pick(REQUEST)
            result.detach()
            ENDS[end](result)
        assert bool(picker.registry.health.ejections()) is (end == "failed")


class TestExplained:
    def test_it_names_who_is_ejected_and_why_and_who_probes(self) -> None:
        """Whoever asks why a request did not go there finds the reason; and why it went there all the same."""
        picker = picker_of(2)
        for _ in range(2):
            picker.pick(REQUEST, ["10.0.0.1"]).failed("reset")
        explanation = picker.pick(REQUEST).explain()
        assert [(each.endpoint.pod_name, each.reason) for each in explanation.rejected] == [
            ("p0", "ejected: consecutive-gateway-failure (reset)")
        ]
        assert "ejected: consecutive-gateway-failure (reset)" in str(explanation)
        only = picker.pick(REQUEST, ["10.0.0.1"]).explain()
        assert only.candidates[0].notes == ("ejected: consecutive-gateway-failure (reset)",)
        clock = picker.registry.clock
        assert isinstance(clock, ManualClock)
        clock.advance(2)
        probe = picker.pick(REQUEST).explain()
        assert probe.candidates[0].endpoint.pod_name == "p0"
        assert probe.candidates[0].notes == ("ejected, to be probed: consecutive-gateway-failure (reset)",)
