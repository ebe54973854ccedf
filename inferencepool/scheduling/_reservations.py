"""The load that picks caused and that no metrics show yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, Protocol, TypeAlias

import attrs

from inferencepool.errors import StrategyError
from inferencepool.model import EndpointSet, Fleet, Snapshot, to_slots
from inferencepool.scheduling._levels import Levels
from inferencepool.scheduling._load import LoadMeasure
from inferencepool.scheduling._strategies import strategy_name
from inferencepool.scheduling._terms import Charges, burden_of

__all__ = ["Lease", "Losses", "Reservations", "ReservedLoad"]

# Moves that are remembered for explanations asked for later, for each sum that is kept.
_REMEMBERED = 4096

# In the journal a move of *pending* is a slot, inverted where it shrank; any other move is a list's number, a slot and
# by how much it changed. This is the number of *in_flight*; those from 0 on are of the measures' amounts.
_IN_FLIGHT = -1
_Move: TypeAlias = int | tuple[int, int, int]


Losses: TypeAlias = tuple[Sequence[float], Mapping[Any, EndpointSet], float]
"""
What endpoints cost beyond what the ranking assumed: the losses that some endpoint has, ascending; for each of them the
endpoints; and what one unit of a loss costs.
"""


class Lease(Protocol):
    """**Protocol:** a pick whose load counts until it is released; compared by identity."""

    slot: int
    birth: int
    picked_at: float
    moves: int
    amounts: tuple[int, ...]
    has_started: bool


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
    Beside them there are the sums of what measures say about the requests in flight.

    Not thread-safe: the scheduler's lock guards it.

    Attributes:
        measures: Measures of what is in flight.
        pending: Picks that the metrics do not cover yet, by slot.
        in_flight: Picks that were not released yet, by slot.
        begun: Those of them whose responses have begun, by slot.
        total_in_flight: Their sum.
        amounts: For each measure what is in flight, by slot.
        shown: The endpoints that may be picked: all members less those that departed.
        drift: How far *pending* is from what the ranking assumed; departed endpoints are hidden. Where scorers look at
            *amounts*, the keys are pairs: that, and how much more the amounts cost than the ranking assumed.
        moves: How many times anything changed that is remembered.
        debt: What searches have cost that a new ranking would save (see `search`).
    """

    measures: tuple[LoadMeasure, ...] = ()
    pending: list[int] = attrs.field(factory=list)
    in_flight: list[int] = attrs.field(factory=list)
    begun: list[int] = attrs.field(factory=list)
    total_in_flight: int = 0
    amounts: list[list[int]] = attrs.field(init=False)
    shown: EndpointSet = 0
    drift: Levels[Any] = attrs.field(factory=lambda: Levels.build((), ()))
    moves: int = 0
    debt: int = 0
    _charges: Charges = ()
    _tracks_pending: bool = False
    _assumed_burden: Sequence[float] = ()
    _births: Sequence[int] = ()
    _uncovered: dict[int, dict[Lease, None]] = attrs.field(factory=dict)
    _levels: Levels[int] | None = None
    _amount_levels: dict[int, Levels[int]] = attrs.field(factory=dict)
    _journal: deque[_Move] = attrs.field(init=False)
    # Whether moves of *in_flight* are remembered for explanations: from the first pick on that looks at them.
    _is_flight_shown: bool = False

    def __attrs_post_init__(self) -> None:
        self.amounts = [[] for _ in self.measures]
        self._journal = deque(maxlen=_REMEMBERED * (1 + len(self.measures)))

    def adopt(self, snapshot: Snapshot) -> None:
        """Take over a new snapshot: forget endpoints that are gone, and picks that its metrics cover."""
        births = snapshot.fleet.births
        if births is not self._births:
            self._forget_gone(births)
        self.shown = snapshot.fleet.members
        observed_at = snapshot.observed_at
        for slot, leases in self._uncovered.items():
            covered = _covered(leases, observed_at[slot])
            for lease in covered:
                del leases[lease]
            self.pending[slot] -= len(covered)
            self.moves += len(covered)
            self._journal.extend([~slot] * len(covered))
        self._uncovered = {slot: leases for slot, leases in self._uncovered.items() if leases}
        self._levels = None
        self._amount_levels.clear()

    def _forget_gone(self, births: Sequence[int]) -> None:
        size = len(births)
        gone = [slot for slot, birth in enumerate(self._births) if slot >= size or births[slot] != birth]
        by_slot = [self.pending, self.in_flight, self.begun, *self.amounts]
        for slot in gone:
            self._uncovered.pop(slot, None)
            self.total_in_flight -= self.in_flight[slot]
            self._remember_gone(slot)
            for column in by_slot:
                column[slot] = 0
        for column in by_slot:
            column.extend([0] * (size - len(column)))
        self._births = births

    def rebase(self, step: float, charges: Charges) -> tuple[Sequence[int], Sequence[float]]:
        """
        Let a ranking assume what is pending and in flight at this moment.

        Args:
            step: What one more pending request costs; *drift* follows them where that is not 0.
            charges: What amounts in flight cost.

        Returns:
            By slot, the pending requests and what the amounts in flight cost; the latter empty without *charges*.
        """
        self.debt, self._charges, self._tracks_pending = 0, charges, step > 0
        self.drift = Levels.level(len(self.pending), self.shown, (0, 0.0) if charges else 0)
        self._assumed_burden = self._burden_by_slot() if charges else ()
        return self.pending[:], self._assumed_burden

    def assumed(self) -> tuple[Sequence[int], Sequence[float]]:
        """Give what the last `rebase` gave."""
        drifts = map(itemgetter(0), self.drift.counts) if self._charges else self.drift.counts
        return [now - drift for now, drift in zip(self.pending, drifts, strict=True)], self._assumed_burden

    def losses(self, step: float) -> Losses:
        """Sort the shown endpoints by what they cost beyond what was assumed, where a pending request costs *step*."""
        drift = self.drift
        if not self._charges:
            return drift.values, drift.sets, step
        sets: dict[float, EndpointSet] = {}
        for (count, more), members in drift.sets.items():
            loss = count * step + more
            sets[loss] = sets.get(loss, 0) | members
        # Making these sets is work as well that a new ranking would save.
        self.debt += len(sets) >> 2
        return sorted(sets), sets, 1.0

    def loss_at(self, slot: int, step: float) -> float:
        """Tell what the endpoint in *slot* costs beyond what was assumed."""
        key = self.drift.counts[slot]
        if self._charges:
            return float(key[0] * step + key[1])
        return float(key * step)

    def depart(self, endpoints: EndpointSet) -> None:
        """Hide *endpoints* from all searches."""
        for slot in to_slots(endpoints & self.shown):
            self.drift.hide(slot)
            if self._levels is not None:
                self._levels.hide(slot)
            for levels in self._amount_levels.values():
                levels.hide(slot)
        self.shown &= ~endpoints

    def reserve(self, lease: Lease, amounts: tuple[int, ...] = ()) -> None:
        """Count the load of a pick, and what the measures say it adds."""
        slot = lease.slot
        lease.birth, lease.moves = self._births[slot], self.moves
        leases = self._uncovered.get(slot)
        if leases is None:
            self._uncovered[slot] = {lease: None}
        else:
            leases[lease] = None
        self.pending[slot] += 1
        self.moves += 1
        self._journal.append(slot)
        self.in_flight[slot] += 1
        self.total_in_flight += 1
        if amounts:
            lease.amounts = amounts
            self._add(slot, amounts)
        if self._charges:
            self._shift(slot, 1)
        elif self._tracks_pending:
            drift = self.drift
            drift.place(slot, drift.counts[slot] + 1)
        if self._is_flight_shown:
            self._show_flight(slot, 1)

    def start(self, lease: Lease, until_started: Sequence[bool]) -> None:
        """Take note that the response begins; take back the amounts of those measures that end then."""
        if lease.slot >= len(self._births) or self._births[lease.slot] != lease.birth:
            return
        self.begun[lease.slot] += 1
        if lease.amounts:
            ended = zip(lease.amounts, until_started, strict=True)
            self._add(lease.slot, [-amount if ends else 0 for amount, ends in ended])
            ended = zip(lease.amounts, until_started, strict=True)
            lease.amounts = tuple(0 if ends else amount for amount, ends in ended)
            if self._charges:
                self._shift(lease.slot, 0)

    def release(self, lease: Lease) -> None:
        """Take back what `reserve` counted, unless the endpoint is gone, or metrics cover the pick by now."""
        slot = lease.slot
        if slot >= len(self._births) or self._births[slot] != lease.birth:
            return
        self.in_flight[slot] -= 1
        self.total_in_flight -= 1
        if lease.has_started:
            self.begun[slot] -= 1
        if self._is_flight_shown:
            self._show_flight(slot, -1)
        leases = self._uncovered.get(slot)
        by = 0
        if leases and lease in leases:
            if len(leases) > 1:
                del leases[lease]
            else:
                # Nothing is kept for idle slots, so that picks among many stay in little memory.
                del self._uncovered[slot]
            self.pending[slot] -= 1
            self.moves += 1
            self._journal.append(~slot)
            by = -1
        if lease.amounts:
            self._add(slot, [-amount for amount in lease.amounts])
        if self._charges:
            self._shift(slot, by)
        elif by and self._tracks_pending:
            drift = self.drift
            drift.place(slot, drift.counts[slot] - 1)

    def move(self, lease: Lease, slot: int, birth: int, now: float) -> None:
        """Let the load of *lease*, whose response has not begun, be that of another endpoint from *now* on."""
        self.release(lease)
        lease.slot, lease.birth, lease.picked_at = slot, birth, now
        if slot < len(self._births) and self._births[slot] == birth:
            self.reserve(lease, lease.amounts)

    def awaited(self) -> tuple[Sequence[int], Sequence[int]]:
        """Give the births, and by slot the picks in flight that nothing came back for; about, without the lock."""
        births, in_flight, begun = self._births, self.in_flight[:], self.begun[:]
        return births, [held - told for held, told in zip(in_flight, begun, strict=False)]

    def in_flight_at(self, slot: int) -> int:
        """Count the picks of *slot* that were not released yet."""
        self._is_flight_shown = True
        return self.in_flight[slot]

    def in_flight_levels(self) -> Levels[int]:
        """Give the endpoints by picks in flight; kept from the first time it is asked for."""
        if self._levels is None:
            self._is_flight_shown = True
            self._levels = Levels.build(self.in_flight, to_slots(self.shown))
        return self._levels

    def index_of(self, measure: LoadMeasure) -> int:
        """
        Give the number of *measure*.

        Raises:
            StrategyError: No strategy names it.
        """
        for index, item in enumerate(self.measures):
            if item is measure:
                return index
        message = f"measure {strategy_name(measure)}: is asked for, but no strategy of the profile names it"
        raise StrategyError(message)

    def amount_levels(self, measure: LoadMeasure) -> Levels[int]:
        """Give the endpoints by what is in flight by *measure*; kept from the first time it is asked for."""
        index = self.index_of(measure)
        levels = self._amount_levels.get(index)
        if levels is None:
            levels = self._amount_levels[index] = Levels.build(self.amounts[index], to_slots(self.shown))
        return levels

    def at(self, moves: int) -> tuple[Reservations, bool]:
        """Copy the counts as they were after the first *moves* moves; also tell whether enough was remembered."""
        then = Reservations(self.measures, pending=self.pending[:], in_flight=self.in_flight[:], shown=self.shown)
        then.amounts = [column[:] for column in self.amounts]
        undo = self.moves - moves
        exact = undo <= len(self._journal)
        for index in range(undo if exact else 0):
            then.undo(self._journal[-1 - index])
        then.total_in_flight = sum(then.in_flight)
        return then, exact

    def undo(self, move: _Move) -> None:
        """Take back one *move* of a journal, in a copy that nobody picks by."""
        if isinstance(move, tuple):
            index, slot, by = move
            column = self.in_flight if index == _IN_FLIGHT else self.amounts[index]
            column[slot] -= by
        elif move >= 0:
            self.pending[move] -= 1
        else:
            self.pending[~move] += 1

    def _add(self, slot: int, amounts: Sequence[int]) -> None:
        for index, amount in enumerate(amounts):
            if amount:
                self.amounts[index][slot] += amount
                self._remember((index, slot, amount))
                levels = self._amount_levels.get(index)
                if levels is not None:
                    levels.place(slot, self.amounts[index][slot])

    def _shift(self, slot: int, by: int) -> None:
        """Let *drift* follow a change of *pending* by *by*, and any change of *amounts*; only where amounts cost."""
        drift = self.drift
        by = by if self._tracks_pending else 0
        burden = burden_of(self._charges, self.amounts, slot) - self._assumed_burden[slot]
        drift.place(slot, (drift.counts[slot][0] + by, burden))

    def _burden_by_slot(self) -> list[float]:
        # Idle slots cost nothing; most are, and sums of floats are not free.
        busy = [any(held) for held in zip(*self.amounts, strict=True)]
        return [burden_of(self._charges, self.amounts, slot) if is_busy else 0.0 for slot, is_busy in enumerate(busy)]

    def _show_flight(self, slot: int, by: int) -> None:
        """Let those see a change of *in_flight* who look at it."""
        if self._levels is not None:
            self._levels.place(slot, self.in_flight[slot])
        self._remember((_IN_FLIGHT, slot, by))

    def _remember_gone(self, slot: int) -> None:
        """Let explanations of picks before now know what an endpoint had that is gone."""
        for _ in range(self.pending[slot]):
            self._remember(~slot)
        if self._is_flight_shown:
            self._remember((_IN_FLIGHT, slot, -self.in_flight[slot]))
        for index, amounts in enumerate(self.amounts):
            self._remember((index, slot, -amounts[slot]))

    def _remember(self, move: _Move) -> None:
        self.moves += 1
        self._journal.append(move)


def _covered(leases: dict[Lease, None], seen: float) -> list[Lease]:
    """
    List those of *leases*, in the order in which they were picked, that an observation shows which began at *seen*.

    That is all up to the last one that was picked before. Where the clock stepped back, earlier picks may have later
    times; they are shown as well.
    """
    for left_out, lease in enumerate(reversed(leases)):
        if lease.picked_at < seen:
            return list(islice(leases, len(leases) - left_out))
    return []
