"""The registry of endpoints that belong to no pool."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import ConfigurationError
from inferencepool.model import Endpoint, EndpointMetrics, InferenceRequest, Pod
from inferencepool.picker import EndpointPicker
from inferencepool.registry import EndpointRegistry, EndpointsListed, MembershipChange
from inferencepool.testing import ManualClock, make_pod, make_pool


def endpoint(name: str, address: str = "10.0.0.1", *, port: int = 8000, rank: int | None = None) -> Endpoint:
    """An endpoint that belongs to no pool, unless it has a rank."""
    return Endpoint(namespace="default", pod_name=name, address=address, port=port, rank=rank)


def registry_of(*endpoints: Endpoint) -> EndpointRegistry:
    """A registry without a pool that was given *endpoints*."""
    registry = EndpointRegistry(clock=ManualClock(), publish_interval=0)
    registry.set_endpoints(endpoints)
    return registry


def destinations(registry: EndpointRegistry) -> dict[str, str]:
    """Publish; destination by endpoint id."""
    registry.publish()
    return {each.id: each.destination for each in registry.endpoints()}


def test_endpoints_without_a_rank_are_named_without_one() -> None:
    """An endpoint that belongs to no pool is called by namespace and name alone."""
    assert endpoint("a").id == "default/a"
    assert endpoint("a", rank=0).id == "default/a-rank-0"


def test_listed_endpoints_are_picked() -> None:
    """What is listed can be picked, without any pool or pod."""
    registry = registry_of(endpoint("a"), endpoint("b", port=9000))

    assert {"default/a": "10.0.0.1:8000", "default/b": "10.0.0.1:9000"} == destinations(registry)
    assert (0, 2) == (registry.statistics().pods, registry.statistics().endpoints)
    with EndpointPicker(registry).pick(InferenceRequest(), "10.0.0.1:9000") as result:
        assert result.endpoint.id == "default/b"


def test_a_list_replaces_the_one_before() -> None:
    """Endpoints that stay keep their metrics; those that are not listed are gone, and listeners are told."""
    registry = registry_of(endpoint("a"), endpoint("b", "10.0.0.2"))
    registry.observe_metrics("default/a", EndpointMetrics(waiting_queue_size=7))
    told: list[MembershipChange] = []
    registry.subscribe(told.append)
    labelled = attrs.evolve(endpoint("a"), labels={"tier": "gold"})

    assert registry.apply(EndpointsListed((labelled, endpoint("c", "10.0.0.3"))))

    assert {"default/a": "10.0.0.1:8000", "default/c": "10.0.0.3:8000"} == destinations(registry)
    change = MembershipChange((endpoint("c", "10.0.0.3"),), (labelled,), (endpoint("b", "10.0.0.2"),))
    assert [change] == told
    snapshot = registry.snapshot()
    assert 7 == snapshot.waiting_queue_size[snapshot.fleet.by_id["default/a"]]
    assert not registry.set_endpoints([labelled, endpoint("c", "10.0.0.3")])


def test_the_last_of_the_same_id_counts() -> None:
    """An id is one endpoint."""
    assert {"default/a": "10.0.0.2:8000"} == destinations(registry_of(endpoint("a"), endpoint("a", "10.0.0.2")))


def test_a_moved_endpoint_is_a_new_one() -> None:
    """What was reported of another address says nothing about this one."""
    registry = registry_of(endpoint("a"))
    registry.observe_metrics("default/a", EndpointMetrics(waiting_queue_size=7))
    registry.set_endpoints([endpoint("a", "10.0.0.9")])
    registry.publish()

    snapshot = registry.snapshot()
    assert 0 == snapshot.waiting_queue_size[snapshot.fleet.by_id["default/a"]]


def test_pools_and_listed_endpoints_exclude_each_other() -> None:
    """Whichever was there first stays, and the call that is refused changes nothing."""
    of_pool = EndpointRegistry(make_pool(selector="app=llama", ports=[8000]), clock=ManualClock())
    of_pool.upsert_pod(make_pod("a", ip="10.0.0.1", labels={"app": "llama"}))
    with pytest.raises(ConfigurationError, match=r"endpoints: it has the pool default/.*, allowed is none"):
        of_pool.set_endpoints([endpoint("b")])
    assert {"default/a-rank-0": "10.0.0.1:8000"} == destinations(of_pool)

    listed = registry_of(endpoint("a"))
    with pytest.raises(ConfigurationError, match="pool: 1 endpoints were given"):
        listed.set_pool(make_pool(selector="app=llama", ports=[8000]))
    assert listed.pool is None
    assert {"default/a": "10.0.0.1:8000"} == destinations(listed)
    listed.set_endpoints([])
    assert not listed.set_pool(make_pool(selector="app=llama", ports=[8000]))


def test_pods_do_not_touch_listed_endpoints() -> None:
    """Without a pool no pod is a member, so pods that come and go leave the list alone."""
    registry = registry_of(endpoint("a"))
    registry.upsert_pod(make_pod("a", ip="10.0.0.1", labels={"app": "llama"}))
    registry.resync([Pod(name="b")])

    assert not registry.delete_pod("default", "a")
    assert {"default/a": "10.0.0.1:8000"} == destinations(registry)


ENDPOINTS = st.builds(
    endpoint,
    st.sampled_from(["a", "a-rank-0", "b"]),
    st.sampled_from(["10.0.0.1", "10.0.0.2"]),
    rank=st.sampled_from([None, 0, 1]),
)


@given(st.lists(st.lists(ENDPOINTS, max_size=5), max_size=5))
def test_only_the_latest_list_counts(lists: list[list[Endpoint]]) -> None:
    """Whatever was listed before, and whichever ids look alike, the endpoints are those of the last list."""
    registry = registry_of()
    for listed in lists:
        registry.set_endpoints(listed)

        assert {each.id: each.destination for each in listed} == destinations(registry)
