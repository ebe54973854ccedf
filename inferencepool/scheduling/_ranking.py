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
   away from what the ranking assumed keep their order and are off by ``d * step``. Amounts in flight, such as tokens,
   are the same, but for more different losses.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate, islice
from operator import add, itemgetter, or_
from random import Random

import attrs

from inferencepool.model import EndpointSet, any_slot, to_endpoint_set
from inferencepool.scheduling._reservations import Losses
from inferencepool.scheduling._terms import Bonuses, FleetTerms

__all__ = ["Found", "Ranking", "search"]

# Above this many bits in all, there is one set for every 16 ranks instead of one for each: memory against four steps.
_BITS = 1 << 22
_GROUP = 16

# So many ranks may be drawn that are not in the cell before those that are get listed.
_DRAWS = 8

_FIRST = itemgetter(0)

Found = list[tuple[int, EndpointSet]]
"""The cells that hold a candidate with the lowest cost, each with the rank of its first one."""


@attrs.define(eq=False, slots=False)
class Ranking:
    """
    Candidates in order of what the scorers that ignore the request give them.

    The order does not change once compiled. The sets of leading ranks are made when a search first needs them: most
    searches end within the first few ranks, so most sets are never made. The scheduler's lock guards that.

    Attributes:
        members: The candidates.
        terms: What the scorers gave.
        costs: Cost by slot, with the pending requests that the ranking assumed.
        order: Slots, best first.
        sorted_costs: Their costs, ascending.
        group: Ranks between one set of leading ranks and the next.
    """

    members: EndpointSet
    terms: FleetTerms
    costs: Mapping[int, float] | Sequence[float]
    order: Sequence[int]
    sorted_costs: list[float]
    group: int
    _reach: list[EndpointSet] = attrs.field(factory=list)
    _ends: dict[float, int] = attrs.field(factory=dict)

    @classmethod
    def compile(
        cls,
        terms: FleetTerms,
        slots: Sequence[int],
        members: EndpointSet,
        assumed: tuple[Sequence[int], Sequence[float]],
    ) -> Ranking:
        """
        Rank the endpoints in *slots*, which are *members*, in O(n log n).

        Args:
            terms: What the scorers gave them.
            slots: The endpoints, ascending; a range where no slot below the last is left out.
            members: The same as a set.
            assumed: By slot, the pending requests to rank with, and what amounts in flight cost; empty for nothing.
        """
        listed, step = terms.costs, terms.step
        whole = isinstance(slots, range)
        pending, burden = assumed
        if step and any(pending):
            held = pending[: len(slots)] if whole else map(pending.__getitem__, slots)
            listed = [cost + count * step for cost, count in zip(listed, held, strict=True)]
        if any(burden):
            listed = list(map(add, listed, burden if whole else map(burden.__getitem__, slots)))
        costs = listed if whole else dict(zip(slots, listed, strict=True))
        order = sorted(slots, key=costs.__getitem__)
        width = members.bit_length()
        group = 1 if len(order) * width <= _BITS else _GROUP
        sorted_costs = list(map(costs.__getitem__, order))
        return cls(members, terms, costs, order, sorted_costs, group)

    def scores_for(self, part: EndpointSet) -> bool:
        """Tell whether the scorers give the members of *part* alone what they give them here."""
        if part == self.members:
            return True
        # Endpoints that are to be avoided are not ranked with the others.
        is_part = not part & ~self.members
        return is_part and self.terms.divisible and all(part & edge for edge in self.terms.extremes)

    def first(self, cell: EndpointSet, limit: float) -> int:
        """
        Find the best rank in *cell* whose cost is at most *limit*; -1 when there is none.

        Gallops over the sets of leading ranks until one meets the cell, then bisects between the last two.
        """
        reach, group = self._reach, self.group
        last = (bisect_right(self.sorted_costs, limit) - 1) // group
        if last < 0:
            return -1
        low = high = 0
        while not (cell & reach[high] if high < len(reach) else cell & self._extend(high)):
            if high == last:
                return -1
            low, high = high + 1, min(high * 4 + 1, last)
        while low < high:
            middle = (low + high) >> 1
            if cell & reach[middle]:
                high = middle
            else:
                low = middle + 1
        if group == 1:
            return high
        rank, order, cell = high * group, self.order, cell & reach[high]
        while not cell >> order[rank] & 1:
            rank += 1
        return rank if self.sorted_costs[rank] <= limit else -1

    def _extend(self, index: int) -> EndpointSet:
        """Make the sets of leading ranks up to number *index*, which holds the first ``(index + 1) * group`` slots."""
        reach, group, order = self._reach, self.group, self.order
        if group == 1:
            last = reach[-1] if reach else 0
            longer = accumulate(map((1).__lshift__, order[len(reach) : index + 1]), or_, initial=last)
            reach.extend(islice(longer, 1, None))
            return reach[index]
        width = (self.members.bit_length() >> 3) + 1
        data = bytearray((reach[-1] if reach else 0).to_bytes(width, "little"))
        for start in range(len(reach) * group, (index + 1) * group, group):
            for slot in order[start : start + group]:
                data[slot >> 3] |= 1 << (slot & 7)
            reach.append(int.from_bytes(data, "little"))
        return reach[index]

    @cached_property
    def weights_upto(self) -> list[float]:
        """Sum of the scores above 0 up to each rank."""
        return list(accumulate(max(0.0, -cost) for cost in self.sorted_costs))

    def end_of(self, cost: float) -> int:
        """Find where the run of endpoints that cost *cost* ends; looked up after the first time."""
        end = self._ends.get(cost)
        if end is None:
            end = self._ends[cost] = bisect_right(self.sorted_costs, cost)
        return end

    def draw(self, found: Found, rng: Random) -> int:
        """
        Draw one of the winners that a search *found* (one or more) uniformly at random, in O(1) for most draws.

        Those that tie stand side by side in the ranking: one of them is drawn, and again if it is not in the cell. When
        too many draws fail, the winners are listed; either way each is as likely as the others.
        """
        rank, cell = found[0]
        if len(found) == 1:
            costs, order, after = self.sorted_costs, self.order, rank + 1
            cost = costs[rank]
            if after == len(costs) or costs[after] != cost:
                return order[rank]
            count, random = (self._ends.get(cost) or self.end_of(cost)) - rank, rng.random
            for _ in range(_DRAWS):
                slot = order[rank + int(random() * count)]
                if cell >> slot & 1:
                    return slot
        return any_slot(self.winners(found), rng)

    def winners(self, found: Found) -> EndpointSet:
        """Give all the winners that a search *found*."""
        winners = 0
        for rank, cell in found:
            tied = self._tied(cell, rank)
            winners = winners | tied if winners else tied
        return winners

    def _tied(self, cell: EndpointSet, rank: int) -> EndpointSet:
        """Give the members of *cell* that cost as much as the one at *rank*, which is the best of the cell."""
        costs, order = self.sorted_costs, self.order
        cost = costs[rank]
        if rank + 1 == len(costs) or costs[rank + 1] != cost:
            return 1 << order[rank]
        end = self.end_of(cost)
        whole, rest = divmod(end, self.group)
        if whole > len(self._reach):
            self._extend(whole - 1)
        upto = self._reach[whole - 1] if whole else 0
        if rest:
            upto |= to_endpoint_set(order[end - rest : end])
        return cell & upto


def search(ranking: Ranking, losses: Losses, bonuses: Bonuses, among: EndpointSet | None) -> tuple[Found, int]:
    """
    Find the candidates with the lowest cost: the cells that hold all that tie.

    Args:
        ranking: Ranking of the candidates.
        losses: What endpoints cost beyond what the ranking assumed; who is in no set is left out.
        bonuses: What sparse scorers take off the cost; for each scorer its sets, best first.
        among: Search only these candidates; None for all of them.

    Returns:
        What `Ranking.winners` and `Ranking.draw` take, empty when there is no candidate; and how many losses were
        looked into beyond one for each cell, which is what a ranking of the present counts would have saved.
    """
    values, sets, step = losses
    found: Found = []
    if not ranking.order or not values:
        return found, 0
    sorted_costs, first = ranking.sorted_costs, ranking.first
    floor = sorted_costs[0]
    lift = values[0] * step
    best = float("inf")
    visits = 0
    everyone = ranking.members if among is None else among & ranking.members
    for bonus, members in _cells(bonuses, everyone) if bonuses else ((0.0, everyone),):
        if floor + lift - bonus > best:
            break
        cell = everyone & members
        if not cell:
            continue
        visits -= 1
        for value in values:
            loss = value * step - bonus
            if floor + loss > best:
                break
            visits += 1
            part = cell & sets[value]
            rank = first(part, best - loss) if part else -1
            if rank >= 0:
                cost = sorted_costs[rank] + loss
                if cost < best:
                    best = cost
                    found.clear()
                found.append((rank, part))
    return found, visits


def _cells(bonuses: Bonuses, everyone: EndpointSet) -> Sequence[tuple[float, EndpointSet]]:
    """Cross the sets of all scorers: the sets that share a total bonus, the largest bonus first; some may be empty."""
    if len(bonuses) == 1:
        # Most searches end in the first set, so the others are not even made smaller here.
        return [*bonuses[0], (0.0, everyone)]
    cells = [(0.0, everyone)]
    for sets in bonuses:
        crossed = [
            (total + bonus, both) for bonus, members in sets for total, cell in cells if (both := cell & members)
        ]
        cells = crossed + cells
    cells.sort(key=_FIRST, reverse=True)
    return cells
