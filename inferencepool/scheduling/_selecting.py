"""Who is a candidate for a request: what filters keep, what is avoided, and who may be a fallback."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import final

from inferencepool.model import Candidates, EndpointSet, InferenceRequest, Snapshot
from inferencepool.scheduling._eligibility import Eligibility, SubsetHint, without_avoided, without_excluded
from inferencepool.scheduling._filtering import Narrowing, early_and_late
from inferencepool.scheduling._load import Demand
from inferencepool.scheduling._max_score import MaxScorePicker
from inferencepool.scheduling._profile import NamedFilter, SchedulingProfile
from inferencepool.scheduling._ranked_fleet import RankedFleet
from inferencepool.scheduling._scan import candidates_of
from inferencepool.scheduling._terms import Bonuses, bonuses, plain_costs

__all__ = ["Selecting"]


@final
class Selecting:
    """
    Who is a candidate of *fleet* for a request. Holds no state of its own.

    Attributes:
        early: The filters that are asked without the scheduler's lock.
        late: Those that are asked with it held.
    """

    def __init__(self, profile: SchedulingProfile, fleet: RankedFleet) -> None:
        """Ask the filters of *profile*."""
        self.early, self.late = early_and_late(profile)
        self._is_simple = not (self.early or self.late)
        self._profile = profile
        self._fleet = fleet
        self._plain = profile.scorers_of("score")
        self._among = profile.scorers_of("affinities_among")
        self._others = MaxScorePicker()

    def candidates(self, snapshot: Snapshot, members: EndpointSet) -> Candidates:
        """List *members* with the pending requests of about now; for strategies asked without the lock as well."""
        pending = self._fleet.reservations.pending
        return candidates_of(snapshot, members, pending if len(pending) >= len(snapshot.fleet.births) else ())

    def members_for(
        self,
        request: InferenceRequest,
        snapshot: Snapshot,
        departed: EndpointSet,
        subset: SubsetHint | None,
        excluded: tuple[str, ...],
    ) -> EndpointSet:
        usual, members = self._fleet.usual
        limits = subset is not None or departed or excluded or snapshot.avoided_by_model
        if members and usual is snapshot and self._is_simple and not limits:
            # Most requests may go anywhere: what is left for them was found once.
            return members
        eligibility = self._fleet.eligibility
        if eligibility.fleet is not snapshot.fleet:
            eligibility = Eligibility(self._profile, snapshot.fleet)
        part = eligibility.members
        if departed or subset is not None or not part:
            part = eligibility.members_for(departed, subset)
        if excluded:
            part = without_excluded(part, snapshot, departed, excluded)
        if self.early:
            narrowing = self._narrow(self.early, request, part, snapshot, departed)
            part = narrowing.part
            if not part:
                raise narrowing.nothing_left(self._profile)
        if (snapshot.avoided or snapshot.avoided_by_model) and not self.late:
            return without_avoided(part, snapshot, departed, request.model)
        return part

    def _narrow(
        self,
        items: Sequence[NamedFilter],
        request: InferenceRequest,
        part: EndpointSet,
        snapshot: Snapshot,
        departed: EndpointSet,
    ) -> Narrowing:
        narrowing = Narrowing.of(part)
        listed = partial(self.candidates, snapshot)
        narrowing.apply(items, request, departed, self._fleet.candidates, listed)
        return narrowing

    def narrow_late(self, request: InferenceRequest, part: EndpointSet) -> tuple[EndpointSet, EndpointSet]:
        """Ask the filters that are asked with the lock held; give the candidates, and those that may be fallbacks."""
        snapshot, departed = self._fleet.snapshot, self._fleet.departed
        fresh = without_avoided(part, snapshot, departed, request.model)
        narrowing = self._narrow(self.late, request, fresh, snapshot, departed)
        if not narrowing.part and fresh != part:
            narrowing = self._narrow(self.late, request, part, snapshot, departed)
        if not narrowing.part:
            raise narrowing.nothing_left(self._profile)
        return narrowing.part, narrowing.wide

    def fallbacks(
        self,
        request: InferenceRequest,
        slots: Sequence[int],
        part: EndpointSet,
        wide: EndpointSet,
        probed: EndpointSet,
        extra: Bonuses,
        demands: Sequence[Demand],
    ) -> tuple[int, ...]:
        """
        Give those of the chosen *slots* that come after the first, and choose more where there are too few.

        Args:
            request: The request.
            slots: What was chosen.
            part: The candidates.
            wide: Those and others, which preferences left out.
            probed: Those of *part* that had to be chosen from, to probe one; empty for all.
            extra: What sparse scorers gave.
            demands: How much load the request is, by measure.
        """
        count = self._profile.max_num_of_endpoints
        if probed:
            slots = [*slots, *self.choose_others(request, part, probed, extra, demands, count - len(slots))]
        if wide is not part and len(slots) < count:
            slots = [*slots, *self.choose_others(request, wide, part, extra, demands, count - len(slots))]
        return tuple(slots[1:])

    def choose_others(
        self,
        request: InferenceRequest,
        wide: EndpointSet,
        part: EndpointSet,
        extra: Bonuses,
        demands: Sequence[Demand],
        count: int,
    ) -> Sequence[int]:
        """Choose fallbacks by score among those of *wide* that preferences left out."""
        fleet = self._fleet
        shown = wide & fleet.reservations.shown
        others = shown & ~part
        if not others:
            return ()
        plain = plain_costs(self._plain, request, self.candidates(fleet.snapshot, wide)) if self._plain else ()
        fleet.candidates.members = shown
        extra = extra + bonuses(self._among, request, fleet.candidates)
        # Two at least, of which the first are taken: a single one would be drawn in another way by a scan.
        return self._others.choose(request, fleet.standing(wide, others, extra, demands, plain), max(count, 2))[:count]
