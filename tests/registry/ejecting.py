"""A fleet of which endpoints may be ejected."""

from __future__ import annotations

from random import Random
from typing import Any

import attrs

from inferencepool.model import Ejection, InferenceRequest
from inferencepool.picker import EndpointPicker
from inferencepool.plugins import QueueScorer
from inferencepool.registry import EjectionChange, EndpointRegistry, OutlierDetection
from inferencepool.scheduling import PickResult, SchedulingProfile
from inferencepool.testing import ManualClock, make_pod, make_pool

REQUEST = InferenceRequest(model="llama")
PLAIN = OutlierDetection(max_ejection_time_jitter=0)


class Fleet:
    """A registry, a picker and a clock to move by hand."""

    def __init__(
        self, size: int = 4, *, ports: int = 1, rules: OutlierDetection | None = PLAIN, **options: Any
    ) -> None:
        """*size* pods, of which nothing was reported yet."""
        self.clock = ManualClock(1000.0)
        pool = make_pool(ports=[8000 + port for port in range(ports)])
        self.registry = EndpointRegistry(
            pool, clock=self.clock, publish_interval=0, outlier_detection=rules, rng=Random(1), **options
        )
        self.pods = [
            attrs.evolve(make_pod(f"p{number}", ip=f"10.0.{number // 250}.{number % 250 + 1}"), uid=f"uid {number}")
            for number in range(size)
        ]
        self.registry.resync(self.pods)
        self.registry.publish()
        self.health = self.registry.health
        self.picker = self.another_picker()
        self.changes: list[EjectionChange] = []
        self.unsubscribe = self.health.subscribe(self.changes.append)

    def another_picker(self, *, most: int = 1) -> EndpointPicker:
        """Another picker on the same registry."""
        profile = SchedulingProfile(name="short", scorers=[QueueScorer()], max_num_of_endpoints=most)
        return EndpointPicker(self.registry, profile=profile, rng=Random(1))

    def id_of(self, number: int, rank: int = 0) -> str:
        """The id of an endpoint."""
        return f"default/p{number}-rank-{rank}"

    def pick_at(self, number: int, request: InferenceRequest = REQUEST) -> PickResult:
        """A request that only one endpoint may get."""
        return self.picker.pick(request, subset=[f"10.0.0.{number + 1}:8000"])

    def fail(self, number: int, times: int = 5, reason: str | int = 500) -> None:
        """Requests fail at an endpoint."""
        for _ in range(times):
            self.pick_at(number).failed(reason)

    def serve(self, *numbers: int, request: InferenceRequest = REQUEST) -> None:
        """Requests are served by endpoints."""
        for number in numbers:
            self.pick_at(number, request).succeeded()

    def ejected(self) -> dict[str, str]:
        """Why who is ejected."""
        return {endpoint.id: str(ejection.reason) for endpoint, ejection in self.health.ejections()}

    def asked(self, times: int = 40) -> set[str]:
        """Who gets requests, if *times* are in flight at once."""
        results = [self.picker.pick(REQUEST) for _ in range(times)]
        for result in results:
            result.cancelled()
        return {result.endpoint.pod_name for result in results}

    def ejection(self, number: int = 0) -> Ejection:
        """What is known of an endpoint that is ejected."""
        return next(each for endpoint, each in self.health.ejections() if endpoint.id == self.id_of(number))


def step_clock(fleet: Fleet, seconds: float) -> ManualClock:
    """Move the clock, also backwards."""
    clock = fleet.clock
    if seconds >= 0:
        clock.advance(seconds)
    else:
        clock._now += seconds
    return clock
