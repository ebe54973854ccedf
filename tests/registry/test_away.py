"""Endpoints that went and come back: what tells their cache from that of others."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from inferencepool.model import Pod, Snapshot
from inferencepool.registry import EndpointRegistry, MembershipChange
from inferencepool.testing import ManualClock, make_endpoint, make_pod, make_pool

LLAMA = {"app": "llama"}


def registry_of(*pods: Pod, clock: ManualClock | None = None) -> EndpointRegistry:
    """A registry of a pool, and of pods of it."""
    pool = make_pool(selector=LLAMA)
    registry = EndpointRegistry(pool, publish_interval=0, clock=clock if clock is not None else ManualClock())
    registry.resync(pods)
    registry.snapshot()
    return registry


def pod(name: str = "a", **fields: Any) -> Pod:
    """A ready pod of the pool, with a uid and an address of its own."""
    made = make_pod(name, ip=f"10.0.0.{ord(name[0])}", labels=LLAMA)
    return attrs.evolve(made, **{"uid": f"uid of {name}", **fields})


def cache_of(snapshot: Snapshot, name: str = "a") -> tuple[int, int]:
    """The slot of an endpoint, and the number of its cache."""
    slot = snapshot.fleet.by_id[f"default/{name}-rank-0"]
    return slot, snapshot.fleet.caches[slot]


AWAY = {
    "not ready": lambda registry: registry.upsert_pod(pod(ready=False)),
    "labelled out of the pool": lambda registry: registry.upsert_pod(pod(labels={"app": "other"})),
    "told as deleted": lambda registry: registry.delete_pod("default", "a"),
    "not on a list": lambda registry: registry.resync([]),
    "without a pool": lambda registry: registry.set_pool(None),
}


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("how", AWAY)
def test_the_same_pod_comes_back(how: str, published: bool) -> None:
    """It has the slot and the cache that it had, and is another occupant; a newcomer meanwhile takes neither."""
    registry = registry_of(pod())
    before = registry.snapshot().fleet
    AWAY[how](registry)
    if published:
        assert registry.publish().fleet.caches == before.caches
    registry.set_pool(make_pool(selector=LLAMA))
    registry.upsert_pod(pod("b"))
    registry.upsert_pod(pod())
    after = registry.publish().fleet

    assert before.by_id["default/a-rank-0"] == after.by_id["default/a-rank-0"]
    assert before.caches[0] == after.caches[0]
    assert after.births[0] > before.births[0]
    assert 2 == len({*after.caches}) == len(after)


@pytest.mark.parametrize("changed", [{"uid": "other"}, {"ip": "10.0.9.9", "ips": ()}, {"restarts": 1}])
def test_another_one_in_its_place(changed: dict[str, Any]) -> None:
    """Another pod of the name, another address or containers that restarted meanwhile: nothing is cached any more."""
    registry = registry_of(pod())
    _, cache = cache_of(registry.snapshot())
    registry.upsert_pod(pod(ready=False))
    registry.publish()
    registry.upsert_pod(pod(**changed))

    assert cache_of(registry.publish())[1] > cache


def test_restart_of_an_endpoint_that_stays() -> None:
    """It is the same endpoint with another cache, and subscribers are told that it changed."""
    registry = registry_of(pod())
    told: list[MembershipChange] = []
    registry.subscribe(told.append)
    before = registry.snapshot()
    registry.upsert_pod(pod(restarts=1))
    after = registry.snapshot()

    assert before.fleet.births == after.fleet.births
    assert before.fleet.caches != after.fleet.caches
    assert ["a"] == [endpoint.pod_name for endpoint in told[0].updated]
    registry.upsert_pod(pod(restarts=1, labels={**LLAMA, "more": "x"}))
    assert after.fleet.caches == registry.snapshot().fleet.caches


@pytest.mark.parametrize("published", [True, False])
def test_too_late(published: bool) -> None:
    """After five minutes its cache is forgotten, with the next snapshot at the latest, and others get the slot."""
    clock = ManualClock()
    registry = registry_of(pod(), clock=clock)
    _, cache = cache_of(registry.snapshot())
    registry.delete_pod("default", "a")
    registry.publish()
    clock.advance(300.001)
    if published:
        registry.upsert_pod(pod("b"))
        assert 0 == registry.publish().fleet.caches[0]
        registry.upsert_pod(pod("c"))
        assert 0 == cache_of(registry.publish(), "c")[0]
    registry.upsert_pod(pod())

    assert cache_of(registry.publish())[1] > cache


def test_in_time() -> None:
    """Up to five minutes it is kept."""
    clock = ManualClock()
    registry = registry_of(pod(), clock=clock)
    kept = cache_of(registry.snapshot())
    registry.delete_pod("default", "a")
    clock.advance(300)
    registry.upsert_pod(pod("b"))
    registry.publish()
    registry.upsert_pod(pod())

    assert kept == cache_of(registry.publish())


@pytest.mark.parametrize("end", [{"deletion_timestamp": "2026-01-01T00:00:00Z"}, {"phase": "Failed"}, {"uid": ""}])
def test_gone_for_good(end: dict[str, Any]) -> None:
    """No slot is kept for a pod that is being deleted or has ended, or that nothing tells from another of its name."""
    registry = registry_of(pod(uid=end.get("uid", "1")))
    _, cache = cache_of(registry.snapshot())
    registry.upsert_pod(pod(**{"uid": "1", "ready": False, **end}))
    assert (0,) == registry.publish().fleet.caches
    registry.upsert_pod(pod("b"))
    registry.upsert_pod(pod(uid=end.get("uid", "1")))
    snapshot = registry.publish()

    assert 0 == cache_of(snapshot, "b")[0]
    assert cache_of(snapshot)[1] > cache


def test_endpoints_without_a_pool() -> None:
    """One that was taken from a list and put on it again may be another process: nothing is kept for it."""
    registry = EndpointRegistry(publish_interval=0)
    endpoint = attrs.evolve(make_endpoint(), rank=None)
    caches = set()
    for _ in range(3):
        registry.set_endpoints([endpoint])
        caches.add(registry.publish().fleet.caches)
        registry.set_endpoints([])
        registry.publish()

    assert 3 == len(caches)


def test_very_many() -> None:
    """Slots are kept for a thousand endpoints, those that went last; memory does not grow with those that ever were."""
    registry = registry_of()
    for number in range(3000):
        name = f"{chr(97 + number % 26)}{number}"
        registry.upsert_pod(pod(name))
        registry.publish()
        registry.delete_pod("default", name)
        registry.publish()
    fleet = registry.publish().fleet

    assert 1000 == sum(1 for cache in fleet.caches if cache)
    assert len(fleet.endpoints) <= 1002
    assert {*range(2001, 3001)} == {cache for cache in fleet.caches if cache}
