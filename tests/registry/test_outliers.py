"""Passive health: which endpoints are ejected by what came back from them, and when they are back."""

from __future__ import annotations

from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.model import EjectionReason, EndpointMetrics, InferenceRequest
from inferencepool.registry import EjectionChange, StaleMetrics, Staleness
from inferencepool.scheduling import PickResult
from tests.registry.ejecting import REQUEST, Fleet, step_clock


class TestEjection:
    @pytest.mark.parametrize(
        ("reason", "expected"),
        [
            (500, "consecutive-5xx"),
            ("reset", "consecutive-gateway-failure"),
            (502, "consecutive-gateway-failure"),
            (429, "busy"),
            (503, "consecutive-gateway-failure"),
        ],
    )
    def test_who_fails_in_a_row_is_avoided_and_probed_by_one_request(self, reason: str | int, expected: str) -> None:
        """It gets nothing until its time is over; then one request, though it is idle; and all when that is served."""
        fleet = Fleet()
        fleet.fail(0, reason=reason)
        assert fleet.ejected() == {fleet.id_of(0): expected}
        assert fleet.asked() == {"p1", "p2", "p3"}
        fleet.clock.advance(fleet.ejection().until - fleet.clock())
        probe = fleet.picker.pick(REQUEST)
        assert probe.endpoint.pod_name == "p0"
        assert fleet.asked() == {"p1", "p2", "p3"}
        probe.succeeded()
        assert not fleet.ejected()
        assert fleet.asked() == {"p0", "p1", "p2", "p3"}

    def test_two_pickers_of_a_registry_probe_once(self) -> None:
        """Whoever comes second goes elsewhere, also when it picks from the same snapshot."""
        fleet = Fleet()
        other = fleet.another_picker()
        fleet.fail(0)
        fleet.clock.advance(2)
        assert fleet.picker.pick(REQUEST).endpoint.pod_name == "p0"
        assert other.pick(REQUEST).endpoint.pod_name != "p0"

    def test_a_probe_has_fallbacks(self) -> None:
        """Where it fails, Envoy goes on elsewhere."""
        fleet = Fleet()
        picker = fleet.another_picker(most=3)
        fleet.fail(0)
        fleet.clock.advance(2)
        probe = picker.pick(REQUEST)
        assert probe.endpoint.pod_name == "p0"
        assert len({each.pod_name for each in probe.fallbacks} - {"p0"}) == 2

    def test_a_slow_probe_counts_when_it_is_served(self) -> None:
        """Others probe meanwhile, as nothing came of it; its success is a success all the same."""
        fleet = Fleet()
        fleet.fail(0)
        fleet.clock.advance(2)
        slow = fleet.picker.pick(REQUEST)
        fleet.clock.advance(10)
        assert fleet.picker.pick(REQUEST).endpoint.pod_name == "p0"
        slow.started()
        assert not fleet.ejected()

    def test_each_ejection_is_longer_than_the_one_before(self) -> None:
        """Up to the longest; and windows without one make the next one shorter again."""
        fleet = Fleet()
        fleet.fail(0)
        seconds = []
        for _ in range(6):
            seconds.append(fleet.ejection().until - fleet.clock())
            fleet.clock.advance(seconds[-1])
            fleet.picker.pick(REQUEST).failed(500)
        assert seconds == [2, 4, 6, 8, 8, 8]
        fleet.clock.advance(8)
        fleet.picker.pick(REQUEST).succeeded()
        for _ in range(100):
            fleet.clock.advance(1)
            fleet.serve(0, 1)
        fleet.fail(0)
        assert fleet.ejection().until - fleet.clock() == 2

    def test_what_was_picked_before_ends_nothing(self) -> None:
        """Nor does it lengthen anything."""
        fleet = Fleet()
        before = [fleet.pick_at(0), fleet.pick_at(0)]
        fleet.fail(0)
        ejection = fleet.ejection()
        before[0].succeeded()
        before[1].failed(500)
        assert fleet.ejection() == ejection

    def test_answers_that_begin_well_and_break_off_are_failures_in_a_row(self) -> None:
        """A server that sends its headers and dies over the work serves nobody."""
        fleet = Fleet()
        for _ in range(5):
            result = fleet.pick_at(0)
            result.started()
            result.failed("reset")
        assert fleet.ejected() == {fleet.id_of(0): "consecutive-gateway-failure"}

    def test_changes_are_told_once(self) -> None:
        """An ejection that goes on is none that began; a listener that fails keeps it from nobody."""
        fleet = Fleet()
        fleet.health.subscribe(lambda _: 1 / 0)
        later: list[EjectionChange] = []
        unsubscribe = fleet.health.subscribe(later.append)
        fleet.fail(0, 20)
        fleet.clock.advance(2)
        fleet.picker.pick(REQUEST).succeeded()
        assert [(change.endpoint.id, change.began) for change in fleet.changes] == [
            (fleet.id_of(0), True),
            (fleet.id_of(0), False),
        ]
        assert later == fleet.changes
        unsubscribe()
        fleet.fail(0)
        assert len(later) == 2
        assert fleet.health.counts() == {EjectionReason.CONSECUTIVE_5XX: 2}

    def test_without_rules_nothing_is_done(self) -> None:
        """Nobody is ejected, whatever comes back."""
        fleet = Fleet(rules=None)
        fleet.fail(0, 50)
        assert fleet.ejected() == {}
        assert fleet.registry.snapshot().avoided == 0


class TestManyAreIll:
    @pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
    def test_no_more_than_the_share_is_ejected_and_all_are_used_when_all_fail(self, size: int) -> None:
        """One always may be. Where the others fail as well, it is not they who are ill."""
        fleet = Fleet(size)
        for number in range(size):
            fleet.fail(number, 20)
            assert len(fleet.ejected()) == min(max(1, size // 2), number + 1)
        assert len(fleet.asked()) == size
        # One of those that were spared works: it is used, and the ejected ones are not.
        spared = [number for number in range(size) if fleet.id_of(number) not in fleet.ejected()]
        fleet.serve(*spared[-1:])
        assert len(fleet.asked()) == (size if size == 1 else size - size // 2 if size > 1 else 1)

    def test_a_fleet_that_shrinks_keeps_the_share(self) -> None:
        """Those that would be probed first are back first."""
        fleet = Fleet(8)
        for number in range(4):
            fleet.fail(number)
            fleet.clock.advance(0.1)
        for number in range(4, 8):
            fleet.registry.delete_pod("default", f"p{number}")
        fleet.registry.publish()
        assert fleet.ejected().keys() == {fleet.id_of(2), fleet.id_of(3)}

    def test_who_fails_is_avoided_where_the_others_are_busy(self) -> None:
        """Answers that come fast must not attract, least of all when the fleet is full."""
        fleet = Fleet()
        fleet.fail(0, reason="reset")
        for number in (1, 2, 3):
            fleet.fail(number, 1, 429)
        assert len(fleet.ejected()) == 4
        assert fleet.asked() == {"p1", "p2", "p3"}
        fleet.clock.advance(fleet.ejection(0).until - fleet.clock())
        assert fleet.asked() >= {"p1", "p2", "p3"}

    def test_who_is_to_be_probed_gets_one_request_where_the_others_are_busy(self) -> None:
        """The others go to those that are busy."""
        fleet = Fleet()
        fleet.fail(0, reason="reset")
        fleet.clock.advance(1.5)
        for number in (1, 2, 3):
            fleet.fail(number, 1, 429)
        fleet.clock.advance(0.5)
        picked = [fleet.picker.pick(REQUEST).endpoint.pod_name for _ in range(9)]
        assert picked.count("p0") == 1

    @pytest.mark.parametrize("policy", list(StaleMetrics))
    def test_stale_ones_are_used_before_those_that_fail(self, policy: StaleMetrics) -> None:
        """Whatever is done with stale metrics, an endpoint that fails is worse."""
        fleet = Fleet(3, staleness=Staleness(threshold=5, policy=policy))
        for number in (0, 1, 2):
            fleet.registry.observe_metrics(fleet.id_of(number), EndpointMetrics())
        fleet.clock.advance(4)
        fleet.registry.observe_metrics(fleet.id_of(0), EndpointMetrics())
        fleet.clock.advance(2)
        fleet.fail(0)
        assert fleet.asked() == {"p1", "p2"}


class TestBusy:
    def test_it_is_left_alone_for_as_long_as_it_asks(self) -> None:
        """But no longer than the longest; a wait that is none is passed over."""
        fleet = Fleet()
        for wait, expected in ((20, 20), (1e9, 30), (float("nan"), 30), (-1, 30)):
            fleet.pick_at(0).failed(429, retry_after=wait)
            assert fleet.ejection().until - fleet.clock() == expected

    @pytest.mark.parametrize("moment", [1000 + 0.137 * number for number in range(50)])
    def test_the_longest_wait_is_waited_whatever_the_time(self, moment: float) -> None:
        """Also where a snapshot is published at the same moment, and the sum of the times is inexact."""
        fleet = Fleet()
        fleet.clock.advance(moment - fleet.clock())
        fleet.pick_at(0).failed(429, retry_after=30)
        fleet.registry.publish()
        assert fleet.ejection().until - moment == pytest.approx(30)

    def test_under_overload_the_log_is_quiet(self) -> None:
        """Every third request is refused, everywhere: changes go by ejections, not by requests."""
        fleet, rng = Fleet(), Random(3)
        for _ in range(6000):
            fleet.clock.advance(0.01)
            result = fleet.picker.pick(REQUEST)
            result.failed(429) if rng.random() < 1 / 3 else result.succeeded()
        # A minute has room for 60 / (2 + 4 + 6 + 8 + 8 ...) ejections of each of four.
        assert len(fleet.changes) <= 2 * 4 * 12

    @given(st.lists(st.sampled_from([400, 403, 404, 405, 422]), min_size=1), st.integers(1, 5))
    def test_a_client_ejects_nobody_by_requests_that_are_wrong(self, statuses: list[int], size: int) -> None:
        """Where all endpoints answer alike: whatever 4xx they are, with a model that nobody has, and with others."""
        fleet = Fleet(size)
        for status in statuses * 10:
            fleet.clock.advance(0.3)
            for number in range(size):
                fleet.pick_at(number).failed(status)
        assert not fleet.changes

    def test_who_alone_calls_requests_wrong_is_ejected(self) -> None:
        """What was counted before counts no more when a probe was served."""
        fleet = Fleet()
        for _ in range(12):
            fleet.fail(0, 1, 400)
            fleet.serve(1, 2, 3)
        fleet.clock.advance(1)
        fleet.serve(1)
        fleet.registry.publish()
        assert fleet.ejected() == {fleet.id_of(0): "client-errors"}
        fleet.clock.advance(2)
        fleet.picker.pick(REQUEST).succeeded()
        for _ in range(5):
            fleet.clock.advance(1)
            fleet.serve(0, 1, 2, 3)
        assert not fleet.ejected()


class TestModels:
    def test_who_lost_a_model_is_avoided_for_it_alone(self) -> None:
        """Others serve it: three times in a row are no chance."""
        fleet = Fleet()
        fleet.serve(1, 2)
        fleet.fail(0, 3, 404)
        assert fleet.ejected() == {fleet.id_of(0): "model-not-found"}
        assert fleet.asked() == {"p1", "p2", "p3"}
        assert fleet.pick_at(0, InferenceRequest(model="other")).endpoint.pod_name == "p0"
        result = fleet.picker.pick(REQUEST)
        assert "ejected: model-not-found for model llama" in str(result.explain().rejected)
        fleet.clock.advance(2)
        fleet.picker.pick(REQUEST).succeeded()
        assert not fleet.ejected()

    def test_who_has_the_model_but_is_busy_comes_before_who_lacks_it(self) -> None:
        """A 404 never becomes an answer by itself."""
        fleet = Fleet(2)
        fleet.serve(1)
        fleet.fail(0, 3, 404)
        fleet.fail(1, 1, 429)
        assert fleet.asked() == {"p1"}

    def test_names_that_nobody_has_leave_nothing(self) -> None:
        """A client that asks for ever new names ejects nobody and fills no memory."""
        fleet = Fleet()
        fleet.serve(0, 1, 2, 3)
        for number in range(3000):
            fleet.pick_at(number % 4, InferenceRequest(model=f"none {number}")).failed(404)
        assert not fleet.changes
        assert not fleet.health._outliers._missed

    def test_models_are_bounded(self) -> None:
        """Servers that take any name for a model make neither more ejections nor more memory than is stated."""
        fleet = Fleet(2)
        for number in range(3000):
            request = InferenceRequest(model=f"any {number}")
            fleet.serve(1, request=request)
            for _ in range(3):
                fleet.pick_at(0, request).failed(404)
            fleet.clock.advance(0.01)
        outliers = fleet.health._outliers
        assert len(fleet.ejected()) <= 256
        assert sum(bool(ejection.model) for _, ejection in fleet.health.ejections()) == 256
        assert len(outliers._missed) <= 1024
        assert len(outliers._served) <= 1024 + 1000


class TestStalled:
    def stall(self, fleet: Fleet, seconds: int = 7, *, others: bool = True, **metrics: Any) -> PickResult:
        """The first endpoint holds a request and gives nothing back; the others do, if *others*."""
        held = fleet.pick_at(0)
        fleet.serve(*range(1, 4))
        for second in range(seconds):
            for number in range(4):
                told = {name: tell(second) for name, tell in metrics.items()} if number == 0 else {}
                fleet.registry.observe_metrics(fleet.id_of(number), EndpointMetrics(**told))
            if others:
                fleet.serve(*range(1, 4))
            fleet.registry.publish()
            fleet.clock.advance(1)
        fleet.registry.publish()
        return held

    def test_silence_where_others_answer_ejects_until_anything_comes_back(self) -> None:
        """Also when it is the end of what it holds that comes; a client that ends its patience is no sign of life."""
        fleet = Fleet()
        held = self.stall(fleet)
        assert fleet.ejected() == {fleet.id_of(0): "stalled"}
        other = fleet.pick_at(0)
        other.failed("timeout")
        assert fleet.ejected() == {fleet.id_of(0): "stalled"}
        held.failed(500)
        assert fleet.ejected() == {}

    def test_more_that_wait_is_no_work(self) -> None:
        """A stuck engine's queue grows with what it is sent."""
        fleet = Fleet()
        self.stall(fleet, waiting_queue_size=lambda second: second, observed_at=lambda second: 1000.0 + second)
        assert fleet.ejected() == {fleet.id_of(0): "stalled"}

    @pytest.mark.parametrize(
        "metrics",
        [
            {"kv_cache_usage": lambda second: second / 10},
            {"waiting_queue_size": lambda second: 10 - second},
            {"running_requests": lambda second: second % 2},
        ],
        ids=["cache", "queue", "running"],
    )
    def test_metrics_that_move_are_work(self, metrics: dict[str, Any]) -> None:
        """Long answers take their time."""
        fleet = Fleet()
        self.stall(fleet, **metrics)
        assert fleet.ejected() == {}

    def test_nobody_is_ejected_where_all_are_silent(self) -> None:
        """Answers may take long; nobody shows that they do not."""
        fleet = Fleet()
        self.stall(fleet, 30, others=False)
        assert fleet.ejected() == {}

    def test_an_answer_that_began_is_no_silence(self) -> None:
        """It may stream for minutes."""
        fleet = Fleet()
        fleet.pick_at(0).started()
        for _ in range(9):
            fleet.serve(1, 2, 3)
            fleet.registry.publish()
            fleet.clock.advance(1)
        assert fleet.ejected() == {}

    @pytest.mark.parametrize("seconds", [3600.0, -3600.0])
    def test_a_clock_that_steps_is_no_silence(self, seconds: float) -> None:
        """Nor is a pause in which nobody looked."""
        fleet = Fleet()
        fleet.pick_at(0)
        for step in (1, seconds, 1):
            fleet.serve(1, 2, 3)
            fleet.registry.publish()
            fleet.clock = step_clock(fleet, step)
        fleet.serve(1, 2, 3)
        fleet.registry.publish()
        assert fleet.ejected() == {}

    def test_a_pod_that_was_away_was_not_silent_meanwhile(self) -> None:
        """It held a request when it went; the one that it holds since it is back waits for two seconds."""
        fleet = Fleet()
        fleet.serve(1, 2, 3)
        for seconds, pods in ((3, fleet.pods), (20, fleet.pods[1:]), (2, fleet.pods)):
            fleet.registry.resync(pods)
            if pods is fleet.pods:
                fleet.pick_at(0)
            for _ in range(seconds):
                fleet.clock.advance(1)
                fleet.serve(1, 2, 3)
        assert fleet.ejected() == {}

    def test_it_is_found_where_metrics_and_membership_stand_still(self) -> None:
        """A gateway without a scraper: outcomes alone make it look."""
        fleet = Fleet()
        fleet.pick_at(0)
        for _ in range(80):
            fleet.clock.advance(0.1)
            fleet.serve(1, 2)
        assert fleet.ejected() == {fleet.id_of(0): "stalled"}


class TestSuccessRate:
    @pytest.mark.parametrize(("failed", "expected"), [(1, False), (30, True)])
    def test_far_fewer_successes_than_elsewhere_eject(self, failed: int, expected: bool) -> None:
        """A single failure is within what happens, even where there is no other."""
        fleet = Fleet(6)
        fleet.serve(0)
        fleet.registry.publish()
        for number in range(6):
            for index in range(120):
                if number == 0 and index % (120 // failed) == 1:
                    fleet.fail(number, 1)
                else:
                    fleet.serve(number)
        fleet.clock.advance(11)
        fleet.serve(1)
        fleet.registry.publish()
        assert bool(fleet.ejected()) is expected


class TestMembership:
    def test_a_pod_that_comes_back_is_as_ill_as_it_was(self) -> None:
        """While it is away nobody is listed; by another uid it is another pod."""
        fleet = Fleet()
        fleet.fail(0)
        before = fleet.ejection()
        fleet.registry.upsert_pod(attrs.evolve(fleet.pods[0], ready=False))
        fleet.registry.publish()
        assert fleet.ejected() == {}
        fleet.registry.upsert_pod(fleet.pods[0])
        fleet.registry.publish()
        assert fleet.ejection() == before
        fleet.registry.upsert_pod(attrs.evolve(fleet.pods[0], uid="another"))
        fleet.registry.publish()
        assert fleet.ejected() == {}
        assert fleet.asked() == {"p0", "p1", "p2", "p3"}

    def test_what_comes_late_of_a_pod_that_is_gone_is_not_its_successors(self) -> None:
        """The slot's occupant is another one."""
        fleet = Fleet()
        late = [fleet.pick_at(0) for _ in range(9)]
        fleet.registry.upsert_pod(attrs.evolve(fleet.pods[0], uid="another"))
        fleet.registry.publish()
        for result in late:
            result.failed(500)
        assert fleet.ejected() == {}

    @pytest.mark.parametrize("end", ["failed", "succeeded"])
    def test_a_pod_that_goes_while_its_failure_is_reported_leaves_it_to_nobody(self, end: str) -> None:
        """Between the look at the pod's number and the counting another one may get its slot."""
        fleet = Fleet(1)
        result = fleet.pick_at(0)
        time = fleet.clock()
        another, heir = [attrs.evolve(pod, uid=f"another {pod.uid}") for pod in Fleet(2).pods]

        def replace() -> float:
            fleet.health._clock = fleet.clock
            for pods in ([another], [another, heir]):
                fleet.registry.resync(pods)
                fleet.registry.publish()
            return time

        fleet.health._clock = replace
        result.failed(429) if end == "failed" else result.succeeded()
        assert result.slot == fleet.pick_at(1).slot
        assert fleet.ejected() == {}
        assert result.slot not in fleet.health._outliers._tallies

    def test_a_container_that_restarted_is_probed_at_once(self) -> None:
        """What it did before says nothing."""
        fleet = Fleet()
        fleet.fail(0)
        fleet.registry.upsert_pod(attrs.evolve(fleet.pods[0], restarts=1))
        probe = fleet.picker.pick(REQUEST)
        assert probe.endpoint.pod_name == "p0"
        assert fleet.asked() == {"p1", "p2", "p3"}
        probe.succeeded()
        assert fleet.ejected() == {}

    def test_endpoints_of_a_pod_are_ill_each_for_itself(self) -> None:
        """One port may be served by a process that hangs, and the other not."""
        fleet = Fleet(2, ports=2)
        fleet.fail(0)
        assert fleet.ejected() == {fleet.id_of(0, 0): "consecutive-5xx"}
        picked = {fleet.picker.pick(REQUEST).endpoint.id for _ in range(20)}
        assert picked == {fleet.id_of(0, 1), fleet.id_of(1, 0), fleet.id_of(1, 1)}


class TestClocks:
    def test_a_clock_that_steps_back_keeps_nobody_ejected(self) -> None:
        """No ejection lasts longer than the longest from then on."""
        fleet = Fleet()
        fleet.fail(0)
        step_clock(fleet, -900)
        fleet.serve(1)
        fleet.registry.publish()
        fleet.clock.advance(8)
        probe = fleet.picker.pick(REQUEST)
        assert probe.endpoint.pod_name == "p0"
        probe.succeeded()
        assert fleet.ejected() == {}

    def test_a_clock_that_steps_forward_lets_it_be_probed(self) -> None:
        """The ejection is over, and one request finds out."""
        fleet = Fleet()
        fleet.fail(0)
        step_clock(fleet, 86_400)
        assert fleet.picker.pick(REQUEST).endpoint.pod_name == "p0"

    def test_an_endpoint_that_flaps_every_second_is_ejected_half_of_the_time_at_least(self) -> None:
        """Its requests fail in every other second: ejections grow, and most of what it would fail goes elsewhere."""
        fleet = Fleet()
        failures = 0
        for step in range(6000):
            fleet.clock.advance(0.01)
            result = fleet.picker.pick(REQUEST)
            if result.endpoint.pod_name == "p0" and step // 100 % 2:
                result.failed("reset")
                failures += 1
            else:
                result.succeeded()
        assert failures <= 6 * 12


def test_where_all_are_well_nothing_is_published() -> None:
    """Endpoints are looked at once a second; a snapshot that tells nothing new would be ranked for nothing."""
    fleet = Fleet()
    fleet.serve(0, 1, 2, 3)
    before = fleet.registry.snapshot()
    for _ in range(300):
        fleet.clock.advance(0.1)
        fleet.serve(0, 1, 2, 3)
    assert fleet.registry.snapshot() is before
