"""Consistent hashing with bounded load."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from threading import Lock
from typing import Any

import attrs

from inferencepool._checks import checked_number, checked_text, checked_whole_number, refusal
from inferencepool._lock import tolerant_lock
from inferencepool.model import Fleet, InferenceRequest, Snapshot
from inferencepool.plugins._ring import Ring, position_of
from inferencepool.scheduling import MaxScorePicker, Standing, StandingPicker

__all__ = ["ConsistentHashPicker"]

_NAME = "consistent-hash-picker"


def _to_lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _check_picker(_: Any, attribute: Any, value: Any) -> None:
    if isinstance(value, type) or not callable(getattr(value, "choose", None)):
        raise refusal(_NAME, attribute.name, value, "is no picker with a method choose")


@attrs.define(eq=False)
class ConsistentHashPicker:
    """
    Give requests with the same key to the same endpoint, as long as it is not overloaded.

    Every endpoint owns points on a circle; a key belongs to the endpoint whose point follows the key's hash. When an
    endpoint goes, only its keys move, and they spread over the others. An endpoint with
    ``ceil(load_factor * (picks in flight + 1) / candidates)`` picks in flight or more is passed over, and the next one
    around the circle takes the request, so that one busy key cannot overload its endpoint; *picks in flight* are those
    of all candidates. Fallbacks are the next endpoints around the circle, those below the bound first. *without_key*
    picks for requests that carry no key.

    Picks that are never released count for ever; with reservations off, no bound applies.

    *When to choose it:* when conversations should stay where their KV cache is, and the engines' caches cannot be
    observed. Scores play no part for requests with a key.

    *Looks at:* a request header, the ids of the endpoints, and the picks in flight.

    *Configuration:* type ``consistent-hash-picker``; ``header`` (default ``x-session-id``), ``loadFactor`` (a number of
    1 or more, default 1.25), ``virtualNodes`` (points per endpoint, a whole number of 1 or more, default 96) and
    ``maxNumOfEndpoints`` (default 1).

    The ring of the current fleet is its only state, replaced as a whole. Do not share a picker between registries. It
    is built before the first pick from the first snapshot, without the scheduler's lock, and follows the fleet in time
    for the endpoints that came or went.

    Attributes:
        header: Name of the header that holds the key; kept in lower case.
        load_factor: How far above the average load an endpoint may be, as a factor.
        virtual_nodes: Points per endpoint; more of them spread the keys more evenly.
        without_key: Picker with ``choose`` for requests without a key; by default the highest score wins. Not shared
            with another profile. Configuration documents cannot set it.

    Raises:
        ConfigurationError: A parameter is out of its range or of the wrong type.
    """

    header: str = attrs.field(default="x-session-id", converter=_to_lower, validator=checked_text(_NAME))
    load_factor: float = attrs.field(default=1.25, validator=checked_number(_NAME, 1))
    virtual_nodes: int = attrs.field(default=96, validator=checked_whole_number(_NAME, 1))
    without_key: StandingPicker = attrs.field(factory=MaxScorePicker, kw_only=True, validator=_check_picker)
    _ring: Ring | None = attrs.field(default=None, init=False, repr=False)
    _generation: int = attrs.field(default=-1, init=False, repr=False)
    # Keeps two threads from building the same ring.
    _lock: Lock = attrs.field(factory=tolerant_lock, init=False, repr=False)

    def choose(self, request: InferenceRequest, standing: Standing, count: int, /) -> Sequence[int]:
        """Choose the endpoint that the request's key belongs to, and the next ones as fallbacks."""
        key = request.headers.get(self.header)
        if not key:
            return self.without_key.choose(request, standing, count)
        members = standing.members
        fleet, ring, position = standing.snapshot.fleet, self._ring, position_of(key)
        if ring is None or ring.fleet is not fleet:
            ring = self._ring_of(fleet)
        if count == 1:
            # Nearly always the endpoint that the key belongs to is a candidate and idle.
            slot = ring.first(position)
            if members >> slot & 1 and not standing.in_flight(slot):
                return [slot]
        if members == fleet.members:
            held = standing.total_in_flight()
        else:
            held = sum(count * among.bit_count() for count, among in standing.by_in_flight())
        bound = ceil(self.load_factor * (held + 1) / members.bit_count())
        chosen: list[int] = []
        full: list[int] = []
        for slot in ring.walk(position, members):
            if standing.in_flight(slot) < bound:
                chosen.append(slot)
                if len(chosen) == count:
                    return chosen
            else:
                full.append(slot)
        return (chosen + full)[:count]

    def prepare(self, snapshot: Snapshot, /) -> None:
        """Let the ring follow the fleet before a pick needs it."""
        with self._lock:
            if snapshot.generation >= self._generation:
                self._generation = snapshot.generation
                self._ring_of(snapshot.fleet)

    def _ring_of(self, fleet: Fleet) -> Ring:
        ring = self._ring
        if ring is None:
            ring = self._ring = Ring.build(fleet, self.virtual_nodes)
        elif ring.fleet is not fleet:
            ring = self._ring = ring.follow(fleet)
        return ring
