"""The registry, example by example."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from math import inf, nan
from threading import Thread

import attrs
import pytest

from inferencepool.errors import ConfigurationError, NoEndpointsError, UnknownEndpointError
from inferencepool.model import Endpoint, EndpointMetrics, InferencePool, InferenceRequest, Pod
from inferencepool.picker import EndpointPicker
from inferencepool.registry import (
    Change,
    EndpointRegistry,
    MembershipChange,
    MetricsObserved,
    PodDeleted,
    PodsListed,
    PodUpserted,
    PoolChanged,
)
from inferencepool.testing import ManualClock, make_pod, make_pool
from tests.patience import PATIENCE

POD_A = make_pod("a", ip="10.0.0.1", labels={"app": "llama"})
POD_B = make_pod("b", ip="10.0.0.2", labels={"app": "llama"})
IDLE = EndpointMetrics()


def registry_of(
    pods: Iterable[Pod] = (), *, ports: Iterable[int] = (8000,), clock: Callable[[], float] | None = None
) -> EndpointRegistry:
    """A registry of a pool that selects ``app=llama``, published."""
    pool = make_pool(selector="app=llama", ports=ports)
    registry = EndpointRegistry(pool, clock=clock or ManualClock())
    registry.resync(pods)
    registry.publish()
    return registry


def destinations(registry: EndpointRegistry) -> dict[str, str]:
    """Publish; destination by endpoint id."""
    registry.publish()
    return {endpoint.id: endpoint.destination for endpoint in registry.endpoints()}


class TestMembership:
    def test_a_pod_comes_and_goes(self) -> None:
        """Upsert makes an endpoint, delete takes it away, and both say whether they changed anything."""
        registry = registry_of()
        assert registry.upsert_pod(POD_A)
        assert destinations(registry) == {"default/a-rank-0": "10.0.0.1:8000"}
        assert registry.delete_pod("default", "a")
        assert destinations(registry) == {}
        assert not registry.delete_pod("default", "a")

    def test_a_pod_of_another_application_is_none(self) -> None:
        """A pod that the selector does not match is known, and has no endpoint."""
        registry = registry_of()
        assert not registry.upsert_pod(make_pod("x", labels={"app": "other"}))
        assert registry.statistics().pods == 1
        assert len(registry.publish()) == 0

    @pytest.mark.parametrize(
        "broken",
        [
            attrs.evolve(POD_A, ready=False),
            attrs.evolve(POD_A, deletion_timestamp="2026-01-01T00:00:00Z"),
            attrs.evolve(POD_A, ip=None),
            attrs.evolve(POD_A, labels={}),
        ],
    )
    def test_a_member_that_stops_being_one_goes(self, broken: Pod) -> None:
        """A pod that is no longer ready, is being deleted, lost its address or its labels has no endpoint."""
        registry = registry_of([POD_A])
        assert registry.upsert_pod(broken)
        assert destinations(registry) == {}

    def test_resync_settles_what_exists(self) -> None:
        """Pods that are not on the list are gone, others stay where they are."""
        registry = registry_of([POD_A, POD_B])
        slot = registry.snapshot().fleet.by_id["default/b-rank-0"]
        assert registry.resync([POD_B, attrs.evolve(POD_B, name="c", ip="10.0.0.3")])
        assert destinations(registry) == {"default/b-rank-0": "10.0.0.2:8000", "default/c-rank-0": "10.0.0.3:8000"}
        assert slot == registry.snapshot().fleet.by_id["default/b-rank-0"]

    def test_a_pool_that_is_not_known_has_no_endpoints(self) -> None:
        """Pods wait for their pool, and lose their endpoints with it."""
        registry = EndpointRegistry(clock=ManualClock())
        assert not registry.upsert_pod(POD_A)
        pool = make_pool()
        assert registry.set_pool(pool)
        assert registry.pool is pool
        assert len(destinations(registry)) == 1
        assert registry.set_pool(None)
        assert destinations(registry) == {}
        assert EndpointRegistry().pool is None

    def test_a_changed_selector_judges_known_pods_again(self) -> None:
        """A pod that was none before becomes a member, and the other way round."""
        other = make_pod("x", ip="10.0.0.9", labels={"app": "other"})
        registry = registry_of([POD_A, other])
        assert registry.set_pool(make_pool(selector="app=other"))
        assert destinations(registry) == {"default/x-rank-0": "10.0.0.9:8000"}

    def test_a_pool_and_its_pods_change_in_one_step(self) -> None:
        """Another selector with the pods that it matches: nobody sees the one without the other."""
        registry = registry_of([POD_A])
        other = make_pod("x", ip="10.0.0.9", labels={"app": "other"})
        told: list[MembershipChange] = []
        registry.subscribe(told.append)
        assert registry.apply(PoolChanged(make_pool(selector="app=other"), (other,)))

        assert [(("default/x-rank-0",), ("default/a-rank-0",))] == [
            (tuple(each.id for each in change.added), tuple(each.id for each in change.removed)) for change in told
        ]
        assert 1 == registry.statistics().pods

    def test_never_empty_between_two_pods(self) -> None:
        """Where the only endpoint of the snapshot goes and another is there, it can be picked before it is due."""
        registry = registry_of([POD_A])
        registry.upsert_pod(POD_B)
        assert ("default/a-rank-0",) == tuple(endpoint.id for endpoint in registry.endpoints())
        registry.delete_pod("default", "a")

        assert ("default/b-rank-0",) == tuple(endpoint.id for endpoint in registry.endpoints())

    @pytest.mark.parametrize(
        ("before", "after", "expected"),
        [
            ([1, 2], [1], {"default/a-rank-0": "10.0.0.1:1"}),
            ([1], [1, 2], {"default/a-rank-0": "10.0.0.1:1", "default/a-rank-1": "10.0.0.1:2"}),
            ([1, 2], [2, 1], {"default/a-rank-0": "10.0.0.1:2", "default/a-rank-1": "10.0.0.1:1"}),
        ],
        ids=["shrink", "grow", "reorder"],
    )
    def test_changed_ports_judge_known_pods_again(
        self, before: list[int], after: list[int], expected: dict[str, str]
    ) -> None:
        """Ranks come and go with the ports; in another order the ids stay and the destinations swap."""
        registry = registry_of([POD_A], ports=before)
        assert registry.set_pool(make_pool(selector="app=llama", ports=after))
        assert destinations(registry) == expected

    def test_new_labels_keep_the_slot_and_the_metrics(self) -> None:
        """An endpoint whose labels change stays who it is."""
        registry = registry_of([POD_A])
        load = EndpointMetrics(waiting_queue_size=3)
        registry.observe_metrics("default/a-rank-0", load)
        before = registry.publish()
        assert registry.upsert_pod(attrs.evolve(POD_A, labels={"app": "llama", "zone": "b"}))
        after = registry.publish()
        assert after.fleet.at(0).labels["zone"] == "b"
        assert after.metrics[0] == load
        assert after.fleet.births == before.fleet.births

    @pytest.mark.parametrize("again", [attrs.evolve(POD_A, uid="2"), attrs.evolve(POD_A, ip="10.0.0.7")])
    def test_a_pod_made_anew_is_a_new_endpoint(self, again: Pod) -> None:
        """A pod of the same name with another uid or address starts with no metrics, under another birth number."""
        registry = registry_of([POD_A])
        registry.observe_metrics("default/a-rank-0", EndpointMetrics(waiting_queue_size=3))
        before = registry.publish()
        assert registry.upsert_pod(again)
        after = registry.publish()
        slot = after.fleet.by_id["default/a-rank-0"]
        assert after.metrics[slot] == IDLE
        assert after.observed_at[slot] == -inf
        assert after.fleet.births[slot] > before.fleet.births[0]

    def test_a_freed_slot_waits_for_the_next_snapshot(self) -> None:
        """Within a snapshot a slot means one endpoint; afterwards it is used again."""
        registry = registry_of([POD_A])
        registry.delete_pod("default", "a")
        registry.upsert_pod(POD_B)
        assert registry.publish().fleet.by_id == {"default/b-rank-0": 1}
        registry.upsert_pod(POD_A)
        assert registry.publish().fleet.by_id == {"default/b-rank-0": 1, "default/a-rank-0": 0}

    def test_a_call_that_raises_changed_nothing(self) -> None:
        """A list that breaks off, or holds something else than pods, leaves everything as it was."""
        registry = registry_of([POD_A])
        before, statistics = registry.publish(), registry.statistics()

        def broken() -> Iterable[Pod]:
            yield POD_B
            raise OSError

        with pytest.raises(OSError):  # noqa: PT011  # raised above, without a text
            registry.resync(broken())
        with pytest.raises(AttributeError):
            registry.resync([POD_B, "pod"])  # type: ignore[list-item]  # wrong on purpose
        with pytest.raises(AttributeError):
            registry.upsert_pod("pod")  # type: ignore[arg-type]  # wrong on purpose
        with pytest.raises(AttributeError):
            registry.set_pool("pool")  # type: ignore[arg-type]  # wrong on purpose
        assert registry.publish() is before
        assert registry.statistics() == statistics
        assert isinstance(registry.pool, InferencePool)


class TestChanges:
    CHANGES = (
        PoolChanged(make_pool(selector="app=llama")),
        PodsListed((POD_A,)),
        PodUpserted(POD_B),
        MetricsObserved("default/b-rank-0", EndpointMetrics(running_requests=2, observed_at=1)),
        PodDeleted("default", "a"),
    )

    def test_changes_may_be_values(self) -> None:
        """`apply` does what the method for each change does."""
        registry = EndpointRegistry(clock=ManualClock())
        assert [registry.apply(change) for change in self.CHANGES] == [False, True, True, True, True]
        assert destinations(registry) == {"default/b-rank-0": "10.0.0.2:8000"}
        assert registry.snapshot().running_requests[1] == 2

    @pytest.mark.parametrize("change", CHANGES, ids=lambda change: type(change).__name__)
    def test_the_same_change_twice_is_one(self, change: Change) -> None:
        """The second time nothing changes, and the snapshot stays."""
        registry = registry_of([POD_A, POD_B])
        registry.apply(change)
        before = registry.publish()
        assert not registry.apply(change)
        assert registry.publish() is before

    def test_a_change_is_true_when_it_holds_something(self) -> None:
        """An empty membership change is false."""
        assert not MembershipChange()
        assert MembershipChange(removed=registry_of([POD_A]).endpoints())


class TestPublishing:
    def test_the_first_snapshot_is_immediate_and_a_storm_costs_one_per_interval(self) -> None:
        """Between two snapshots lies the interval, however much happens."""
        clock = ManualClock()
        registry = EndpointRegistry(make_pool(), clock=clock, publish_interval=1)
        assert registry.snapshot().generation == 0
        registry.upsert_pod(POD_A)
        assert registry.snapshot().generation == 1
        generations = []
        for number in range(40):
            clock.advance(0.125)
            registry.observe_metrics("default/a-rank-0", EndpointMetrics(running_requests=number))
            generations.append(registry.snapshot().generation)
        assert generations == [1 + (number + 1) // 8 for number in range(40)]

    def test_nothing_new_is_no_new_snapshot(self) -> None:
        """The same object serves until something changes."""
        clock = ManualClock()
        registry = registry_of([POD_A], clock=clock)
        before = registry.snapshot()
        clock.advance(10)
        assert registry.snapshot() is before
        assert registry.publish() is before

    def test_metrics_alone_keep_the_fleet(self) -> None:
        """The fleet is the same object until an endpoint comes, goes or changes."""
        registry = registry_of([POD_A])
        before = registry.publish()
        registry.observe_metrics("default/a-rank-0", EndpointMetrics(running_requests=1))
        after = registry.publish()
        assert after is not before
        assert after.fleet is before.fleet

    def test_what_goes_is_masked_at_once(self) -> None:
        """A deleted pod is in the old snapshot, marked as gone, and is never picked."""
        registry = registry_of([POD_A, POD_B])
        picker = EndpointPicker(registry)
        before = registry.snapshot()
        registry.delete_pod("default", "a")
        assert registry.current() == (before, 0b01)
        assert [endpoint.pod_name for endpoint in registry.endpoints()] == ["b"]
        assert {picker.pick(InferenceRequest()).endpoint.pod_name for _ in range(20)} == {"b"}
        registry.delete_pod("default", "b")
        with pytest.raises(NoEndpointsError):
            picker.pick(InferenceRequest())
        registry.publish()
        assert registry.current()[1] == 0

    @pytest.mark.parametrize("interval", [-1, -0.001, nan])
    def test_an_interval_below_zero_is_refused(self, interval: float) -> None:
        """The error names the option and the value."""
        with pytest.raises(ConfigurationError, match=r"publish_interval: .*0 or more"):
            EndpointRegistry(publish_interval=interval)


class TestMetrics:
    def test_late_and_unknown_metrics_are_ignored(self) -> None:
        """An answer of an endpoint that is gone or never was changes nothing."""
        registry = registry_of([POD_A])
        registry.delete_pod("default", "a")
        before = registry.publish()
        assert not registry.observe_metrics("default/a-rank-0", IDLE, ignore_unknown=True)
        assert not registry.observe_metrics("nobody", IDLE, ignore_unknown=True)
        assert not registry.apply(MetricsObserved("nobody", IDLE))
        assert registry.publish() is before

    def test_unknown_endpoint_is_an_error_with_the_nearest_id(self) -> None:
        """A misspelt id is a KeyError of the library's that gives the nearest id there is, and changes nothing."""
        registry = registry_of([POD_A])
        before = registry.publish()

        with pytest.raises(UnknownEndpointError, match="'default/a-rnk-0', the nearest there is is 'default/a-rank-0'"):
            registry.observe_metrics("default/a-rnk-0", IDLE)
        with pytest.raises(KeyError, match=r"^no endpoint has the id 'x+', none of the 1 there are is near$"):
            registry.observe_metrics("x" * 1_000_000, IDLE)
        assert registry.publish() is before

    def test_older_metrics_are_ignored(self) -> None:
        """An observation that began before the one that is there does not replace it."""
        registry = registry_of([POD_A])
        newer = EndpointMetrics(waiting_queue_size=2, observed_at=5)
        assert registry.observe_metrics("default/a-rank-0", newer)
        assert not registry.observe_metrics("default/a-rank-0", EndpointMetrics(observed_at=4))
        snapshot = registry.publish()
        assert snapshot.metrics[0] == newer
        assert snapshot.observed_at[0] == 5
        assert snapshot.waiting_queue_size[0] == 2

    def test_metrics_without_a_time_are_of_now(self) -> None:
        """The registry's clock stands in for the time of observation."""
        clock = ManualClock(7)
        registry = registry_of([POD_A], clock=clock)
        registry.observe_metrics("default/a-rank-0", IDLE)
        assert registry.publish().observed_at[0] == 7

    def test_adapters_follow_metrics_and_removal(self) -> None:
        """The sets of LoRA adapters hold who reports them, and lose who goes."""
        registry = registry_of([POD_A, POD_B])
        load = EndpointMetrics(active_models=["chat"], waiting_models=["sql"], max_active_models=4)
        for name in "ab":
            registry.observe_metrics(f"default/{name}-rank-0", load)
        snapshot = registry.publish()
        assert (snapshot.lora_active, snapshot.lora_waiting, snapshot.lora_room) == ({"chat": 3}, {"sql": 3}, 3)
        registry.observe_metrics("default/a-rank-0", EndpointMetrics(active_models=["law"], max_active_models=1))
        registry.delete_pod("default", "b")
        snapshot = registry.publish()
        assert (snapshot.lora_active, snapshot.lora_waiting, snapshot.lora_room) == ({"law": 1}, {}, 0)


class TestSubscription:
    def test_listeners_hear_every_change_in_order(self) -> None:
        """What came, what changed in place and what went, in the order of the calls; nothing after unsubscribing."""
        registry = registry_of()
        heard: list[tuple[list[str], list[str], list[str]]] = []

        def listen(change: MembershipChange) -> None:
            heard.append(
                (
                    [endpoint.id for endpoint in change.added],
                    [endpoint.id for endpoint in change.updated],
                    [endpoint.id for endpoint in change.removed],
                )
            )

        unsubscribe = registry.subscribe(listen)
        registry.upsert_pod(POD_A)
        registry.upsert_pod(POD_A)
        registry.upsert_pod(attrs.evolve(POD_A, host_ip="10.1.0.1"))
        registry.resync([POD_B])
        unsubscribe()
        registry.delete_pod("default", "b")
        a, b = "default/a-rank-0", "default/b-rank-0"
        assert heard == [([a], [], []), ([], [a], []), ([b], [], [a])]

    def test_a_listener_that_fails_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """The change was made, the other listeners hear of it, and the log tells."""
        registry = registry_of()
        heard: list[MembershipChange] = []

        def fail(_change: MembershipChange) -> None:
            message = "no interest"
            raise RuntimeError(message)

        registry.subscribe(fail)
        registry.subscribe(heard.append)
        with caplog.at_level(logging.ERROR, "inferencepool.registry"):
            assert registry.upsert_pod(POD_A)
        assert len(heard) == 1
        assert "no interest" in caplog.text

    def test_a_listener_may_change_the_registry(self) -> None:
        """It is called without the lock; the change it makes is told after the one it heard of."""
        registry = registry_of()
        heard: list[MembershipChange] = []

        def listen(change: MembershipChange) -> None:
            if change.added:
                registry.delete_pod("default", "a")
            heard.append(change)

        registry.subscribe(listen)
        registry.upsert_pod(POD_A)
        assert [bool(change.added) for change in heard] == [True, False]


class TestReadiness:
    def test_waiting_ends_with_the_first_endpoint(self) -> None:
        """A thread that waits goes on as soon as a pod is a member."""
        registry = registry_of()
        answers: list[bool] = []
        waiter = Thread(target=lambda: answers.append(registry.wait_until_ready(30)))
        waiter.start()
        registry.upsert_pod(POD_A)
        waiter.join(PATIENCE)
        assert answers == [True]

    def test_waiting_ends_in_time(self) -> None:
        """Without an endpoint the answer is False once the time is up."""
        assert not registry_of().wait_until_ready(0.01)

    def test_who_waited_can_pick(self) -> None:
        """An endpoint that was waited for is in the snapshot, even where the next one is not due yet."""
        registry = registry_of([POD_A])
        registry.delete_pod("default", "a")
        registry.upsert_pod(POD_B)
        assert registry.wait_until_ready(0)
        assert EndpointPicker(registry).pick(InferenceRequest()).endpoint.pod_name == "b"


def test_statistics_tell_how_much_there_is() -> None:
    """Pods, members or not; endpoints; the generation; and a short text."""
    registry = registry_of([POD_A, make_pod("x")], ports=[1, 2])
    statistics = registry.statistics()
    assert (statistics.pods, statistics.endpoints, statistics.generation) == (2, 2, 1)
    assert repr(registry) == "<EndpointRegistry of 2 endpoints>"


class TestSlices:
    def test_another_selector(self) -> None:
        """Of a fleet that is replaced by another one nothing goes before all of the other is there."""
        old = [make_pod(f"a{number}", ip=f"10.0.0.{number}", labels={"app": "llama"}) for number in range(10)]
        new = [make_pod(f"b{number}", ip=f"10.0.1.{number}", labels={"app": "qwen"}) for number in range(10)]
        registry = EndpointRegistry(make_pool(selector={"app": "llama"}), publish_interval=0)
        registry.resync(old)
        change = PoolChanged(make_pool(selector={"app": "qwen"}), tuple(new))
        counts = [len(registry.endpoints()) for _ in registry.apply_in_slices(change, 4)]

        assert [14, 18, 20, 16, 12, 10] == counts
        assert {pod.name for pod in new} == {endpoint.pod_name for endpoint in registry.endpoints()}

    def test_few_pods(self) -> None:
        """A change of no more pods than a slice has is seen as a whole or not at all."""
        registry = EndpointRegistry()
        change = PoolChanged(make_pool(selector={"app": "llama"}), (make_pod("a", ip="10.0.0.1"),) * 4)

        assert [] == list(registry.apply_in_slices(change, 4))

    def test_endpoints_of_no_pool(self) -> None:
        """It is refused before anything of it is applied, as at once."""
        registry = EndpointRegistry()
        registry.set_endpoints([Endpoint(namespace="default", pod_name="a", address="10.0.0.1", port=8000)])
        change = PoolChanged(make_pool(), tuple(make_pod(f"a{number}") for number in range(4)))
        with pytest.raises(ConfigurationError, match="belong to no pool"):
            next(registry.apply_in_slices(change, 2))

        assert registry.pool is None
        assert 1 == len(registry.endpoints())
