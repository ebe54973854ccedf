"""
The fast path: an immutable ranking of endpoints, searched by bisection.

Three ideas carry it.

1. *What depends on the fleet alone is sorted once per snapshot.* A `Ranking` keeps the endpoints in order of cost, and
   for every rank the set of all endpoints up to it; so the best member of any set is found by bisection, with one
   ``&`` of two ints at each step.
2. *What depends on the request splits the fleet into few sets*, whose members get the same bonus: within one, the
   order is that of the ranking. The sets may overlap. A bonus is the best of an endpoint's sets, so seen through a
   worse one it costs more than it does: it can neither win there, nor hide a winner.
3. *Pending requests are one more such split.* The costs are linear in them, so all endpoints that are *d* requests
   away from what the ranking assumed keep their order and are off by ``d * step``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from operator import itemgetter, or_

import attrs

from inferencepool.model import EndpointSet, to_endpoint_set
from inferencepool.scheduling._levels import Levels
from inferencepool.scheduling._terms import Bonuses, FleetTerms

__all__ = ["Ranking", "search"]

# Above this many bits in all, there is one set for every 16 ranks instead of one for each: memory against four steps.
_BITS = 1 << 22
_GROUP = 16

_FIRST = itemgetter(0)

Found = list[tuple[int, EndpointSet]]


@attrs.define(eq=False, slots=False)
class Ranking:
    """
    Candidates in order of what the scorers that ignore the request give them. Does not change once compiled.

    Attributes:
        members: The candidates.
        terms: What the scorers gave.
        costs: Cost by slot, with the pending requests that the ranking assumed.
        order: Slots, best first.
        sorted_costs: Their costs, ascending.
        reach: The slots of the first *group*, of the first two *group*s ... of ranks.
        group: Ranks per set in *reach*.
    """

    members: EndpointSet
    terms: FleetTerms
    costs: Mapping[int, float] | Sequence[float]
    order: Sequence[int]
    sorted_costs: list[float]
    reach: list[EndpointSet]
    group: int

    @classmethod
    def compile(cls, terms: FleetTerms, slots: Sequence[int], members: EndpointSet, assumed: Sequence[int]) -> Ranking:
        """
        Rank the endpoints in *slots*, which are *members*, in O(n log n).

        Args:
            terms: What the scorers gave them.
            slots: The endpoints, ascending; a range where no slot below the last is left out.
            members: The same as a set.
            assumed: Pending requests by slot to rank with.
        """
        listed, step = terms.costs, terms.step
        whole = isinstance(slots, range)
        if step and any(assumed):
            held = assumed if whole else map(assumed.__getitem__, slots)
            listed = [cost + count * step for cost, count in zip(listed, held, strict=True)]
        costs = listed if whole else dict(zip(slots, listed, strict=True))
        order = sorted(slots, key=costs.__getitem__)
        width = members.bit_length()
        group = 1 if len(order) * width <= _BITS else _GROUP
        sorted_costs = list(map(costs.__getitem__, order))
        return cls(members, terms, costs, order, sorted_costs, _reach(order, group, width), group)

    def scores_for(self, part: EndpointSet) -> bool:
        """Tell whether the scorers give the members of *part* alone what they give them here."""
        if part == self.members:
            return True
        return self.terms.divisible and all(part & edge for edge in self.terms.extremes)

    def first(self, cell: EndpointSet, limit: float) -> int:
        """
        Find the best rank in *cell* whose cost is at most *limit*; -1 when there is none.

        One ``&`` with the set of all ranks that could do settles most calls; the others gallop, then bisect.
        """
        reach, group = self.reach, self.group
        last = (bisect_right(self.sorted_costs, limit) - 1) // group
        if last < 0 or not cell & reach[last]:
            return -1
        low = high = 0
        while high < last and not cell & reach[high]:
            low, high = high + 1, high * 4 + 1
        high = min(high, last)
        while low < high:
            middle = (low + high) >> 1
            if cell & reach[middle]:
                high = middle
            else:
                low = middle + 1
        rank = high * group
        if group > 1:
            order, cell = self.order, cell & reach[high]
            while not cell >> order[rank] & 1:
                rank += 1
            if self.sorted_costs[rank] > limit:
                return -1
        return rank

    @cached_property
    def weights_upto(self) -> list[float]:
        """Sum of the scores above 0 up to each rank."""
        return list(accumulate(max(0.0, -cost) for cost in self.sorted_costs))

    def tied(self, cell: EndpointSet, rank: int) -> EndpointSet:
        """Give the members of *cell* that cost as much as the one at *rank*, which is the best of the cell."""
        costs, order = self.sorted_costs, self.order
        cost = costs[rank]
        if rank + 1 == len(costs) or costs[rank + 1] != cost:
            return 1 << order[rank]
        end = bisect_right(costs, cost, rank)
        whole, rest = divmod(end, self.group)
        upto = self.reach[whole - 1] if whole else 0
        if rest:
            upto |= to_endpoint_set(order[end - rest : end])
        return cell & upto


def _reach(order: Sequence[int], group: int, width: int) -> list[EndpointSet]:
    """Give the set of the first *group* slots of *order*, of the first two groups, and so on; O(width) for each."""
    if group == 1:
        return list(accumulate(map((1).__lshift__, order), or_))
    sets = []
    data = bytearray((width >> 3) + 1)
    for start in range(0, len(order), group):
        for slot in order[start : start + group]:
            data[slot >> 3] |= 1 << (slot & 7)
        sets.append(int.from_bytes(data, "little"))
    return sets


def search(ranking: Ranking, drift: Levels, bonuses: Bonuses, among: EndpointSet | None) -> EndpointSet:
    """
    Find the candidates with the lowest cost: all that tie.

    Args:
        ranking: Ranking of the candidates.
        drift: How many more requests than the ranking assumed are pending at each slot; hidden slots are left out.
        bonuses: What sparse scorers take off the cost; for each scorer its sets, best first.
        among: Search only these candidates; None for all of them.

    Returns:
        The winners; empty when there is no candidate.
    """
    if not ranking.order or not drift.values:
        return 0
    step, sorted_costs = ranking.terms.step, ranking.sorted_costs
    first, sets, values = ranking.first, drift.sets, drift.values
    floor = sorted_costs[0]
    lift = values[0] * step
    best = float("inf")
    found: Found = []
    everyone = ranking.members if among is None else among & ranking.members
    for bonus, cell in _cells(bonuses, everyone) if bonuses else ((0.0, everyone),):
        if floor + lift - bonus > best:
            break
        for value in values:
            loss = value * step - bonus
            if floor + loss > best:
                break
            part = cell & sets[value]
            if part:
                rank = first(part, best - loss)
                if rank >= 0:
                    cost = sorted_costs[rank] + loss
                    if cost < best:
                        best = cost
                        found.clear()
                    found.append((rank, part))
    winners = 0
    for rank, part in found:
        tied = ranking.tied(part, rank)
        winners = winners | tied if winners else tied
    return winners


def _cells(bonuses: Bonuses, everyone: EndpointSet) -> Sequence[tuple[float, EndpointSet]]:
    """Cross the sets of all scorers: the sets that share a total bonus, the largest bonus first."""
    cells = [(0.0, everyone)]
    for sets in bonuses:
        crossed = [
            (total + bonus, both) for bonus, members in sets for total, cell in cells if (both := cell & members)
        ]
        cells = crossed + cells
    if len(bonuses) > 1:
        cells.sort(key=_FIRST, reverse=True)
    return cells
