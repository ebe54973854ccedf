"""The registry's columns: what is known about each slot, ready to be copied into a snapshot."""

from __future__ import annotations

import attrs

from inferencepool.model import Endpoint, EndpointMetrics, EndpointSet, Fleet, Snapshot
from inferencepool.registry._staleness import Ages, StaleMetrics, Staleness

__all__ = ["Columns"]

_NOTHING = EndpointMetrics()
_NEVER = float("-inf")


@attrs.define(eq=False)
class Columns:
    """
    What is known about each slot. Writing costs O(1); `publish` copies.

    Not thread-safe: the registry's lock guards it. A slot that is freed is used again only after the next `publish`, so
    that a slot means one endpoint within a snapshot.

    Attributes:
        members: The slots in use.
        departed: Slots of the last snapshot that were freed since.
        dirty: Whether anything changed since the last snapshot; whoever publishes one takes it back.
    """

    members: EndpointSet = 0
    departed: EndpointSet = 0
    dirty: bool = False
    _fleet: Fleet | None = None
    _born: int = 0
    _endpoints: list[Endpoint | None] = attrs.field(factory=list)
    _births: list[int] = attrs.field(factory=list)
    _metrics: list[EndpointMetrics] = attrs.field(factory=list)
    _waiting: list[int] = attrs.field(factory=list)
    _running: list[int] = attrs.field(factory=list)
    _usage: list[float] = attrs.field(factory=list)
    _observed_at: list[float] = attrs.field(factory=list)
    _free: list[int] = attrs.field(factory=list)
    _leaving: list[int] = attrs.field(factory=list)

    def add(self, endpoint: Endpoint) -> int:
        """Give *endpoint* a slot."""
        if self._free:
            slot = self._free.pop()
            self._endpoints[slot] = endpoint
        else:
            slot = len(self._endpoints)
            self._endpoints.append(endpoint)
            self._births.append(0)
            self._metrics.append(_NOTHING)
            self._waiting.append(0)
            self._running.append(0)
            self._usage.append(0.0)
            self._observed_at.append(_NEVER)
        self._born += 1
        self._births[slot] = self._born
        self.members |= 1 << slot
        self._touch_fleet()
        return slot

    def replace(self, slot: int, endpoint: Endpoint) -> None:
        """Give the occupant of *slot* other labels or another node."""
        self._endpoints[slot] = endpoint
        self._touch_fleet()

    def remove(self, slot: int) -> None:
        """Free *slot*."""
        self._endpoints[slot] = None
        self._metrics[slot] = _NOTHING
        self._waiting[slot] = self._running[slot] = 0
        self._usage[slot] = 0.0
        self._observed_at[slot] = _NEVER
        self._births[slot] = 0
        self.members ^= 1 << slot
        self.departed |= 1 << slot
        self._leaving.append(slot)
        self._touch_fleet()

    def observe(self, slot: int, metrics: EndpointMetrics, observed_at: float) -> bool:
        """Write *metrics* that were observed at *observed_at*; False when these or later ones are there already."""
        before, known = self._metrics[slot], self._observed_at[slot]
        if observed_at <= known and (observed_at < known or metrics == before):
            return False
        self._observed_at[slot] = observed_at
        if metrics is not before:
            self._metrics[slot] = metrics
            self._waiting[slot] = metrics.waiting_queue_size
            self._running[slot] = metrics.running_requests
            self._usage[slot] = metrics.kv_cache_usage
        self.dirty = True
        return True

    def turn_back(self, slot: int, now: float) -> bool:
        """Forget when *slot* was observed if that is later than *now*; True if it is."""
        if self._observed_at[slot] <= now:
            return False
        self._observed_at[slot] = _NEVER
        return True

    def is_occupied_by(self, slot: int, endpoint: Endpoint) -> bool:
        """Tell whether *slot* is that of *endpoint*, and not of another pod or address of the same name."""
        occupant = self._endpoints[slot]
        return occupant is endpoint or (
            occupant is not None
            and (occupant.destination, occupant.pod_uid) == (endpoint.destination, endpoint.pod_uid)
        )

    def publish(self, generation: int, now: float, staleness: Staleness | None = None) -> tuple[Snapshot, float]:
        """
        Copy everything into a snapshot, in O(slots).

        Returns:
            The snapshot, and when the next endpoint becomes stale.
        """
        if self._fleet is None:
            self._fleet = Fleet(tuple(self._endpoints), tuple(self._births), self.members)
        self._free += self._leaving
        self._leaving.clear()
        self.departed = 0
        ages = Ages()
        if staleness is not None:
            ages = Ages.judge(self._fleet, self._observed_at, staleness.threshold, now)
        policy = staleness.policy if staleness is not None and ages.stale and ages.fresh else StaleMetrics.LAST
        worse = policy is StaleMetrics.WORST
        snapshot = Snapshot(
            generation=generation,
            fleet=self._fleet,
            metrics=self._metrics[:],
            waiting_queue_size=ages.worsened(self._waiting, 1) if worse else self._waiting[:],
            running_requests=ages.worsened(self._running) if worse else self._running[:],
            kv_cache_usage=ages.worsened(self._usage) if worse else self._usage[:],
            observed_at=self._observed_at[:],
            stale=ages.stale,
            avoided=ages.stale if policy is StaleMetrics.AVOID else 0,
        )
        return snapshot, ages.until

    def _touch_fleet(self) -> None:
        self._fleet, self.dirty = None, True
