"""A ring of hash points for consistent hashing."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import final

import attrs

from inferencepool.model import EndpointSet, Fleet, to_slots

__all__ = ["Ring", "position_of"]

# A position is a 64-bit number: 40 bits of hash, then 24 bits that tell the slot of a point's endpoint.
_SLOT_BITS = 24
_SLOT_MASK = (1 << _SLOT_BITS) - 1
_POSITION_BITS = 64
_CIRCLE = (1 << _POSITION_BITS) - 1

_DIGEST_SIZE = 64
_POINT_SIZE = 8
_POINTS_OF_A_DIGEST = _DIGEST_SIZE // _POINT_SIZE

# So many points are looked at before the candidates are sorted instead.
_STEPS = 512

# Points that an arc has on average, at most; and the most arcs there are.
_POINTS_OF_AN_ARC = 256
_ARC_BITS = 12

# Endpoints whose own points are kept for walks among few candidates; keys whose position is, and their longest.
_KEPT = 16_384
_LONGEST_KEY = 128

# An arc whose points were not needed yet is a list, in any order; a sorted one is a tuple.
_Arc = list[int] | tuple[int, ...]


def position_of(key: str) -> int:
    """Find where on the circle *key* belongs; the same in every process. Keys that come again are remembered."""
    return _known_position(key) if len(key) <= _LONGEST_KEY else _hash(key)


def _hash(key: str) -> int:
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_POINT_SIZE).digest()
    return int.from_bytes(digest, "little") & ~_SLOT_MASK


_known_position = lru_cache(_KEPT)(_hash)


def _points_of(endpoint_id: str, count: int, slot: int) -> array[int]:
    """
    Compute the *count* points of an endpoint, in no order; eight of them from each digest.

    All of them are one long int while the bits of the slot replace the lowest of each.
    """
    encoded = endpoint_id.encode("utf-8", "surrogatepass")
    blocks = -(-count // _POINTS_OF_A_DIGEST)
    digests = b"".join(
        [
            blake2b(encoded, digest_size=_DIGEST_SIZE, salt=block.to_bytes(16, "little")).digest()
            for block in range(blocks)
        ]
    )
    hashes, ones = _masks(count)
    number = int.from_bytes(digests[: count * _POINT_SIZE], "little") & hashes | ones * slot
    points = array("Q")
    points.frombytes(number.to_bytes(count * _POINT_SIZE, "little"))
    return points


@lru_cache(16)
def _masks(count: int) -> tuple[int, int]:
    """Give two long ints for *count* points: one that selects their hashes, and one with a 1 for each."""
    one = (1).to_bytes(_POINT_SIZE, "little")
    hashes = (_CIRCLE ^ _SLOT_MASK).to_bytes(_POINT_SIZE, "little")
    return int.from_bytes(hashes * count, "little"), int.from_bytes(one * count, "little")


@lru_cache(_KEPT)
def _sorted_points_of(endpoint_id: str, count: int) -> array[int]:
    return array("Q", sorted(_points_of(endpoint_id, count, 0)))


@final
@attrs.frozen(eq=False)
class Ring:
    """
    The points of all endpoints of a fleet around a circle, cut into arcs of the same length.

    An endpoint's points follow from its id alone, so that a fleet with one endpoint more or less has the same points
    but for that endpoint's. An arc is sorted when it is first walked. Takes about 40 bytes per point; room for 2**24
    slots.

    Attributes:
        fleet: The fleet.
        virtual_nodes: Points per endpoint.
        arcs: The points of each arc, the slot in their lowest bits.
        shift: How many bits of a position tell where in its arc it is.
    """

    fleet: Fleet
    virtual_nodes: int
    arcs: list[_Arc]
    shift: int

    @classmethod
    def build(cls, fleet: Fleet, virtual_nodes: int) -> Ring:
        """Hash all endpoints of *fleet*, *virtual_nodes* points each; O(points)."""
        bits = min(_ARC_BITS, (len(fleet) * virtual_nodes // _POINTS_OF_AN_ARC).bit_length())
        shift = _POSITION_BITS - bits
        arcs: list[list[int]] = [[] for _ in range(1 << bits)]
        for slot in fleet.slots:
            for point in _points_of(fleet.at(slot).id, virtual_nodes, slot):
                arcs[point >> shift].append(point)
        return cls(fleet, virtual_nodes, list(arcs), shift)

    def follow(self, fleet: Fleet) -> Ring:
        """Give the ring of *fleet*: O(endpoints) to find those that differ, and O(points of theirs) for the rest."""
        gone, came = _difference(self.fleet, fleet)
        if len(gone) + len(came) > len(fleet) >> 2 or len(fleet) > 4 * len(self.fleet):
            return Ring.build(fleet, self.virtual_nodes)
        arcs = list(self.arcs)
        touched: set[int] = set()
        for slot in gone:
            for point in _points_of(self.fleet.at(slot).id, self.virtual_nodes, slot):
                self._own(arcs, touched, point).remove(point)
        for slot in came:
            for point in _points_of(fleet.at(slot).id, self.virtual_nodes, slot):
                self._own(arcs, touched, point).append(point)
        return Ring(fleet, self.virtual_nodes, arcs, self.shift)

    def _own(self, arcs: list[_Arc], touched: set[int], point: int) -> list[int]:
        """Give the arc of *point* as a list of its own, so that the ring that had it before keeps it."""
        index = point >> self.shift
        arc = arcs[index]
        if index not in touched or isinstance(arc, tuple):
            touched.add(index)
            arc = arcs[index] = list(arc)
        return arc

    @property
    def points(self) -> list[int]:
        """All points, ascending; O(points log points)."""
        return sorted(point for arc in self.arcs for point in arc)

    def first(self, position: int) -> int:
        """
        Give the slot of the first point from *position* on around the circle, in O(log points).

        Raises:
            IndexError: The ring has no point.
        """
        index = position >> self.shift
        arc = self.arcs[index]
        if isinstance(arc, list):
            arc = self._sorted_arc(index)
        at = bisect_left(arc, position)
        if at < len(arc):
            return arc[at] & _SLOT_MASK
        for ahead in range(1, len(self.arcs) + 1):
            arc = self._sorted_arc((index + ahead) % len(self.arcs))
            if arc:
                return arc[0] & _SLOT_MASK
        message = "a ring without points"
        raise IndexError(message)

    def walk(self, position: int, members: EndpointSet) -> Iterator[int]:
        """
        Give all *members*, each once, in the order in which their points follow *position* around the circle.

        Looks at a limited number of points, which is enough where *members* is a good part of the fleet; after that, or
        at once where the members are few, it finds each member's first point in the member's own points and sorts
        those, in O(members log members).
        """
        met = 0
        # A member is met every fleet / members points; a point costs about a quarter of what sorting costs per member.
        if 4 * members.bit_count() ** 2 >= len(self.fleet):
            for step, point in enumerate(self._points_from(position)):
                if step == _STEPS:
                    break
                slot = point & _SLOT_MASK
                if members >> slot & 1 and not met >> slot & 1:
                    met |= 1 << slot
                    yield slot
        yield from self._by_distance(position, members & ~met)

    def _points_from(self, position: int) -> Iterator[int]:
        """Give all points in their order, from *position* around the circle."""
        count, index = len(self.arcs), position >> self.shift
        arc = self._sorted_arc(index)
        at = bisect_left(arc, position)
        yield from arc[at:]
        for ahead in range(1, count):
            yield from self._sorted_arc((index + ahead) % count)
        yield from arc[:at]

    def _sorted_arc(self, index: int) -> tuple[int, ...]:
        arc = self.arcs[index]
        if isinstance(arc, list):
            arc = self.arcs[index] = tuple(sorted(arc))
        return arc

    def _by_distance(self, position: int, members: EndpointSet) -> list[int]:
        def distance(slot: int) -> int:
            own = _sorted_points_of(self.fleet.at(slot).id, self.virtual_nodes)
            at = bisect_left(own, position)
            return ((own[at % len(own)] | slot) - position) & _CIRCLE

        return sorted(to_slots(members), key=distance)


def _difference(old: Fleet, new: Fleet) -> tuple[list[int], list[int]]:
    """Find the slots of *old* whose endpoint is gone, and those of *new* whose endpoint came."""
    before = {slot: old.at(slot).id for slot in old.slots}
    after = {slot: new.at(slot).id for slot in new.slots}
    gone = [slot for slot, name in before.items() if after.get(slot) != name]
    came = [slot for slot, name in after.items() if before.get(slot) != name]
    return gone, came
