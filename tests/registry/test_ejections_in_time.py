"""Ejections begin as soon as they may, and not for what looks like life."""

from __future__ import annotations

from inferencepool import Endpoint, EndpointMetrics, EndpointPicker, EndpointRegistry, InferenceRequest, PickResult
from inferencepool.model import EjectionReason
from inferencepool.testing import ManualClock

REQUEST = InferenceRequest(model="llama-3")


def endpoint(name: str) -> Endpoint:
    """An endpoint of no pool."""
    return Endpoint(namespace="default", pod_name=name, address=f"192.0.2.{ord(name)}", port=8000, rank=None)


class Pool:
    """Endpoints *a* and *b*, a clock, and picks of either of them."""

    def __init__(self, interval: float = 0.05) -> None:
        self.clock = ManualClock()
        self.registry = EndpointRegistry(clock=self.clock, publish_interval=interval)
        self.registry.set_endpoints([endpoint("a"), endpoint("b")])
        self.registry.publish()
        self.picker = EndpointPicker(self.registry)

    def pick(self, name: str) -> PickResult:
        """Pick the endpoint *name* whatever is known of it."""
        return self.picker.pick(REQUEST, exclude=[endpoint("b" if name == "a" else "a")])

    def reasons(self) -> list[EjectionReason]:
        """Give the reasons of all ejections."""
        return [ejection.reason for _, ejection in self.registry.health.ejections()]


def test_a_page_that_serves_the_same_numbers_is_no_life() -> None:
    """An endpoint that holds requests is stalled, though its metrics are observed all the time, as they do not move."""
    pool = Pool(0)
    held = [pool.pick("a") for _ in range(3)]
    for _ in range(30):
        pool.clock.advance(0.5)
        pool.registry.observe_metrics(endpoint("a"), EndpointMetrics(running_requests=3, observed_at=pool.clock()))
        pool.pick("b").release()

    assert [EjectionReason.STALLED] == pool.reasons()
    assert all(not each.released for each in held)


def test_numbers_that_move_are_life() -> None:
    """An endpoint whose metrics move is not stalled, though nothing came back from it."""
    pool = Pool(0)
    held = [pool.pick("a") for _ in range(3)]
    for step in range(30):
        pool.clock.advance(0.5)
        pool.registry.observe_metrics(
            endpoint("a"), EndpointMetrics(running_requests=3, kv_cache_usage=step / 30, observed_at=pool.clock())
        )
        pool.pick("b").release()

    assert [] == pool.reasons()
    assert all(not each.released for each in held)


def test_an_ejection_does_not_wait_for_the_interval() -> None:
    """The first pick behind an ejection avoids the endpoint, though a snapshot was published a moment ago."""
    pool = Pool(10.0)
    pool.pick("b").release()
    pool.clock.advance(20)
    pool.pick("b").release()
    pool.registry.observe_metrics(endpoint("a"), EndpointMetrics())
    pool.pick("a").failed(429)

    assert {"b"} == {pool.picker.pick(REQUEST).endpoint.pod_name for _ in range(50)}


def test_ejections_do_not_publish_without_end() -> None:
    """However many ejections a client provokes, an interval sees two snapshots at most."""
    pool = Pool(10.0)
    pool.clock.advance(20)
    before = pool.registry.snapshot().generation
    for number in range(200):
        request = InferenceRequest(model=f"made-up-{number}")
        pool.picker.pick(request).failed(404)

    assert before + 2 >= pool.registry.snapshot().generation


def test_what_was_picked_before_the_failures_does_not_forgive_them() -> None:
    """Answers to requests from before the failures began end well, and five failures in a row are five all the same."""
    pool = Pool(0)
    early = [pool.pick("a") for _ in range(5)]
    for result in early:
        pool.clock.advance(0.1)
        pool.pick("a").failed(500)
        result.started()
        result.release()

    assert [EjectionReason.CONSECUTIVE_5XX] == pool.reasons()


def test_a_later_success_forgives_failures() -> None:
    """A request that was picked after the first failure and went well begins the count anew."""
    pool = Pool(0)
    for _ in range(20):
        for _ in range(4):
            pool.clock.advance(0.1)
            pool.pick("a").failed(500)
        pool.clock.advance(0.1)
        pool.pick("a").release()

    assert [] == pool.reasons()
