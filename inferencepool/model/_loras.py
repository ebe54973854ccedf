"""Which endpoints hold which LoRA adapter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from inferencepool.model._endpoint_set import EndpointSet
from inferencepool.model._metrics import EndpointMetrics

__all__ = ["LoraSets"]


@attrs.frozen(eq=False)
class LoraSets:
    """
    Endpoints by LoRA adapter.

    Attributes:
        active: Adapter to the endpoints that run it.
        waiting: Adapter to the endpoints where it waits.
        room: The endpoints that have room for one more adapter.
    """

    active: Mapping[str, EndpointSet]
    waiting: Mapping[str, EndpointSet]
    room: EndpointSet

    @classmethod
    def collect(cls, metrics: Sequence[EndpointMetrics], slots: Iterable[int]) -> LoraSets:
        """Read the *metrics* of *slots*, in O(slots)."""
        width = (len(metrics) >> 3) + 1
        active: dict[str, bytearray] = {}
        waiting: dict[str, bytearray] = {}
        room = bytearray(width)
        for slot in slots:
            found = metrics[slot]
            if found.knows_loras:
                byte, bit = slot >> 3, 1 << (slot & 7)
                for sets, names in ((active, found.active_models), (waiting, found.waiting_models)):
                    for name in names:
                        members = sets.get(name)
                        if members is None:
                            members = sets[name] = bytearray(width)
                        members[byte] |= bit
                if found.has_room():
                    room[byte] |= bit
        return cls(_to_sets(active), _to_sets(waiting), int.from_bytes(room, "little"))


def _to_sets(found: Mapping[str, bytearray]) -> dict[str, EndpointSet]:
    return {name: int.from_bytes(members, "little") for name, members in found.items()}
