"""A ring of hash points for consistent hashing."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import final

import attrs

from inferencepool.model import EndpointSet, Fleet, to_slots

__all__ = ["Ring", "position_of"]

# A position is a 64-bit number: 40 bits of hash, then 24 bits that tell the slot of a point's endpoint.
_SLOT_BITS = 24
_SLOT_MASK = (1 << _SLOT_BITS) - 1
_CIRCLE = (1 << 64) - 1

_DIGEST_SIZE = 64
_POINT_SIZE = 8
_POINTS_OF_A_DIGEST = _DIGEST_SIZE // _POINT_SIZE

# So many points are looked at before the candidates are sorted instead.
_STEPS = 512

# A ring is patched when at most one endpoint in so many changed, and built anew otherwise.
_PATCHED_SHARE = 8


def position_of(key: str) -> int:
    """Find where on the circle *key* belongs; the same in every process."""
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_POINT_SIZE).digest()
    return int.from_bytes(digest, "little") & ~_SLOT_MASK


def _points_of(endpoint_id: str, count: int) -> array[int]:
    """Compute the *count* points of an endpoint, ascending, slot bits 0; eight of them from each digest."""
    encoded = endpoint_id.encode("utf-8", "surrogatepass")
    points: list[int] = []
    for block in range(-(-count // _POINTS_OF_A_DIGEST)):
        digest = blake2b(encoded, digest_size=_DIGEST_SIZE, salt=block.to_bytes(16, "little")).digest()
        points += (
            int.from_bytes(digest[at : at + _POINT_SIZE], "little") & ~_SLOT_MASK
            for at in range(0, _DIGEST_SIZE, _POINT_SIZE)
        )
    return array("Q", sorted(points[:count]))


@final
@attrs.frozen(eq=False)
class Ring:
    """
    The points of all endpoints of a fleet around a circle.

    An endpoint's points follow from its id alone, so that a fleet with one endpoint more or less has the same points
    but for that endpoint's. Takes 16 bytes per point; room for 2**24 slots.

    Attributes:
        fleet: The fleet.
        points: All points, ascending; the lowest bits of each tell the slot.
        points_at: Slot to the points of its endpoint, ascending, slot bits 0.
    """

    fleet: Fleet
    points: array[int]
    points_at: Mapping[int, array[int]]

    @classmethod
    def build(cls, fleet: Fleet, virtual_nodes: int) -> Ring:
        """Hash all endpoints of *fleet*, *virtual_nodes* points each; O(points log points)."""
        points_at = {slot: _points_of(fleet.at(slot).id, virtual_nodes) for slot in fleet.slots}
        points = sorted(point | slot for slot, own in points_at.items() for point in own)
        return cls(fleet, array("Q", points), points_at)

    def follow(self, fleet: Fleet, virtual_nodes: int) -> Ring:
        """Give the ring of *fleet*; where few endpoints differ from this ring's, in one pass over the points."""
        gone, came = _difference(self.fleet, fleet)
        if (len(gone) + len(came)) * _PATCHED_SHARE > len(fleet):
            return Ring.build(fleet, virtual_nodes)
        if not gone and not came:
            return Ring(fleet, self.points, self.points_at)
        points_at = {slot: own for slot, own in self.points_at.items() if slot not in gone}
        points = [point for point in self.points if point & _SLOT_MASK not in gone] if gone else list(self.points)
        for slot in came:
            points_at[slot] = _points_of(fleet.at(slot).id, virtual_nodes)
            points += (point | slot for point in points_at[slot])
        # Most of the list is in order already; the sort finds that run and merges the rest into it.
        points.sort()
        return Ring(fleet, array("Q", points), points_at)

    def walk(self, position: int, members: EndpointSet) -> Iterator[int]:
        """
        Give all *members*, each once, in the order in which their points follow *position* around the circle.

        Looks at a limited number of points, which is enough where *members* is a good part of the fleet; after that, or
        at once where the members are few, it finds each member's first point in the member's own points and sorts
        those, in O(members log members).
        """
        points = self.points
        start = bisect_left(points, position)
        met = 0
        # A member is met every fleet / members points; a point costs about a quarter of what sorting costs per member.
        are_few = 4 * members.bit_count() ** 2 < len(self.fleet)
        for step in range(0 if are_few else min(_STEPS, len(points))):
            slot = points[(start + step) % len(points)] & _SLOT_MASK
            bit = 1 << slot
            if members & bit and not met & bit:
                met |= bit
                yield slot
        yield from self._sorted(position, members & ~met)

    def _sorted(self, position: int, members: EndpointSet) -> list[int]:
        def distance(slot: int) -> int:
            own = self.points_at[slot]
            at = bisect_left(own, position)
            return ((own[at % len(own)] | slot) - position) & _CIRCLE

        return sorted(to_slots(members), key=distance)


def _difference(old: Fleet, new: Fleet) -> tuple[set[int], set[int]]:
    """Find the slots of *old* whose endpoint is gone, and those of *new* whose endpoint came."""
    before = {slot: old.at(slot).id for slot in old.slots}
    after = {slot: new.at(slot).id for slot in new.slots}
    gone = {slot for slot, name in before.items() if after.get(slot) != name}
    came = {slot for slot, name in after.items() if before.get(slot) != name}
    return gone, came
