"""
The plain path, O(candidates): every scorer is asked about every candidate.

It is the specification: the ranking must find the same winners. Profiles with a strategy that may look at everything
run on it, and so do parts of the fleet that are asked for only once.
"""

from __future__ import annotations

from collections.abc import Sequence

from inferencepool.model import Candidates, EndpointSet, Snapshot, to_slots
from inferencepool.scheduling._reservations import Reservations
from inferencepool.scheduling._terms import Bonuses, FleetTerms, burden_of

__all__ = ["candidates_of", "scan_costs"]


def candidates_of(snapshot: Snapshot, members: EndpointSet, pending: Sequence[int] = ()) -> Candidates:
    """List *members* of the fleet of *snapshot*."""
    slots = snapshot.fleet.slots if members == snapshot.fleet.members else to_slots(members)
    return Candidates(snapshot, slots, pending)


def scan_costs(
    candidates: Candidates,
    terms: FleetTerms,
    bonuses: Bonuses,
    plain: Sequence[float],
    reservations: Reservations,
    toll: float = 0.0,
) -> dict[int, float]:
    """
    Add up what all scorers give each of *candidates*, by slot.

    Args:
        candidates: The candidates.
        terms: What the scorers that ignore the request gave them.
        bonuses: What the sparse scorers gave.
        plain: What the plain scorers gave, by candidate; empty when there are none.
        reservations: What is pending and in flight.
        toll: What the request's own demand costs all of them.
    """
    costs = dict(zip(candidates.slots, terms.costs, strict=True))
    if terms.step:
        pending = reservations.pending
        for slot in costs:
            costs[slot] += pending[slot] * terms.step
    if terms.charges:
        for slot in costs:
            costs[slot] += burden_of(terms.charges, reservations.amounts, slot) + toll
    for sets in bonuses:
        # Best sets come first: walk them backwards, so that a better bonus overwrites a worse one.
        granted: dict[int, float] = {}
        for bonus, members in reversed(sets):
            granted.update(dict.fromkeys(to_slots(members), bonus))
        for slot in costs:
            costs[slot] -= granted.get(slot, 0.0)
    if plain:
        for slot, cost in zip(candidates.slots, plain, strict=True):
            costs[slot] += cost
    return costs
