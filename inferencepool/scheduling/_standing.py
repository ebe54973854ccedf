"""What a picker chooses from: on the fast path a ranking, on the plain one a score for every candidate."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from random import Random
from typing import final

import attrs

from inferencepool.model import EndpointSet, Snapshot, any_slot, to_slots
from inferencepool.scheduling._load import LoadMeasure
from inferencepool.scheduling._ranking import Found, Ranking, search
from inferencepool.scheduling._reservations import Reservations
from inferencepool.scheduling._terms import Bonuses

__all__ = ["RankedStanding", "ReservedCandidates", "ScannedStanding"]

# So many draws may be refused before those with a score above 0 are listed: then these are few, or have little of what
# the ranking assumed.
_DRAWS = 64
# So many different scores are listed before the candidates are walked.
_TIERS = 64


@attrs.define(eq=False)
class ReservedCandidates:
    """A set of candidates, and what is in flight by the scheduler's reservations."""

    members: EndpointSet
    snapshot: Snapshot
    rng: Random
    _reservations: Reservations

    @property
    def all_pending(self) -> Sequence[int]:
        """The picks that the metrics do not cover yet, by slot."""
        return self._reservations.pending

    def in_flight(self, slot: int) -> int:
        """Count the picks of *slot* that were not released yet."""
        return self._reservations.in_flight_at(slot)

    def least_in_flight(self, among: EndpointSet) -> EndpointSet:
        """Give the members of *among* with the fewest picks in flight, in O(distinct counts)."""
        return self._reservations.in_flight_levels().lowest(among & self.members)

    def by_in_flight(self) -> Sequence[tuple[int, EndpointSet]]:
        """Sort the candidates by picks in flight, in O(distinct counts)."""
        levels, members = self._reservations.in_flight_levels(), self.members
        return [(count, part) for count in levels.values if (part := levels.sets[count] & members)]

    def total_in_flight(self) -> int:
        """Count the picks that were not released yet."""
        return self._reservations.total_in_flight

    def amounts_of(self, measure: LoadMeasure) -> tuple[int, Sequence[int]]:
        """Give the number of *measure* in the profile, and by slot what is in flight."""
        index = self._reservations.index_of(measure)
        return index, self._reservations.amounts[index]

    def least_amount(self, measure: LoadMeasure, among: EndpointSet) -> int | None:
        """Tell the least amount by *measure* that a member of *among* has, in O(distinct amounts)."""
        levels, among = self._reservations.amount_levels(measure), among & self.members
        return next((amount for amount in levels.values if levels.sets[amount] & among), None)


@final
@attrs.define(eq=False)
class RankedStanding(ReservedCandidates):
    """Candidates whose scores are found through a ranking, without walking them."""

    _ranking: Ranking
    _bonuses: Bonuses
    _whole: bool
    _toll: float

    def best(self, among: EndpointSet | None = None) -> EndpointSet:
        """Give the members that share the highest score, in O(log candidates) set operations."""
        if among is None:
            among = None if self._whole else self.members
        else:
            among &= self.members
        return self._ranking.winners(self._search(among))

    def any_best(self) -> int:
        """Draw one of the members that share the highest score, in O(log candidates) set operations."""
        return self._ranking.draw(self._search(None if self._whole else self.members), self.rng)

    def _search(self, among: EndpointSet | None) -> Found:
        ranking, reservations = self._ranking, self._reservations
        found, excess = search(ranking, reservations.losses(ranking.terms.step), self._bonuses, among)
        reservations.debt += excess
        return found

    def score(self, slot: int) -> float:
        """Give the score of *slot*, in O(sets)."""
        ranking = self._ranking
        cost = ranking.costs[slot] + self._reservations.loss_at(slot, ranking.terms.step)
        return _bonus_at(self._bonuses, slot) - cost - self._toll

    def draw_by_score(self, among: EndpointSet) -> int | None:
        """
        Draw in proportion to the scores, in O(log candidates) for most draws.

        Rejection sampling: a proposal comes from weights that are never below the true ones (the ranking's, plus the
        most that bonuses and releases can add) and is taken with the probability true weight / proposed weight. That
        gives exactly the wanted distribution. When too many proposals fail, the candidates are listed from the best one
        on, down to a score of 0, which does too; where they have too many different scores, they are walked.
        """
        among &= self.members
        ranking, random = self._ranking, self.rng.random
        order, upto = ranking.order, ranking.weights_upto
        values, _, unit = self._reservations.losses(ranking.terms.step)
        lift = max(0.0, -values[0] * unit) if values else 0.0
        most = sum(sets[0][0] for sets in self._bonuses) + lift
        total = upto[-1]
        for _ in range(_DRAWS):
            drawn = random() * (total + most * len(order))
            rank = bisect_right(upto, drawn) if drawn < total else int(random() * len(order))
            slot = order[min(rank, len(order) - 1)]
            if among >> slot & 1:
                proposed = max(0.0, -ranking.costs[slot]) + most
                if random() * proposed < self.score(slot):
                    return slot
        return self._draw_from_best(among)

    def _draw_from_best(self, among: EndpointSet) -> int | None:
        """Draw in proportion to the scores, in O(different scores above 0) searches."""
        tiers: dict[EndpointSet, float] = {}
        rest = among
        for _ in range(_TIERS):
            tied = self.best(rest) if rest else 0
            score = self.score(tied.bit_length() - 1) if tied else 0.0
            if score <= 0:
                drawn = _draw({members: members.bit_count() * each for members, each in tiers.items()}, self.rng)
                return any_slot(drawn, self.rng) if drawn else None
            tiers[tied] = score
            rest &= ~tied
        return _draw({slot: self.score(slot) for slot in to_slots(among)}, self.rng)


@final
@attrs.define(eq=False)
class ScannedStanding(ReservedCandidates):
    """Candidates that were all scored one by one."""

    _costs: Mapping[int, float]

    def best(self, among: EndpointSet | None = None) -> EndpointSet:
        """Give the members that share the highest score, in O(candidates)."""
        costs = self._costs
        slots = to_slots(self.members if among is None else among & self.members)
        least = min(map(costs.__getitem__, slots), default=0.0)
        winners = 0
        for slot in slots:
            if costs[slot] == least:
                winners |= 1 << slot
        return winners

    def any_best(self) -> int:
        """Draw one of the members that share the highest score, in O(candidates)."""
        return any_slot(self.best(), self.rng)

    def score(self, slot: int) -> float:
        """Give the score of *slot*."""
        return 0.0 - self._costs[slot]

    def draw_by_score(self, among: EndpointSet) -> int | None:
        """Draw in proportion to the scores, in O(candidates)."""
        return _draw({slot: -self._costs[slot] for slot in to_slots(among & self.members)}, self.rng)


def _bonus_at(bonuses: Bonuses, slot: int) -> float:
    """Sum up the best bonus that each scorer gives *slot*."""
    total = 0.0
    for sets in bonuses:
        for bonus, members in sets:
            if members >> slot & 1:
                total += bonus
                break
    return total


def _draw(scores: Mapping[int, float], rng: Random) -> int | None:
    positive = [(slot, score) for slot, score in scores.items() if score > 0]
    if not positive:
        return None
    upto = list(accumulate(score for _, score in positive))
    rank = bisect_right(upto, rng.random() * upto[-1])
    return positive[min(rank, len(positive) - 1)][0]
