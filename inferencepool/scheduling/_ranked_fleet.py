"""The fleet in use: its ranking, those of parts of it, and what is reserved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import final

from cachetools import LRUCache

from inferencepool.model import EndpointSet, Snapshot, to_slots
from inferencepool.scheduling._eligibility import Eligibility, without_avoided
from inferencepool.scheduling._load import Demand
from inferencepool.scheduling._profile import SchedulingProfile
from inferencepool.scheduling._ranking import Ranking
from inferencepool.scheduling._reservations import Reservations
from inferencepool.scheduling._scan import candidates_of, scan_costs
from inferencepool.scheduling._standing import RankedStanding, ReservedCandidates, ScannedStanding
from inferencepool.scheduling._terms import Bonuses, FleetTerms, demand_terms, fleet_terms

__all__ = ["RankedFleet"]

# Rankings of parts of the fleet that are kept per snapshot.
_VIEWS = 32

# Ranking costs about as much, for so many endpoints, as looking into one loss more in a search.
_VISITS = 2


@final
class RankedFleet:
    """
    The fleet of the snapshot in use, ready to be searched.

    Not thread-safe: the scheduler's lock guards it, but for reading *snapshot*, *departed*, *usual* and *eligibility*.

    Attributes:
        snapshot: The snapshot in use.
        departed: Those of its endpoints that are gone already.
        eligibility: Which of its endpoints may be picked at all.
        usual: The snapshot, and its endpoints that may be picked and are not avoided for all models.
        reservations: What is pending and in flight.
        candidates: What set filters and scorers among candidates are shown; one for all, since it holds only while
            they are asked. Whoever asks sets its members.
    """

    def __init__(self, profile: SchedulingProfile, rng: Random) -> None:
        """Start without a fleet."""
        self._profile = profile
        self._rng = rng
        self._scans = bool(profile.scorers_of("score") or profile.picker_kind == "pick")
        self._members: EndpointSet = 0
        self._ranking: Ranking | None = None
        self._views: LRUCache[EndpointSet, Ranking | None] = LRUCache(_VIEWS)
        self.snapshot = Snapshot(generation=-1)
        self.usual: tuple[Snapshot, EndpointSet] = (self.snapshot, 0)
        self.departed: EndpointSet = 0
        self._probed: dict[str, EndpointSet] = {}
        self.eligibility = Eligibility(profile, self.snapshot.fleet)
        self.reservations = Reservations(profile.parts_with("amounts"))
        self.candidates = ReservedCandidates(0, self.snapshot, rng, self.reservations)

    def adopt(self, snapshot: Snapshot) -> None:
        """
        Rank *snapshot*, if it is newer than the one in use.

        Raises:
            StrategyError: A strategy broke its contract; nothing has changed then.
        """
        if snapshot.generation <= self.snapshot.generation:
            return
        eligibility = self.eligibility
        if eligibility.fleet is not snapshot.fleet:
            eligibility = Eligibility(self._profile, snapshot.fleet)
        terms = None
        members = without_avoided(eligibility.members, snapshot, 0, "")
        if members and not self._scans:
            terms = fleet_terms(self._profile, candidates_of(snapshot, members))
        self.reservations.adopt(snapshot)
        self.eligibility, self.departed, self.snapshot = eligibility, 0, snapshot
        self._probed.clear()
        self._members = members
        self.usual = (snapshot, members)
        self.candidates.snapshot = snapshot
        self._rank(terms)

    def depart(self, departed: EndpointSet) -> None:
        """Take note of endpoints that are gone."""
        if departed & ~self.departed:
            self.reservations.depart(departed)
            self.departed |= departed

    def to_probe(self, members: EndpointSet, model: str) -> Iterator[int]:
        """List those of *members* whose ejection a request for *model* is to probe, and none does yet."""
        probing, probed = self.snapshot.probing, self._probed
        for key in {"", model}:
            for slot in to_slots(members & probing.get(key, 0) & ~probed.get(key, 0)):
                probed[key] = probed.get(key, 0) | 1 << slot
                yield slot

    def without_probed(self, members: EndpointSet, model: str) -> EndpointSet:
        """Leave out those that a request probes by now, if others are left."""
        probed = self._probed.get("", 0) | self._probed.get(model, 0)
        return members & ~probed or members

    def standing(
        self,
        part: EndpointSet,
        members: EndpointSet,
        extra: Bonuses,
        demands: Sequence[Demand],
        plain: Sequence[float],
    ) -> RankedStanding | ScannedStanding:
        """
        Find how candidates are best searched: by a ranking that fits them, or by a scan.

        Args:
            part: The candidates whose loads count for the lowest and the highest.
            members: Those of them that may be chosen.
            extra: What sparse scorers give.
            demands: How much load the request is, by measure.
            plain: What plain scorers cost each of *part*; empty for nothing.
        """
        snapshot, rng, reservations = self.snapshot, self._rng, self.reservations
        ranking = self._ranking
        if ranking is not None:
            if reservations.debt > len(ranking.order) // _VISITS + 50:
                # Rent or buy: what searches cost beyond what a new ranking would need adds up to a debt. Once that is
                # about what ranking costs, it is paid.
                ranking = self._rank(ranking.terms) or ranking
            whole = part == ranking.members
            view = ranking if whole or ranking.scores_for(part) else self._view(part)
            if view is not None:
                toll = 0.0
                if view.terms.charges:
                    toll, less = demand_terms(view.terms.charges, demands)
                    extra = extra + less
                is_all = whole and members == part & reservations.shown
                return RankedStanding(members, snapshot, rng, reservations, view, extra, is_all, toll)
        candidates = candidates_of(snapshot, part)
        terms = fleet_terms(self._profile, candidates)
        toll, less = demand_terms(terms.charges, demands)
        costs = scan_costs(candidates, terms, extra + less, plain, reservations, toll)
        return ScannedStanding(members, snapshot, rng, reservations, costs)

    def _rank(self, terms: FleetTerms | None) -> Ranking | None:
        """Let the ranking assume what is pending and in flight at this moment."""
        assumed = self.reservations.rebase(terms.step, terms.charges) if terms else self.reservations.rebase(0, ())
        self._views.clear()
        if terms is not None:
            members = self._members
            self._ranking = Ranking.compile(terms, candidates_of(self.snapshot, members).slots, members, assumed)
        return self._ranking

    def _view(self, part: EndpointSet) -> Ranking | None:
        """
        Give the ranking of a part of the fleet; None when it is asked for the first time in this snapshot.

        Compiling one costs one to two scans, whatever the size: so scan at first sight, compile at the second.
        """
        if part not in self._views:
            self._views[part] = None
            return None
        view = self._views[part]
        if view is None:
            candidates = candidates_of(self.snapshot, part)
            terms = fleet_terms(self._profile, candidates)
            view = Ranking.compile(terms, candidates.slots, part, self.reservations.assumed())
            self._views[part] = view
        return view
