"""Spreading prompts that nobody has cached."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import attrs

from inferencepool._checks import checked_method, checked_whole_number
from inferencepool._lock import tolerant_lock
from inferencepool.model import EndpointSet, InferenceRequest, Snapshot, to_slots
from inferencepool.plugins._prefix_producer import ApproxPrefixCacheProducer
from inferencepool.scheduling import CandidateSet, PickResult

__all__ = ["NoHitLruScorer"]

_NAME = "no-hit-lru-scorer"


@attrs.define(eq=False)
class NoHitLruScorer:
    """
    Send prompts that nobody has cached to the endpoints that got such a prompt least recently.

    Where a candidate has any of the prompt cached, all score 0.5. Else they score from 1 down to 0 by their place:
    first those that never got such a prompt, by slot, then the others, the longest ago first.

    *When to choose it:* beside ``prefix-cache-scorer``, so that new prefixes spread over the fleet.

    *Looks at:* the prompt, what is cached where, and where earlier prompts went that nobody had cached.

    *Configuration:* type ``no-hit-lru-scorer``; ``lruSize`` (endpoints that are remembered; 0 or less stands for
    the default, 1024),
    ``prefixMatchInfoProducerName`` (default ``approx-prefix-cache-producer``), and ``prefixPluginName`` and
    ``prefixPluginType``, which change nothing.

    For prompts that nobody has cached every endpoint has a score of its own, so those picks cost O(candidates). The
    order of the endpoints is its only state, guarded by a lock of its own. Not to be shared between registries.

    Attributes:
        producer: Knows what is cached where.
        lru_size: Endpoints that are remembered.

    Raises:
        ConfigurationError: A parameter is out of its range or of the wrong type.
    """

    producer: ApproxPrefixCacheProducer = attrs.field(
        factory=ApproxPrefixCacheProducer, validator=checked_method(_NAME, "match", "producer")
    )
    lru_size: int = attrs.field(default=1024, validator=checked_whole_number(_NAME, 1))
    # Slot to the number of its occupant, the one that got a prompt longest ago first.
    _used: OrderedDict[int, int] = attrs.field(factory=OrderedDict, init=False, repr=False)
    _lock: Lock = attrs.field(factory=tolerant_lock, init=False, repr=False)

    @property
    def producers(self) -> tuple[object, ...]:
        """What it shares with other strategies."""
        return (self.producer,)

    def affinities_among(
        self, request: InferenceRequest, candidates: CandidateSet, /
    ) -> Sequence[tuple[float, EndpointSet]]:
        """Give all candidates where one has a part of the prompt, in O(1); else one set for each, in O(candidates)."""
        levels = self.producer.match(request, candidates.snapshot).levels
        if levels and levels[-1][1] & candidates.members:
            return [(0.5, candidates.members)]
        produced = request.produced if request.produced is not None else {}
        by_members: dict[EndpointSet, list[tuple[float, EndpointSet]]] = produced.setdefault(self, {})
        sets = by_members.get(candidates.members)
        if sets is None:
            sets = by_members[candidates.members] = self._by_place(candidates)
        return sets

    def picked(self, result: PickResult, /) -> None:
        """Remember who got a prompt that nobody had cached."""
        if self not in (result.produced or {}):
            return
        with self._lock:
            self._used[result.slot] = result.birth
            self._used.move_to_end(result.slot)
            if len(self._used) > self.lru_size:
                self._used.popitem(last=False)

    def prepare(self, snapshot: Snapshot, /) -> None:
        """Forget the endpoints that are gone."""
        births = snapshot.fleet.births
        with self._lock:
            for slot, birth in list(self._used.items()):
                if slot >= len(births) or birth != births[slot]:
                    del self._used[slot]

    def _by_place(self, candidates: CandidateSet) -> list[tuple[float, EndpointSet]]:
        births = candidates.snapshot.fleet.births
        with self._lock:
            places = {
                slot: place
                for place, (slot, birth) in enumerate(self._used.items())
                if births[slot : slot + 1] == (birth,)
            }
        slots = to_slots(candidates.members)
        unused = [slot for slot in slots if slot not in places]
        last = len(slots) - 1
        if not last:
            return [(1.0, candidates.members)]
        sets = [(1 - place / last, 1 << slot) for place, slot in enumerate(unused)]
        sets += [(max(0.0, 1 - (len(unused) + places[slot]) / last), 1 << slot) for slot in slots if slot in places]
        return sets
