"""Which slot each endpoint of a registry has."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from inferencepool.model import Endpoint
from inferencepool.registry._changes import MembershipChange
from inferencepool.registry._columns import Columns

__all__ = ["Placement"]


@final
class Placement:
    """
    The slots of the endpoints of each pod. Not thread-safe: the registry's lock guards it.

    Attributes:
        slots: Endpoint id to slot.
    """

    def __init__(self, columns: Columns, clock: Callable[[], float]) -> None:
        """Begin without endpoints; *columns* gives the slots, and *clock* tells seconds that never run backwards."""
        self.slots: dict[str, int] = {}
        self._columns = columns
        self._clock = clock
        self._by_pod: dict[tuple[str, str], dict[int | None, tuple[int, Endpoint]]] = {}

    def pods(self) -> list[tuple[str, str]]:
        """List the keys of all pods that have endpoints."""
        return list(self._by_pod)

    def place(
        self, key: tuple[str, str], endpoints: tuple[Endpoint, ...], *, for_good: bool = False
    ) -> MembershipChange:
        """
        Let *endpoints* be those of the pod *key*. One that moved to another address or pod counts as a new one.

        Those that are not among them any more went *for_good*, or may come back.
        """
        before = self._by_pod.get(key, {})
        after: dict[int | None, tuple[int, Endpoint]] = {}
        added, updated, removed = [], [], []
        wanted = {endpoint.rank: endpoint for endpoint in endpoints}
        for rank, (slot, old) in before.items():
            new = wanted.get(rank)
            if new is None or (new.destination, new.pod_uid) != (old.destination, old.pod_uid):
                self._columns.remove(slot, self._clock(), for_good=for_good)
                del self.slots[old.id]
                removed.append(old)
            else:
                after[rank] = (slot, new)
                if new != old:
                    self._columns.replace(slot, new)
                    updated.append(new)
        for rank, endpoint in wanted.items():
            if rank not in after:
                slot = self._columns.add(endpoint, self._clock())
                after[rank] = (slot, endpoint)
                self.slots[endpoint.id] = slot
                added.append(endpoint)
        if after:
            self._by_pod[key] = after
        else:
            self._by_pod.pop(key, None)
        return MembershipChange(tuple(added), tuple(updated), tuple(removed))
