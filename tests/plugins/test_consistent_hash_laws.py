"""Laws of consistent hashing, for any fleet, any keys and any traffic."""

from __future__ import annotations

from collections import Counter
from math import ceil
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from inferencepool.model import Endpoint, InferenceRequest, Snapshot
from inferencepool.plugins import ConsistentHashPicker
from inferencepool.scheduling import PickResult, Scheduler, SchedulingProfile
from tests.strategies.hashing import idle, keys, placements, traffic

Endpoints = list[Endpoint | None]


def keyed(key: str) -> InferenceRequest:
    """A request with this key."""
    return InferenceRequest(headers={"x-session-id": key})


def scheduler_of(load_factor: float = 1.25, count: int = 1) -> Scheduler:
    """A scheduler that hashes; few points make free choices and long ways around the ring likely."""
    picker = ConsistentHashPicker(virtual_nodes=4, load_factor=load_factor)
    return Scheduler(SchedulingProfile(picker=picker, max_num_of_endpoints=count), rng=Random(1))


def homes(scheduler: Scheduler, snapshot: Snapshot, wanted: set[str]) -> dict[str, str]:
    """Tell where each key goes while nothing else is in flight."""
    found = {}
    for key in sorted(wanted):
        result = scheduler.schedule(keyed(key), snapshot)
        scheduler.release(result)
        found[key] = result.endpoint.id
    return found


@given(placements(), st.sets(keys(), max_size=20), st.randoms(use_true_random=False))
def test_homes_follow_from_names_alone(endpoints: Endpoints, wanted: set[str], rng: Random) -> None:
    """A key has the same endpoint in every replica, in whatever slots it holds the endpoints, and keeps it."""
    scheduler = scheduler_of()
    first = homes(scheduler, idle(endpoints), wanted)
    shuffled = endpoints[:]
    rng.shuffle(shuffled)
    assert homes(scheduler_of(), idle(shuffled), wanted) == first
    assert homes(scheduler, idle(endpoints), wanted) == first


@given(placements(least=2), st.sets(keys(), max_size=20), st.data())
def test_only_the_keys_of_an_endpoint_move_with_it(endpoints: Endpoints, wanted: set[str], data: st.DataObject) -> None:
    """When it goes, all other keys stay; when it comes back, even to another slot, exactly its keys return."""
    gone = data.draw(st.sampled_from([item for item in endpoints if item is not None]))
    scheduler = scheduler_of()
    before = homes(scheduler, idle(endpoints, 1), wanted)
    without: Endpoints = [None if item == gone else item for item in endpoints]
    after = homes(scheduler, idle(without, 2), wanted)
    assert gone.id not in after.values()
    assert {key for key in wanted if after[key] != before[key]} == {key for key in wanted if before[key] == gone.id}
    assert homes(scheduler, idle([*without, gone], 3), wanted) == before


@given(placements(), traffic(), st.sampled_from([1, 1.25, 2, 100.0]), st.data())
def test_no_pick_exceeds_the_bound(
    endpoints: Endpoints, requests: list[tuple[str, int]], load_factor: float, data: st.DataObject
) -> None:
    """Each pick is the first endpoint around the ring that stays within the bound, and passes over no other."""
    snapshot, size = idle(endpoints), sum(item is not None for item in endpoints)
    scheduler = scheduler_of(load_factor)
    held: list[PickResult] = []
    for key, ended in requests:
        for _ in range(min(ended, len(held))):
            scheduler.release(held.pop(data.draw(st.integers(0, len(held) - 1))))
        in_flight = Counter(result.slot for result in held)
        bound = ceil(load_factor * (len(held) + 1) / size)
        around = scheduler_of(count=size).schedule(keyed(key), snapshot)
        held.append(scheduler.schedule(keyed(key), snapshot))
        within = [slot for slot in (around.slot, *around.fallback_slots) if in_flight[slot] < bound]
        assert held[-1].slot == within[0]


@given(placements(least=2), st.sets(keys(), max_size=10), st.data())
def test_a_subset_is_a_ring_of_its_own(endpoints: Endpoints, wanted: set[str], data: st.DataObject) -> None:
    """Keys limited to a part of the fleet go where they would if the others did not exist."""
    present = [item for item in endpoints if item is not None]
    part = data.draw(st.lists(st.sampled_from(present), min_size=1, unique_by=lambda item: item.id))
    alone = homes(scheduler_of(), idle([item if item in part else None for item in endpoints]), wanted)
    scheduler, hint = scheduler_of(), [item.destination for item in part]
    for key in wanted:
        result = scheduler.schedule(keyed(key), idle(endpoints), subset=hint)
        scheduler.release(result)
        assert result.endpoint.id == alone[key]
