"""What is told of the endpoints at the moment."""

from __future__ import annotations

from statistics import fmean, stdev

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import ConfigurationError
from inferencepool.model import Endpoint, EndpointMetrics, InferenceRequest
from inferencepool.picker import EndpointPicker
from inferencepool.registry import EndpointRegistry
from inferencepool.runtime.exporter import PoolMetrics
from inferencepool.testing import ManualClock, make_pod, make_pool
from tests.runtime.exporter.reading import Values, shown, value_of

PREFIX = "llm_d_epp_"
PAIRS = [("kv_cache_utilization", "kv_cache_usage"), ("queue_size", "waiting_queue_size"), ("running_requests",) * 2]


@attrs.define
class Stage:
    """A pool, a picker, and the metrics about them."""

    pods: int
    publish_interval: float = 0
    clock: ManualClock = attrs.field(factory=lambda: ManualClock(100))
    registry: EndpointRegistry = attrs.field(init=False)
    picker: EndpointPicker = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.registry = EndpointRegistry(
            make_pool(name="llama"), clock=self.clock, publish_interval=self.publish_interval
        )
        self.registry.resync([make_pod(f"p{number}", ip=f"10.0.0.{number + 1}") for number in range(self.pods)])
        self.picker = EndpointPicker(self.registry)

    def observe(self, number: int, metrics: EndpointMetrics) -> None:
        """Tell the load of one endpoint."""
        assert self.registry.observe_metrics(f"default/p{number}-rank-0", metrics)

    def shown(self) -> Values:
        """Give what the page says."""
        return shown(PoolMetrics(self.picker))


def loads() -> st.SearchStrategy[EndpointMetrics]:
    """Make metrics."""
    count = st.integers(0, 50)
    return st.builds(EndpointMetrics, waiting_queue_size=count, running_requests=count, kv_cache_usage=st.floats(0, 1))


class TestMeans:
    @given(loads=st.lists(loads(), min_size=1, max_size=6), stale=st.integers(0, 3))
    def test_of_fresh_endpoints(self, loads: list[EndpointMetrics], stale: int) -> None:
        """Mean and deviation of a sample, of those that were observed of late; the others count as stale."""
        stage = Stage(len(loads) + stale)
        for number in range(stale):
            stage.observe(number, EndpointMetrics(waiting_queue_size=1000, observed_at=97.9))
        for number, load in enumerate(loads, stale):
            stage.observe(number, attrs.evolve(load, observed_at=98.0))
        values = stage.shown()

        for name, field in PAIRS:
            column = [getattr(load, field) for load in loads]
            assert pytest.approx(fmean(column)) == value_of(values, f"{PREFIX}average_{name}", name="llama")
            expected = stdev(column) if len(column) > 1 else 0.0
            assert pytest.approx(expected) == value_of(values, f"{PREFIX}std_dev_{name}", name="llama")
        assert len(loads) + stale == value_of(values, f"{PREFIX}ready_endpoints", name="llama")
        assert stale == value_of(values, "inferencepool_stale_endpoints", name="llama")

    def test_nothing_is_fresh(self) -> None:
        """Then there is no mean, rather than an old one."""
        values = Stage(2).shown()
        assert not [name for name, _ in values if "average" in name or "std_dev" in name]
        assert 2 == value_of(values, f"{PREFIX}ready_endpoints", name="llama")
        assert 2 == value_of(values, "inferencepool_stale_endpoints", name="llama")

    def test_an_empty_pool(self) -> None:
        """It has no endpoints, and that is told."""
        values = Stage(0).shown()
        assert 0 == value_of(values, f"{PREFIX}ready_endpoints", name="llama")
        assert 0 == value_of(values, "inferencepool_stale_endpoints", name="llama")


class TestEndpoints:
    def test_each(self) -> None:
        """Queue and age of each endpoint; what was never observed has no age."""
        stage = Stage(2)
        stage.observe(0, EndpointMetrics(waiting_queue_size=7, observed_at=99.5))
        values = stage.shown()

        first, second = ({"name": "llama", "model_server_endpoint": name} for name in ("p0-rank-0", "p1-rank-0"))
        assert (7, 0) == tuple(
            value_of(values, f"{PREFIX}per_endpoint_queue_size", **labels) for labels in (first, second)
        )
        assert (0.5, None) == tuple(
            value_of(values, "inferencepool_endpoint_metrics_age_seconds", **labels) for labels in (first, second)
        )

    def test_load_of_picks(self) -> None:
        """In flight until released; pending until metrics show it."""
        stage = Stage(1)
        picks = [stage.picker.pick(InferenceRequest()) for _ in range(3)]
        picks[0].release()
        labels = {"endpoint_name": "p0-rank-0", "namespace": "default", "producer_name": "scheduler"}
        nobody = {"fairness_id": "", "priority": ""}
        endpoint = {"name": "llama", "model_server_endpoint": "p0-rank-0"}

        values = stage.shown()
        assert 2 == value_of(values, f"{PREFIX}inflight_requests", **labels, **nobody)
        assert 2 == value_of(values, "inferencepool_pending_requests", **endpoint)
        stage.clock.advance(1)
        stage.observe(0, EndpointMetrics(running_requests=2, observed_at=100.5))
        stage.picker.pick(InferenceRequest())
        values = stage.shown()
        assert 3 == value_of(values, f"{PREFIX}inflight_requests", **labels, **nobody)
        assert 1 == value_of(values, "inferencepool_pending_requests", **endpoint)

    def test_an_endpoint_that_left(self) -> None:
        """It is told of no longer, before the next snapshot already."""
        stage = Stage(2, publish_interval=1000)
        stage.picker.pick(InferenceRequest())
        stage.registry.delete_pod("default", "p0")
        values = stage.shown()

        assert 1 == value_of(values, f"{PREFIX}ready_endpoints", name="llama")
        assert not [labels for _, labels in values if "p0-rank-0" in dict(labels).values()]

    def test_endpoints_of_no_pool(self) -> None:
        """Their pool has no name, and they have no rank."""
        registry = EndpointRegistry(clock=ManualClock())
        registry.set_endpoints([Endpoint(namespace="a", pod_name="b", address="10.0.0.1", port=1, rank=None)])
        values = shown(PoolMetrics(EndpointPicker(registry)))

        assert 1 == value_of(values, f"{PREFIX}ready_endpoints", name="")
        assert 0 == value_of(values, f"{PREFIX}per_endpoint_queue_size", name="", model_server_endpoint="b")


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), True])
def test_staleness_that_cannot_be(value: float) -> None:
    """The error names the option and the value."""
    with pytest.raises(ConfigurationError, match=f"metrics: staleness: {value!r}"):
        PoolMetrics(Stage(0).picker, staleness=value)
