"""The load that picks caused and that no metrics show yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

import attrs

from inferencepool.model import EndpointSet, Fleet, Snapshot, to_slots
from inferencepool.scheduling._levels import Levels

__all__ = ["Lease", "Reservations", "ReservedLoad"]

# Moves that are remembered for explanations asked for later.
_REMEMBERED = 4096


class Lease(Protocol):
    """**Protocol:** a pick whose load counts until it is released; compared by identity."""

    slot: int
    birth: int
    picked_at: float
    moves: int
    released: bool


@attrs.frozen(eq=False)
class ReservedLoad:
    """
    The load that picks put on endpoints, at one moment.

    Attributes:
        fleet: Who the endpoints are.
        pending: Picks that the metrics do not cover yet, by slot.
        in_flight: Picks that were not released yet, by slot.
    """

    fleet: Fleet
    pending: Sequence[int]
    in_flight: Sequence[int]


@attrs.define(eq=False)
class Reservations:
    """
    Picks in flight, by slot.

    Two counts are kept. *in flight* grows at a pick and shrinks at its release. *pending* grows at a pick and shrinks
    at its release or when the snapshot holds an observation that began after it: then the metrics show the request.

    Not thread-safe: the scheduler's lock guards it.

    Attributes:
        pending: Picks that the metrics do not cover yet, by slot.
        in_flight: Picks that were not released yet, by slot.
        total_in_flight: Their sum.
        shown: The endpoints that may be picked: all members less those that departed.
        drift: How far *pending* is from what the ranking assumed; departed endpoints are hidden.
        moves: How many times *pending* changed.
        tracks_drift: Whether *drift* follows *pending*; off where no scorer looks at pending requests.
    """

    pending: list[int] = attrs.field(factory=list)
    in_flight: list[int] = attrs.field(factory=list)
    total_in_flight: int = 0
    shown: EndpointSet = 0
    drift: Levels = attrs.field(factory=lambda: Levels.build((), ()))
    moves: int = 0
    tracks_drift: bool = True
    _births: Sequence[int] = ()
    _uncovered: dict[int, dict[Lease, None]] = attrs.field(factory=dict)
    _levels: Levels | None = None
    _journal: deque[int] = attrs.field(factory=lambda: deque(maxlen=_REMEMBERED))

    def adopt(self, snapshot: Snapshot) -> None:
        """Take over a new snapshot: forget endpoints that are gone, and picks that its metrics cover."""
        births = snapshot.fleet.births
        if births is not self._births:
            self._forget_gone(births)
        self.shown = snapshot.fleet.members
        observed_at = snapshot.observed_at
        for slot, leases in self._uncovered.items():
            seen = observed_at[slot]
            covered = []
            for lease in leases:
                if lease.picked_at >= seen:
                    break
                covered.append(lease)
            for lease in covered:
                del leases[lease]
                self._count(slot, -1)
        self._levels = None

    def _forget_gone(self, births: Sequence[int]) -> None:
        size = len(births)
        gone = [slot for slot, birth in enumerate(self._births) if slot >= size or births[slot] != birth]
        for slot in gone:
            self._uncovered.pop(slot, None)
            self.total_in_flight -= self.in_flight[slot]
            self.pending[slot] = self.in_flight[slot] = 0
        if gone:
            self._journal.clear()
            self.moves += _REMEMBERED + 1
        grow = size - len(self.pending)
        self.pending += [0] * grow
        self.in_flight += [0] * grow
        self._births = births

    def rebase(self) -> list[int]:
        """Let a ranking assume the pending counts of this moment, and give them."""
        self.drift = Levels.level(len(self.pending), self.shown)
        return self.pending[:]

    def depart(self, endpoints: EndpointSet) -> None:
        """Hide *endpoints* from all searches."""
        for slot in to_slots(endpoints & self.shown):
            self.drift.hide(slot)
            if self._levels is not None:
                self._levels.hide(slot)
        self.shown &= ~endpoints

    def reserve(self, lease: Lease) -> None:
        """Count the load of a pick."""
        slot = lease.slot
        lease.birth, lease.moves = self._births[slot], self.moves
        leases = self._uncovered.get(slot)
        if leases is None:
            self._uncovered[slot] = {lease: None}
        else:
            leases[lease] = None
        self._count(slot, 1)
        if self.tracks_drift:
            self.drift.move(slot, 1)
        self._fly(slot, 1)

    def release(self, lease: Lease) -> None:
        """Take back what `reserve` counted, unless the endpoint is gone, or metrics cover the pick by now."""
        slot = lease.slot
        if slot >= len(self._births) or self._births[slot] != lease.birth:
            return
        self._fly(slot, -1)
        leases = self._uncovered[slot]
        if lease in leases:
            del leases[lease]
            self._count(slot, -1)
            if self.tracks_drift:
                self.drift.move(slot, -1)

    def in_flight_levels(self) -> Levels:
        """Give the endpoints by picks in flight; kept from the first time it is asked for."""
        if self._levels is None:
            self._levels = Levels.build(self.in_flight, to_slots(self.shown))
        return self._levels

    def pending_at(self, moves: int) -> tuple[list[int], bool]:
        """Give *pending* as it was after the first *moves* moves, and whether enough was remembered to tell."""
        pending = self.pending[:]
        undo = self.moves - moves
        if undo > len(self._journal):
            return pending, False
        for entry in _last(self._journal, undo):
            if entry >= 0:
                pending[entry] -= 1
            else:
                pending[~entry] += 1
        return pending, True

    def _count(self, slot: int, by: int) -> None:
        self.pending[slot] += by
        self.moves += 1
        self._journal.append(slot if by > 0 else ~slot)

    def _fly(self, slot: int, by: int) -> None:
        self.in_flight[slot] += by
        self.total_in_flight += by
        if self._levels is not None:
            self._levels.move(slot, by)


def _last(journal: deque[int], count: int) -> Iterable[int]:
    return [journal[-1 - index] for index in range(count)]
