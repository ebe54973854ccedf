"""The registry's columns: what is known about each slot, ready to be copied into a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor, fsum
from typing import Any

import attrs

from inferencepool.model import Endpoint, EndpointMetrics, EndpointSet, Fleet, Snapshot, to_slots
from inferencepool.model._metrics import SIGNALS
from inferencepool.registry._away import Away
from inferencepool.registry._ejections import View
from inferencepool.registry._staleness import Ages, StaleMetrics, Staleness

__all__ = ["Columns"]

_NOTHING = EndpointMetrics()
_NEVER = float("-inf")
_NOBODY = View()


@attrs.define(eq=False)
class Columns:
    """
    What is known about each slot. Writing costs O(1); `publish` copies.

    Not thread-safe: the registry's lock guards it. A slot that is freed is used again only after the next `publish`, so
    that a slot means one endpoint within a snapshot; and, as long as the endpoint may come back, by that one alone.

    Attributes:
        members: The slots in use.
        departed: Slots of the last snapshot that were freed since.
        lost: The slots whose endpoints cannot be reached, so that their metrics are stale whatever their age.
        dirty: Whether anything changed since the last snapshot; whoever publishes one takes it back.
        births: Number of the occupant, by slot (see `Fleet.births`).
        metrics: The latest metrics, by slot.
        vacated: Is called with a slot that becomes another endpoint's.
        restarted: Is called with a slot whose endpoint began anew.
    """

    members: EndpointSet = 0
    departed: EndpointSet = 0
    lost: EndpointSet = 0
    dirty: bool = False
    births: list[int] = attrs.field(factory=list)
    metrics: list[EndpointMetrics] = attrs.field(factory=list)
    vacated: Callable[[int], object] = attrs.field(default=lambda _: None)
    restarted: Callable[[int], object] = attrs.field(default=lambda _: None)
    _unknown: dict[str, EndpointSet] = attrs.field(factory=lambda: dict.fromkeys(SIGNALS, 0))
    _fleet: Fleet | None = None
    _born: int = 0
    _endpoints: list[Endpoint | None] = attrs.field(factory=list)
    _caches: list[int] = attrs.field(factory=list)
    _away: Away = attrs.field(factory=Away)
    _waiting: list[int] = attrs.field(factory=list)
    _running: list[int] = attrs.field(factory=list)
    _usage: list[float] = attrs.field(factory=list)
    _observed_at: list[float] = attrs.field(factory=list)
    _free: list[int] = attrs.field(factory=list)
    _leaving: list[int] = attrs.field(factory=list)

    def add(self, endpoint: Endpoint, now: float) -> int:
        """Give *endpoint* a slot: the one that it had where it comes back as what it was."""
        self._born += 1
        kept = self._away.come_back(endpoint, now)
        if kept is not None:
            slot = kept
        else:
            self._release(self._away.give_up(endpoint))
            slot = self._free.pop() if self._free else self._append()
            self._caches[slot] = self._born
        self._endpoints[slot] = endpoint
        self.births[slot] = self._born
        self.members |= 1 << slot
        self._note_unknown(slot, _NOTHING.unknown)
        self._touch_fleet()
        return slot

    def _append(self) -> int:
        self._endpoints.append(None)
        self.births.append(0)
        self._caches.append(0)
        self.metrics.append(_NOTHING)
        self._waiting.append(0)
        self._running.append(0)
        self._usage.append(0.0)
        self._observed_at.append(_NEVER)
        return len(self._endpoints) - 1

    def replace(self, slot: int, endpoint: Endpoint) -> None:
        """Give the occupant of *slot* other labels or another node, or restart it, so that its cache is empty."""
        before = self._endpoints[slot]
        if before is None or before.restarts != endpoint.restarts:
            self._born += 1
            self._caches[slot] = self._born
            self.restarted(slot)
        self._endpoints[slot] = endpoint
        self._touch_fleet()

    def remove(self, slot: int, now: float, *, for_good: bool = False) -> None:
        """Free *slot*, and keep it for its endpoint, unless that went *for_good*."""
        endpoint, self._endpoints[slot] = self._endpoints[slot], None
        self.metrics[slot] = _NOTHING
        self._waiting[slot] = self._running[slot] = 0
        self._usage[slot] = 0.0
        self._observed_at[slot] = _NEVER
        self.births[slot] = 0
        self.members ^= 1 << slot
        self.lost &= ~(1 << slot)
        self._note_unknown(slot, frozenset())
        self.departed |= 1 << slot
        self._release([slot] if endpoint is None or for_good else self._away.leave(endpoint, slot, now))
        self._touch_fleet()

    def _release(self, slots: Sequence[int]) -> None:
        """Let *slots* be used by others, from the next snapshot on."""
        for slot in slots:
            self._caches[slot] = 0
            self.vacated(slot)
            self._leaving.append(slot)
            self._touch_fleet()

    def observe(self, slot: int, metrics: EndpointMetrics, observed_at: float) -> bool:
        """Write *metrics* that were observed at *observed_at*; False when these or later ones are there already."""
        before, known = self.metrics[slot], self._observed_at[slot]
        if observed_at <= known and (observed_at < known or self._tells_nothing_new(slot, metrics)):
            return False
        self._observed_at[slot] = observed_at
        if self.lost:
            self.lost &= ~(1 << slot)
        if metrics is not before:
            if metrics.unknown is not before.unknown:
                self._note_unknown(slot, metrics.unknown)
            self.metrics[slot] = metrics
            # What was not told is of a class of its own; strategies get plain numbers.
            self._waiting[slot] = metrics.waiting_queue_size + 0
            self._running[slot] = metrics.running_requests + 0
            self._usage[slot] = metrics.kv_cache_usage + 0.0
        self.dirty = True
        return True

    def _tells_nothing_new(self, slot: int, metrics: EndpointMetrics) -> bool:
        before = self.metrics[slot]
        return metrics == before and metrics.unknown == before.unknown and not self.lost >> slot & 1

    def _note_unknown(self, slot: int, unknown: frozenset[str]) -> None:
        for name, members in self._unknown.items():
            self._unknown[name] = members | 1 << slot if name in unknown else members & ~(1 << slot)

    def lose(self, slot: int) -> bool:
        """Take note that the endpoint in *slot* cannot be reached; False if that is known."""
        if self.lost >> slot & 1:
            return False
        self.lost |= 1 << slot
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

    def at(self, slot: int) -> Endpoint | None:
        """Give the endpoint in *slot*; None where it is free, or kept for one that may come back."""
        return self._endpoints[slot]

    def publish(
        self, generation: int, now: float, staleness: Staleness | None = None, view: View = _NOBODY
    ) -> tuple[Snapshot, float]:
        """
        Copy everything, and what *view* tells of ejections, into a snapshot, in O(slots).

        Returns:
            The snapshot, and when it changes if nothing happens.
        """
        self._release(self._away.expire(now))
        if self._fleet is None:
            self._fleet = Fleet(tuple(self._endpoints), tuple(self.births), self.members, tuple(self._caches))
        self._free += self._leaving
        self._leaving.clear()
        self.departed = 0
        ages = Ages()
        if staleness is not None:
            ages = Ages.judge(self._fleet, self._observed_at, staleness.threshold, now).without(self.lost, self._fleet)
        policy = staleness.policy if staleness is not None and ages.stale and ages.fresh else StaleMetrics.LAST
        worse = policy is StaleMetrics.WORST
        unknown = {name: part for name, part in self._unknown.items() if part and part != self.members}
        columns: list[list[Any]] = [self._waiting, self._running, self._usage]
        if unknown:
            told = self.members & ~ages.stale
            columns = [
                self._with_means(column, unknown.get(name, 0), told, whole=name != "kv_cache_usage")
                for name, column in zip(SIGNALS, columns, strict=True)
            ]
        waiting, running, usage = columns
        ejected = view.avoided.get("", 0)
        snapshot = Snapshot(
            generation=generation,
            fleet=self._fleet,
            metrics=self.metrics[:],
            waiting_queue_size=ages.worsened(waiting, 1) if worse else waiting[:],
            running_requests=ages.worsened(running) if worse else running[:],
            kv_cache_usage=ages.worsened(usage) if worse else usage[:],
            observed_at=self._observed_at[:],
            stale=ages.stale,
            avoided=(ages.stale if policy is StaleMetrics.AVOID else 0) | ejected,
            failing=view.failing,
            avoided_by_model={model: part for model, part in view.avoided.items() if model},
            ejections=view.ejections,
            probing=view.probing,
            unknown=unknown,
        )
        return snapshot, min(ages.until, view.until)

    def _with_means(self, column: Sequence[Any], unknown: EndpointSet, fresh: EndpointSet, *, whole: bool) -> list[Any]:
        """Give *column* with the mean of those that tell it, if possible *fresh* ones, for the *unknown* ones."""
        copy = list(column)
        if unknown:
            told = [column[slot] for slot in to_slots(fresh & ~unknown or self.members & ~unknown)]
            mean = fsum(told) / len(told)
            value = floor(mean + 0.5) if whole else mean
            for slot in to_slots(unknown):
                copy[slot] = value
        return copy

    def _touch_fleet(self) -> None:
        self._fleet, self.dirty = None, True
