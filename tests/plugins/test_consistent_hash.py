"""Consistent hashing: keys stay where they are, and no endpoint is overloaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import ceil
from random import Random
from typing import Any

import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.model import (
    Endpoint,
    EndpointMetrics,
    EndpointSet,
    Fleet,
    InferenceRequest,
    Snapshot,
    to_endpoint_set,
)
from inferencepool.plugins import ConsistentHashPicker, QueueScorer
from inferencepool.plugins._ring import Ring, position_of
from inferencepool.scheduling import PickResult, Scheduler, SchedulingProfile
from inferencepool.testing import make_snapshot
from tests.strategies.fleets import endpoint, snapshot_of

KEYS = [f"session-{number}" for number in range(300)]


def fleet_of(endpoints: Sequence[Endpoint | None], generation: int = 1) -> Snapshot:
    """A snapshot of idle endpoints."""
    return snapshot_of(endpoints, [EndpointMetrics()] * len(endpoints), generation=generation)


def keyed(key: str) -> InferenceRequest:
    """A request with this key."""
    return InferenceRequest(headers={"x-session-id": key})


def scheduler_of(count: int = 1, **parameters: Any) -> Scheduler:
    """A scheduler that picks by consistent hashing."""
    picker = ConsistentHashPicker(**parameters)
    profile = SchedulingProfile(scorers=[QueueScorer()], picker=picker, max_num_of_endpoints=count)
    return Scheduler(profile, rng=Random(1))


def homes(scheduler: Scheduler, snapshot: Snapshot, **limits: Any) -> dict[str, str]:
    """Tell for every key which endpoint gets it while nothing else is in flight."""
    found = {}
    for key in KEYS:
        result = scheduler.schedule(keyed(key), snapshot, **limits)
        found[key] = result.endpoint.id
        scheduler.release(result)
    return found


class TestKeys:
    """Where keys go."""

    def test_a_key_stays_where_it_is(self) -> None:
        """The same key gets the same endpoint, in another process as well: the places follow from names alone."""
        snapshot = fleet_of([endpoint(slot) for slot in range(10)])
        assert homes(scheduler_of(), snapshot) == homes(scheduler_of(), snapshot)

    def test_slots_do_not_matter(self) -> None:
        """The same endpoints in other slots get the same keys."""
        ordered: list[Endpoint | None] = [endpoint(slot) for slot in range(10)]
        shuffled = [*ordered, None]
        Random(3).shuffle(shuffled)
        assert homes(scheduler_of(), fleet_of(ordered)) == homes(scheduler_of(), fleet_of(shuffled))

    def test_keys_spread_over_the_endpoints(self) -> None:
        """With 96 points each, no endpoint of ten gets more than twice its share of 300 keys, nor less than a third."""
        found = Counter(homes(scheduler_of(), fleet_of([endpoint(slot) for slot in range(10)])).values())
        assert len(found) == 10
        assert all(10 <= keys <= 60 for keys in found.values()), found

    def test_removing_an_endpoint_moves_only_its_keys(self) -> None:
        """Keys of the other endpoints stay; when the endpoint comes back, its keys do too."""
        endpoints: list[Endpoint | None] = [endpoint(slot) for slot in range(20)]
        scheduler = scheduler_of()
        before = homes(scheduler, fleet_of(endpoints, 1))
        gone = endpoint(4).id
        after = homes(scheduler, fleet_of([*endpoints[:4], None, *endpoints[5:]], 2))
        assert gone not in after.values()
        assert {key for key in KEYS if before[key] != after[key]} == {key for key in KEYS if before[key] == gone}
        assert homes(scheduler, fleet_of(endpoints, 3)) == before

    def test_without_a_key_the_best_score_wins(self) -> None:
        """Requests that carry no key, or an empty one, go to the shortest queue."""
        loads = [EndpointMetrics(waiting_queue_size=queue) for queue in (4, 0, 9)]
        snapshot = snapshot_of([endpoint(slot) for slot in range(3)], loads)
        scheduler = scheduler_of()
        for request in (InferenceRequest(), keyed("")):
            result = scheduler.schedule(request, snapshot)
            assert result.slot == 1
            scheduler.release(result)

    def test_the_header_is_found_in_any_case(self) -> None:
        """Header names are compared in lower case."""
        assert ConsistentHashPicker(header="X-User").header == "x-user"

    def test_any_text_is_a_key(self) -> None:
        """A header value with bytes that are no UTF-8 (surrogates) is a key like any other."""
        assert position_of("\udcff") != position_of("\udcfe")


class TestLimits:
    """Subsets and fallbacks."""

    @pytest.mark.parametrize("size", [40, 400])
    def test_a_small_subset_of_a_fleet_is_a_ring_of_its_own(self, size: int) -> None:
        """A key goes to the member of the subset that follows it, as if the others did not exist."""
        endpoints: list[Endpoint | None] = [endpoint(slot) for slot in range(size)]
        few = {3, 17, 38}
        hint = [endpoint(slot).destination for slot in few]
        alone = [item if slot in few else None for slot, item in enumerate(endpoints)]
        assert homes(scheduler_of(), fleet_of(endpoints), subset=hint) == homes(scheduler_of(), fleet_of(alone))

    def test_the_first_fallback_is_where_the_key_would_move(self) -> None:
        """When the endpoint of a key goes, the key moves to its first fallback."""
        endpoints: list[Endpoint | None] = [endpoint(slot) for slot in range(8)]
        for key in KEYS[:20]:
            result = scheduler_of(count=2).schedule(keyed(key), fleet_of(endpoints))
            rest: list[Endpoint | None] = [None if item == result.endpoint else item for item in endpoints]
            assert scheduler_of().schedule(keyed(key), fleet_of(rest)).slot == result.fallback_slots[0]

    def test_endpoints_at_the_bound_are_the_last_fallbacks(self) -> None:
        """One that is passed over still serves as a fallback when there are not enough others."""
        scheduler = scheduler_of(count=3)
        snapshot = fleet_of([endpoint(slot) for slot in range(3)])
        first = scheduler.schedule(keyed("a"), snapshot)
        second = scheduler.schedule(keyed("a"), snapshot)
        assert second.fallback_slots[-1] == first.slot


class TestBound:
    """The bound on the load of an endpoint."""

    @pytest.mark.parametrize("load_factor", [1, 1.25, 3.0])
    @pytest.mark.parametrize("keys", [1, 3, 200])
    def test_the_bound_is_never_exceeded(self, load_factor: float, keys: int) -> None:
        """Under random picks and releases, no pick takes an endpoint above the bound at that moment."""
        rng = Random(keys)
        size = 7
        snapshot = fleet_of([endpoint(slot) for slot in range(size)])
        scheduler = scheduler_of(load_factor=load_factor)
        held: list[PickResult] = []
        in_flight: Counter[int] = Counter()
        for _ in range(500):
            if held and rng.random() < 0.4:
                result = held.pop(rng.randrange(len(held)))
                in_flight[result.slot] -= 1
                scheduler.release(result)
            bound = ceil(load_factor * (len(held) + 1) / size)
            held.append(scheduler.schedule(keyed(f"k{rng.randrange(keys)}"), snapshot))
            in_flight[held[-1].slot] += 1
            assert in_flight[held[-1].slot] <= bound


class TestRing:
    """The ring behind the picker."""

    @staticmethod
    def walk_by_definition(fleet: Fleet, virtual_nodes: int, key: str, members: EndpointSet) -> list[int]:
        """Walk all points of a ring that was built anew."""
        ring = Ring.build(fleet, virtual_nodes)
        position = position_of(key)
        points = [point for point in ring.points if point >= position]
        points += [point for point in ring.points if point < position]
        slots = [point & 0xFFFFFF for point in points]
        return [slot for slot in dict.fromkeys(slots) if members >> slot & 1]

    @pytest.mark.parametrize("virtual_nodes", [1, 5, 96])
    def test_a_walk_meets_all_members_in_order(self, virtual_nodes: int) -> None:
        """Whether points are walked or members sorted, the order is that of the points around the circle."""
        rng = Random(virtual_nodes)
        fleet = fleet_of([endpoint(slot) for slot in range(100)]).fleet
        ring = Ring.build(fleet, virtual_nodes)
        for key in KEYS[:20]:
            members = to_endpoint_set(rng.sample(range(100), rng.choice([1, 3, 50, 100])))
            expected = self.walk_by_definition(fleet, virtual_nodes, key, members)
            assert list(ring.walk(position_of(key), members)) == expected

    def test_following_a_fleet_equals_building_anew(self) -> None:
        """After random changes, few or many at once, the ring is the one that would be built anew."""
        rng = Random(8)
        endpoints: list[Endpoint | None] = [endpoint(slot) for slot in range(60)]
        ring = Ring.build(fleet_of(endpoints).fleet, 16)
        for _ in range(30):
            for slot in rng.sample(range(60), rng.choice([0, 1, 2, 30])):
                endpoints[slot] = rng.choice([None, endpoint(slot), endpoint(slot + 100)])
            fleet = fleet_of(endpoints).fleet
            before = ring.points
            earlier, ring = ring, ring.follow(fleet)
            anew = Ring.build(fleet, 16)
            assert ring.fleet is fleet
            assert ring.points == anew.points
            assert earlier.points == before
            for key in KEYS[:3]:
                members, position = fleet.members, position_of(key)
                walked = list(ring.walk(position, members))
                assert walked == list(anew.walk(position, members))
                assert walked[:1] == ([ring.first(position)] if walked else [])
        with pytest.raises(IndexError, match="without points"):
            Ring.build(fleet_of([None]).fleet, 3).first(7)


class TestParameters:
    """What the constructor refuses."""

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"header": ""}, "consistent-hash-picker: header: '' is not a string of one or more characters"),
            ({"header": 3}, "consistent-hash-picker: header: 3 is not a string"),
            ({"load_factor": 0.99}, "consistent-hash-picker: load_factor: 0.99 is not a finite number of 1 or more"),
            ({"load_factor": float("nan")}, "load_factor: nan is not"),
            ({"load_factor": float("inf")}, "load_factor: inf is not"),
            ({"load_factor": True}, "load_factor: True is not"),
            (
                {"virtual_nodes": 0},
                "consistent-hash-picker: virtual_nodes: 0 is not a whole number from 1 to 2147483647",
            ),
            ({"virtual_nodes": 1.5}, "virtual_nodes: 1.5 is not a whole number"),
        ],
    )
    def test_refuses(self, parameters: dict[str, Any], message: str) -> None:
        """The error names the picker, the parameter, the value and what is allowed."""
        with pytest.raises(ConfigurationError, match=message):
            ConsistentHashPicker(**parameters)


def test_the_bound_is_that_of_the_candidates() -> None:
    """What others have in flight gives one busy key no room on the few endpoints that it may go to."""
    scheduler = Scheduler(SchedulingProfile(picker=ConsistentHashPicker()), rng=Random(1))
    snapshot, few = make_snapshot(50), [f"10.0.0.{number}" for number in range(1, 5)]
    for number in range(400):
        scheduler.schedule(InferenceRequest(), snapshot, subset=[f"10.0.0.{number % 40 + 11}"])
    request = InferenceRequest(headers={"x-session-id": "busy"})
    counts = Counter(scheduler.schedule(request, snapshot, subset=few).slot for _ in range(100))
    assert max(counts.values()) <= ceil(1.25 * 100 / 4)
