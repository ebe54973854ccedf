"""A share of the traffic for endpoints that have just joined."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import ClassVar

import attrs

from inferencepool._checks import checked_number
from inferencepool._lock import tolerant_lock
from inferencepool.model import EndpointSet, InferenceRequest, Snapshot, to_endpoint_set
from inferencepool.scheduling import CandidateSet

__all__ = ["WarmUpFilter"]

_NAME = "warm-up-filter"

# Endpoints that join within this part of the duration count as one group.
_GROUPS = 32


@attrs.define(eq=False)
class WarmUpFilter:
    """
    Send a share of the requests to endpoints that joined less than a while ago, whatever is cached elsewhere.

    An endpoint that has just joined has nothing cached, so strategies of affinity pass it over, and it stays cold. For
    *duration* seconds the new ones are kept alone with the probability ``share * new / candidates``: with a *share* of
    1 they get what they would get of requests spread evenly; all other requests are decided as ever. Endpoints of the
    first fleet that it sees do not count as new, nor do those that come back with what they had cached (see
    `Fleet.caches`); those whose containers restarted do. What it drops may be a fallback.

    *When to choose it:* beside strategies of affinity, where fleets grow under load.

    *Looks at:* when endpoints joined: the time of the first pick from a snapshot that has them.

    *Configuration:* type ``warm-up-filter``, beyond the reference; ``durationSeconds`` (above 0, default 30) and
    ``share`` (above 0 and at most 10, default 0.25).

    When endpoints joined is its only state, guarded by a lock of its own. Not to be shared between registries.

    Attributes:
        duration: Seconds for which an endpoint counts as new.
        share: What new endpoints get, as a factor on an even share.
        clock: Seconds that never run backwards.

    Raises:
        ConfigurationError: A parameter is out of its range or of the wrong type.
    """

    is_preference: ClassVar[bool] = True

    duration: float = attrs.field(default=30.0, validator=checked_number(_NAME, 1e-3))
    share: float = attrs.field(default=0.25, validator=checked_number(_NAME, 1e-3, 10))
    clock: Callable[[], float] = attrs.field(default=time.monotonic, kw_only=True)
    _lock: Lock = attrs.field(factory=tolerant_lock, init=False, repr=False)
    _caches: Sequence[int] | None = attrs.field(default=None, init=False, repr=False)
    _generation: int = attrs.field(default=-1, init=False, repr=False)
    # When each group of endpoints joined, and the slots of those that are still there.
    _joined: deque[tuple[float, EndpointSet]] = attrs.field(factory=deque, init=False, repr=False)

    def narrow(self, request: InferenceRequest, candidates: CandidateSet, /) -> EndpointSet:
        """Keep the new endpoints now and then, in O(1) sets."""
        produced = request.produced if request.produced is not None else {}
        if self not in produced:
            produced[self] = self._draw(candidates)
        kept: EndpointSet = produced[self]
        return kept & candidates.members or candidates.members

    def notes(self, request: InferenceRequest, candidates: CandidateSet, /) -> Sequence[tuple[str, EndpointSet]]:
        """Tell who was kept for being new."""
        produced = request.produced or {}
        return (("has just joined", produced.get(self, 0) & candidates.members),)

    def prepare(self, snapshot: Snapshot, /) -> None:
        """Take note of who joined and who went."""
        caches = snapshot.fleet.caches
        if caches is self._caches:
            return
        with self._lock:
            if caches is self._caches or snapshot.generation < self._generation:
                return
            before, self._caches, self._generation = self._caches, caches, snapshot.generation
            if not before:
                return
            known = len(before)
            changed = [slot for slot, cache in enumerate(caches) if slot >= known or before[slot] != cache]
            other = to_endpoint_set(changed)
            self._joined = deque((at, rest) for at, group in self._joined if (rest := group & ~other))
            if came := other & snapshot.fleet.members:
                self._add(came)

    def _add(self, came: EndpointSet) -> None:
        """Take note of new endpoints; those that join shortly after others grow old with them, so groups stay few."""
        now, joined = self.clock(), self._joined
        if joined and now - joined[-1][0] < self.duration / _GROUPS:
            came |= joined[-1][1]
            now = joined.pop()[0]
        joined.append((now, came))

    def _draw(self, candidates: CandidateSet) -> EndpointSet:
        """Give the new endpoints if it is their turn, else none."""
        self.prepare(candidates.snapshot)
        warming, members = candidates.members & self._new(), candidates.members
        if not warming:
            return 0
        chance = self.share * warming.bit_count() / members.bit_count()
        return warming if candidates.rng.random() < chance else 0

    def _new(self) -> EndpointSet:
        if not self._joined:
            return 0
        now, new = self.clock(), 0
        with self._lock:
            while self._joined and self._joined[0][0] + self.duration <= now:
                self._joined.popleft()
            for _, group in self._joined:
                new |= group
        return new
