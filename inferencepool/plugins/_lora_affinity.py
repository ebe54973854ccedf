"""A scorer that looks at the LoRA adapters of an endpoint, those that are loaded and idle included."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import attrs
from cachetools import LRUCache

from inferencepool._checks import checked_flag
from inferencepool._lock import tolerant_lock
from inferencepool.model import EndpointMetrics, EndpointSet, InferenceRequest, Snapshot
from inferencepool.scheduling import PickResult

__all__ = ["LoraAffinityScorer"]

_ACTIVE, _ROOM, _WAITING, _IN_PLACE_OF_IDLE = 1.0, 0.8, 0.6, 0.4
_MOST_ADAPTERS = 10_000


@attrs.define(eq=False)
class _Places:
    """
    The adapters that an endpoint has room for.

    Attributes:
        birth: Number of the endpoint.
        loaded: Those that are probably loaded, the one that was used longest ago first.
        most: How many it has room for.
        running: Those that the latest metrics told to run.
    """

    birth: int
    loaded: OrderedDict[str, None] = attrs.field(factory=OrderedDict)
    most: int = 0
    running: frozenset[str] = frozenset()

    def use(self, adapter: str) -> None:
        """Let *adapter* be the one that was used last."""
        self.loaded[adapter] = None
        self.loaded.move_to_end(adapter)

    def leave_room(self) -> list[str]:
        """Give those that had to go, so that no more are loaded than there is room for."""
        excess = max(0, len(self.loaded) - self.most)
        gone = [adapter for adapter in self.loaded if adapter not in self.running][:excess]
        for adapter in gone:
            del self.loaded[adapter]
        return gone


@attrs.define(eq=False)
class LoraAffinityScorer:
    """
    Prefer the endpoints that have the requested LoRA adapter loaded, then those with room to load it.

    An endpoint that runs the adapter scores 1, one with room for one more adapter 0.8, one without room where the
    adapter already waits to be loaded 0.6, and all others 0.

    Engines list the adapters of the requests that they run. One that runs nothing at the moment is still loaded, until
    others need its place: with *idle_adapters* its endpoint scores 1, too, and an endpoint where a loaded adapter has
    to go for the requested one scores 0.4 in place of 0.8. Loaded are, by what the metrics told and where requests
    went, the adapters that were used last, as many as the endpoint has room for. What is no adapter by the metrics,
    such as the base model, takes no room and displaces nothing.

    *When to choose it:* when several LoRA adapters share a pool; loading an adapter, or evicting one, costs time. With
    weight 4 beside the default profile neither a short queue nor a few pending requests displace an adapter.

    *Looks at:* the model of the request, which adapters the endpoints run, await and have room for, and where earlier
    requests went.

    *Configuration:* type ``lora-affinity-scorer``; beyond the reference ``idleAdapters`` (default true; false for the
    reference's scores).

    Thread-safe: what it remembers is guarded by a lock of its own, and follows each new snapshot in O(endpoints). Not
    to be shared between registries.

    Attributes:
        idle_adapters: Whether adapters count as loaded that run nothing at the moment.

    Raises:
        ConfigurationError: *idle_adapters* is neither true nor false.
    """

    idle_adapters: bool = attrs.field(default=True, kw_only=True, validator=checked_flag("lora-affinity-scorer"))
    _places: dict[int, _Places] = attrs.field(factory=dict, init=False, repr=False)
    # Adapter to the endpoints that have it loaded, and the endpoints whose places are all taken.
    _loaded: dict[str, EndpointSet] = attrs.field(factory=dict, init=False, repr=False)
    _full: EndpointSet = attrs.field(default=0, init=False, repr=False)
    # What the metrics once told to be an adapter.
    _known: LRUCache[str, None] = attrs.field(factory=lambda: LRUCache(_MOST_ADAPTERS), init=False, repr=False)
    _generation: int = attrs.field(default=-1, init=False, repr=False)
    _lock: Lock = attrs.field(factory=tolerant_lock, init=False, repr=False)

    def affinities(self, request: InferenceRequest, snapshot: Snapshot, /) -> Sequence[tuple[float, EndpointSet]]:
        """Give the sets, in O(1); for an explanation, those that the pick was made by."""
        kept: Sequence[tuple[float, EndpointSet]] | None = request.produced.get(self) if request.produced else None
        return self._sets(request, snapshot) if kept is None else kept

    def produce(self, request: InferenceRequest, snapshot: Snapshot, /) -> None:
        """Keep what the request is scored by."""
        if request.produced is not None:
            request.produced[self] = self._sets(request, snapshot)

    def _sets(self, request: InferenceRequest, snapshot: Snapshot) -> Sequence[tuple[float, EndpointSet]]:
        model, room = request.model, snapshot.lora_room
        active, waiting = snapshot.lora_active.get(model, 0), snapshot.lora_waiting.get(model, 0)
        if not self.idle_adapters or model not in self._known:
            return ((_ACTIVE, active), (_ROOM, room), (_WAITING, waiting))
        full = self._full
        return (
            (_ACTIVE, active | self._loaded.get(model, 0)),
            (_ROOM, room & ~full),
            (_WAITING, waiting),
            (_IN_PLACE_OF_IDLE, room & full),
        )

    def prepare(self, snapshot: Snapshot, /) -> None:
        """Follow what the metrics tell, and forget the endpoints that are gone."""
        if not self.idle_adapters:
            return
        with self._lock:
            if snapshot.generation < self._generation:
                return
            self._generation = snapshot.generation
            births = snapshot.fleet.births
            for slot in [*self._places]:
                if slot >= len(births) or self._places[slot].birth != births[slot]:
                    self._forget(slot)
            for slot in snapshot.fleet.slots:
                metrics = snapshot.metrics[slot]
                if metrics.knows_loras:
                    self._observe(slot, births[slot], metrics)
                elif slot in self._places:
                    self._forget(slot)

    def picked(self, result: PickResult, /) -> None:
        """Remember where an adapter is going to be loaded, unless others that run have all places there."""
        model = result.model
        if model not in self._known:
            return
        with self._lock:
            places = self._places.get(result.slot)
            if places is not None and places.birth == result.birth and len(places.running | {model}) <= places.most:
                places.use(model)
                self._tell(result.slot, places, places.leave_room())

    def _observe(self, slot: int, birth: int, metrics: EndpointMetrics) -> None:
        """Take note of what an endpoint told."""
        places = self._places.get(slot)
        if places is None:
            places = self._places[slot] = _Places(birth)
        running, most = metrics.active_models, metrics.max_active_models
        for adapter in metrics.waiting_models:
            self._known[adapter] = None
        if running == places.running and most == places.most:
            return
        # Those that ended ran until about now, and those that began were used later.
        for adapter in (*(places.running - running), *running):
            self._known[adapter] = None
            places.use(adapter)
        places.running, places.most = running, most
        self._tell(slot, places, places.leave_room())

    def _tell(self, slot: int, places: _Places, gone: Sequence[str]) -> None:
        """Bring the sets in line with what an endpoint has loaded."""
        bit = 1 << slot
        for adapter in places.loaded:
            self._loaded[adapter] = self._loaded.get(adapter, 0) | bit
        for adapter in gone:
            self._without(adapter, bit)
        full = len(places.loaded) >= places.most
        self._full = self._full | bit if full else self._full & ~bit

    def _without(self, adapter: str, bit: EndpointSet) -> None:
        left = self._loaded.get(adapter, 0) & ~bit
        if left:
            self._loaded[adapter] = left
        else:
            self._loaded.pop(adapter, None)

    def _forget(self, slot: int) -> None:
        for adapter in self._places.pop(slot).loaded:
            self._without(adapter, 1 << slot)
        self._full &= ~(1 << slot)
