"""The pick loop: filter, score, pick, reserve."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random
from threading import Lock
from typing import Any, final

from cachetools import LRUCache

from inferencepool._lock import take
from inferencepool.errors import StrategyError
from inferencepool.model import Candidates, EndpointSet, InferenceRequest, Snapshot, to_slots
from inferencepool.scheduling._eligibility import (
    Eligibility,
    SubsetHint,
    apply_filter,
    filtered_out,
    without_avoided,
)
from inferencepool.scheduling._explanation import Explanation, explain
from inferencepool.scheduling._profile import SchedulingProfile
from inferencepool.scheduling._protocols import ScoredCandidate, Standing
from inferencepool.scheduling._ranking import Ranking
from inferencepool.scheduling._reservations import Reservations, ReservedLoad
from inferencepool.scheduling._result import PickResult
from inferencepool.scheduling._scan import candidates_of, scan_costs
from inferencepool.scheduling._standing import RankedStanding, ScannedStanding
from inferencepool.scheduling._terms import ONE, Bonuses, FleetTerms, bonuses, fleet_terms, plain_costs

__all__ = ["Scheduler"]

# Amounts of drift up to this many are searched at no charge; see `Scheduler._charge`.
_FREE_LEVELS = 4

# Rankings of parts of the fleet that are kept per snapshot.
_VIEWS = 32


@final
class Scheduler:
    """
    Decides where requests go, by one profile, and keeps count of what it decided.

    Thread-safe: one lock guards the ranking and the reservations; it is held while the ranking is searched and the pick
    reserved. Filters, sparse and plain scorers are asked without it; fleet scorers (once per snapshot) and pickers are
    asked with it held, and must not pick themselves. The snapshot with the highest generation seen is the one in use.
    """

    def __init__(
        self,
        profile: SchedulingProfile,
        *,
        rng: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        reserve: bool = True,
    ) -> None:
        """
        Schedule by *profile*.

        Args:
            profile: The strategies.
            rng: Source of randomness; give a seeded one for picks that repeat.
            clock: Seconds; the clock that snapshots tell observation times by.
            reserve: Whether a pick counts as load until it is released.
        """
        picker: Any = profile.picker
        self._profile = profile
        self._rng = rng if rng is not None else Random()  # spreading load needs no secrecy
        self._clock = clock
        self._reserve = reserve
        self._sparse = profile.scorers_of("affinities")
        self._plain = profile.scorers_of("score")
        self._plain_filters = profile.filters_of("filter")
        self._pick_plainly = picker.pick if profile.picker_kind == "pick" else None
        self._choose = self._choose_plainly if self._pick_plainly else picker.choose
        self._picked = profile.listeners_of("picked")
        self._released = profile.listeners_of("released")
        self._scans = bool(self._plain or self._pick_plainly)
        self._lock = Lock()
        self._snapshot = Snapshot(generation=-1)
        self._departed: EndpointSet = 0
        self._eligibility = Eligibility(profile, self._snapshot.fleet)
        self._members: EndpointSet = 0
        self._reservations = Reservations(tracks_drift=bool(profile.scorers_of("score_load")))
        self._ranking: Ranking | None = None
        self._views: LRUCache[EndpointSet, Ranking | None] = LRUCache(_VIEWS)
        self._debt = 0

    @property
    def profile(self) -> SchedulingProfile:
        """The profile it schedules by."""
        return self._profile

    @property
    def in_flight(self) -> int:
        """How many picks were not released yet."""
        return self._reservations.total_in_flight

    def schedule(
        self,
        request: InferenceRequest,
        snapshot: Snapshot,
        *,
        departed: EndpointSet = 0,
        subset: SubsetHint | None = None,
    ) -> PickResult:
        """
        Decide where *request* goes and reserve its load.

        Costs O(log endpoints) set operations where all strategies are fleet-only or sparse, O(candidates) otherwise.

        Args:
            request: The request.
            snapshot: The fleet.
            departed: Endpoints of *snapshot* that are gone already.
            subset: Pick only from these addresses (see `inferencepool.selection.narrow`); None for no limit.

        Raises:
            NoEndpointsError: There is no endpoint, or none that *subset* names.
            EndpointsFilteredError: The filters kept none.
            StrategyError: A strategy broke its contract.
        """
        lock = self._lock
        while True:
            if snapshot.generation > self._snapshot.generation:
                self.adopt(snapshot)
            part = self._members_for(request, snapshot, departed, subset)
            extra = bonuses(self._sparse, request, snapshot) if self._sparse else []
            plain = plain_costs(self._plain, request, self._candidates(snapshot, part)) if self._plain else ()
            if not lock.acquire(blocking=False):
                take(lock)
            try:
                if snapshot is self._snapshot:
                    if departed & ~self._departed:
                        self._reservations.depart(departed)
                        self._departed |= departed
                    if part & self._reservations.shown:
                        result = self._decide(request, part, extra, plain, subset)
                        break
                # A newer snapshot came, or the last candidate went: ask again about the fleet as it is.
                snapshot, departed = self._snapshot, self._departed
            finally:
                lock.release()
        if self._picked:
            self._tell(result)
        return result

    def release(self, result: PickResult) -> None:
        """Take back the load of *result*. Only the first call does anything."""
        lock = self._lock
        if not lock.acquire(blocking=False):
            take(lock)
        try:
            first = not result.released
            if first:
                result.released = True
                if self._reserve:
                    self._reservations.release(result)
        finally:
            lock.release()
        if first:
            for tell in self._released:
                tell(result)

    def explain(self, result: PickResult) -> Explanation:
        """Tell what every scorer gave every candidate of *result*, in O(endpoints)."""
        with self._lock:
            pending, exact = self._reservations.pending_at(result.moves)
        return explain(
            self._profile,
            result.request,
            result.snapshot,
            chosen=(result.slot, *result.fallback_slots),
            subset=result.subset,
            departed=result.departed,
            pending=pending,
            exact=exact,
            picked_at=result.picked_at,
        )

    def reserved(self) -> ReservedLoad:
        """Tell the load that picks put on each endpoint of the snapshot in use, in O(endpoints)."""
        with self._lock:
            reservations = self._reservations
            return ReservedLoad(self._snapshot.fleet, reservations.pending[:], reservations.in_flight[:])

    def adopt(self, snapshot: Snapshot) -> None:
        """
        Rank *snapshot*, if it is newer than the one in use. A pick does that by itself.

        Raises:
            StrategyError: A strategy broke its contract; nothing has changed then.
        """
        with self._lock:
            if snapshot.generation <= self._snapshot.generation:
                return
            eligibility = self._eligibility
            if eligibility.fleet is not snapshot.fleet:
                eligibility = Eligibility(self._profile, snapshot.fleet)
            terms = None
            members = without_avoided(eligibility.members, snapshot, 0)
            if members and not self._scans:
                terms = fleet_terms(self._profile, candidates_of(snapshot, members))
            self._reservations.adopt(snapshot)
            self._eligibility, self._departed, self._snapshot = eligibility, 0, snapshot
            self._members = members
            self._rank(terms)

    def _rank(self, terms: FleetTerms | None) -> None:
        """Let the ranking assume the pending requests of this moment."""
        members, assumed = self._members, self._reservations.rebase()
        self._debt = 0
        self._views.clear()
        if terms is not None:
            slots = candidates_of(self._snapshot, members).slots
            self._ranking = Ranking.compile(terms, slots, members, assumed)

    def _tell(self, result: PickResult) -> None:
        """Tell the listeners of a pick; one that nobody gets, because a listener failed, counts no load."""
        try:
            for tell in self._picked:
                tell(result)
        except BaseException:
            self.release(result)
            raise

    def _charge(self, ranking: Ranking) -> Ranking:
        """
        Rank again once searching many amounts of drift has cost about as much as ranking does.

        Rent or buy: every pick that searches more than a few amounts adds the excess to a debt.
        """
        self._debt += len(self._reservations.drift.values) - _FREE_LEVELS
        if self._debt > len(ranking.order) + 100:
            self._rank(ranking.terms)
        return self._ranking or ranking

    def _candidates(self, snapshot: Snapshot, members: EndpointSet) -> Candidates:
        """List *members* with the pending requests of about now, for strategies that are asked without the lock."""
        pending = self._reservations.pending
        return candidates_of(snapshot, members, pending if len(pending) >= len(snapshot.fleet.births) else ())

    def _members_for(
        self, request: InferenceRequest, snapshot: Snapshot, departed: EndpointSet, subset: SubsetHint | None
    ) -> EndpointSet:
        eligibility = self._eligibility
        if eligibility.fleet is not snapshot.fleet:
            eligibility = Eligibility(self._profile, snapshot.fleet)
        part = eligibility.members
        if departed or subset is not None or not part:
            part = eligibility.members_for(departed, subset)
        for item in self._plain_filters:
            part = apply_filter(item, request, self._candidates(snapshot, part & ~departed))
            if not part:
                raise filtered_out(self._profile, [item.name])
        return without_avoided(part, snapshot, departed) if snapshot.avoided else part

    def _decide(
        self,
        request: InferenceRequest,
        part: EndpointSet,
        extra: Bonuses,
        plain: Sequence[float],
        subset: SubsetHint | None,
    ) -> PickResult:
        """Pick from *part*, of which at least one is shown. The lock is held."""
        standing = self._standing(part, extra, plain)
        members, count = standing.members, self._profile.max_num_of_endpoints
        slots = self._choose(request, standing, count)
        if len(slots) != 1 or not members >> slots[0] & 1:
            self._check_choice(slots, members, count)
        fallbacks = tuple(slots[1:]) if count > 1 else ()
        result = PickResult(self, request, self._snapshot, slots[0], subset, self._clock(), fallbacks, self._departed)
        if self._reserve:
            self._reservations.reserve(result)
        else:
            result.birth = self._snapshot.fleet.births[result.slot]
        return result

    def _check_choice(self, slots: Sequence[int], members: EndpointSet, count: int) -> None:
        if not 0 < len(slots) <= count or len(set(slots)) != len(slots) or not all(members >> s & 1 for s in slots):
            message = (
                f"profile {self._profile.name}: picker: chose slots {slots!r}, not 1 to {count} different candidates"
            )
            raise StrategyError(message)

    def _standing(self, part: EndpointSet, extra: Bonuses, plain: Sequence[float]) -> Standing:
        """Find how the candidates in *part* are best searched: by a ranking that fits them, or by a scan."""
        reservations, snapshot = self._reservations, self._snapshot
        members = part & reservations.shown
        ranking = self._ranking
        if ranking is not None:
            if len(reservations.drift.values) > _FREE_LEVELS:
                ranking = self._charge(ranking)
            if part == ranking.members:
                return RankedStanding(members, snapshot, self._rng, reservations, ranking, extra, True)
            view = ranking if ranking.scores_for(part) else self._view(part)
            if view is not None:
                return RankedStanding(members, snapshot, self._rng, reservations, view, extra, False)
        candidates = candidates_of(snapshot, part)
        terms = fleet_terms(self._profile, candidates)
        costs = scan_costs(candidates, terms, extra, plain, reservations.pending)
        return ScannedStanding(members, snapshot, self._rng, reservations, costs)

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
            candidates = candidates_of(self._snapshot, part)
            assumed = self._assumed()
            view = Ranking.compile(fleet_terms(self._profile, candidates), candidates.slots, part, assumed)
            self._views[part] = view
        return view

    def _assumed(self) -> list[int]:
        reservations = self._reservations
        return [now - drift for now, drift in zip(reservations.pending, reservations.drift.counts, strict=True)]

    def _choose_plainly(self, request: InferenceRequest, standing: Standing, count: int) -> list[int]:
        """Let a plain picker choose among all candidates."""
        scored = [
            ScoredCandidate(standing.snapshot.candidate(slot), standing.score(slot) / ONE)
            for slot in to_slots(standing.members)
        ]
        given: Any = self._pick_plainly
        picked = given(request, scored, count)
        known = {id(item) for item in scored}
        for item in picked:
            if id(item) not in known:
                message = f"profile {self._profile.name}: picker: gave {item!r}, which is none of the candidates"
                raise StrategyError(message)
        return [item.candidate.slot for item in picked]
