"""How a pick is explained: every strategy is asked again, about every candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from math import isfinite
from random import Random

import attrs

from inferencepool.model import Candidates, EjectionReason, EndpointSet, InferenceRequest, Snapshot, to_slots
from inferencepool.scheduling._eligibility import Eligibility, SubsetHint, excluded_set, kept_by, without_avoided
from inferencepool.scheduling._explanation import ExplainedCandidate, ExplainedScore, Explanation, Rejection
from inferencepool.scheduling._filtering import Narrowing, early_and_late
from inferencepool.scheduling._load import Demand
from inferencepool.scheduling._profile import NamedFilter, SchedulingProfile, WeightedScorer
from inferencepool.scheduling._reservations import Reservations
from inferencepool.scheduling._result import PickResult
from inferencepool.scheduling._scan import candidates_of, scan_costs
from inferencepool.scheduling._standing import ReservedCandidates
from inferencepool.scheduling._terms import (
    ONE,
    bonuses,
    demand_of,
    demand_terms,
    fleet_terms,
    load_of,
    plain_costs,
    scores_of,
)

__all__ = ["explain"]


def explain(profile: SchedulingProfile, result: PickResult, reservations: Reservations, *, exact: bool) -> Explanation:
    """
    Ask all strategies of *profile* again, in O(endpoints), about the pick of *result*.

    What was pending and in flight at that moment is in *reservations*, a copy.
    """
    request, snapshot, departed = copy(result.request), result.snapshot, result.departed
    request.produced = result.produced
    chosen, subset, excluded = (result.slot, *result.fallback_slots), result.subset, result.excluded
    places = {slot: place for place, slot in enumerate(chosen, 1)}
    reservations.shown = snapshot.fleet.members & ~departed
    asked = ReservedCandidates(0, snapshot, Random(0), reservations)
    part, rejected = _filter(profile, request, snapshot, subset, excluded, departed, asked, places)
    pending = reservations.pending
    candidates = candidates_of(snapshot, part, pending)
    asked.members = part & ~departed
    terms = fleet_terms(profile, candidates)
    demands = [demand_of(measure, request, snapshot) for measure in reservations.measures]
    toll, less = demand_terms(terms.charges, demands)
    given = [
        [
            # Adding 0.0 makes a -0.0 of a scorer's own a plain 0.0.
            ExplainedScore(scorer.name, score + 0.0, scorer.weight)
            for score in _scores(scorer, request, candidates, asked, demands)
        ]
        for scorer in profile.scorers
    ]
    costs = scan_costs(
        candidates,
        terms,
        [
            *bonuses(profile.scorers_of("affinities"), request, snapshot),
            *bonuses(profile.scorers_of("affinities_among"), request, asked),
            *less,
        ],
        plain_costs(profile.scorers_of("score"), request, candidates),
        reservations,
        toll,
    )
    noted = [part.notes(request, asked) for part in profile.parts_with("notes")]
    explained = [
        ExplainedCandidate(
            endpoint=snapshot.fleet.at(slot),
            scores=tuple(column[index] for column in given),
            # Not the sum of the scores above: rounded as the scheduler does, so that what tied there shows as tied.
            total=0.0 - costs[slot] / ONE,
            pending=pending[slot],
            place=places.get(slot),
            stale=bool(snapshot.stale >> slot & 1),
            age=result.picked_at - snapshot.observed_at[slot] if isfinite(snapshot.observed_at[slot]) else None,
            notes=_notes_of(slot, noted, _ejection_of(snapshot, slot, request.model)),
            unknown=tuple(name for name, members in snapshot.unknown.items() if members >> slot & 1),
        )
        for index, slot in enumerate(candidates.slots)
        if not departed >> slot & 1
    ]
    explained.sort(key=lambda candidate: (candidate.place or len(chosen) + 1, -candidate.total))
    return Explanation(
        profile=profile.name,
        model=request.model,
        generation=snapshot.generation,
        candidates=tuple(explained),
        rejected=tuple(rejected),
        exact=exact,
    )


def _notes_of(slot: int, noted: Sequence[Sequence[tuple[str, EndpointSet]]], first: str) -> tuple[str, ...]:
    """Give *first* and what strategies note of *slot*, each once."""
    told = (next((text for text, members in notes if members >> slot & 1), "") for notes in noted)
    return tuple(filter(None, dict.fromkeys([first, *told])))


def _ejection_of(snapshot: Snapshot, slot: int, model: str) -> str:
    """Tell that a candidate is ejected: it is to be probed, or no other was left."""
    if snapshot.probing_for(model) >> slot & 1:
        return f"ejected, to be probed: {snapshot.ejections.get(slot, EjectionReason.MODEL_NOT_FOUND)}"
    if slot in snapshot.ejections or snapshot.avoided_by_model.get(model, 0) >> slot & 1:
        return _avoided_because(snapshot, slot, model)
    return ""


def _filter(
    profile: SchedulingProfile,
    request: InferenceRequest,
    snapshot: Snapshot,
    subset: SubsetHint | None,
    excluded: Sequence[str],
    departed: EndpointSet,
    asked: ReservedCandidates,
    places: Mapping[int, int],
) -> tuple[EndpointSet, list[Rejection]]:
    """Apply everything that keeps endpoints from being candidates, one after the other."""
    fleet = snapshot.fleet
    rejected: list[Rejection] = []

    def reject(endpoints: EndpointSet, reason: str) -> None:
        rejected.extend(Rejection(fleet.at(slot), reason, places.get(slot)) for slot in to_slots(endpoints))

    reject(departed & fleet.members, "departed")
    # Endpoints that departed since the snapshot still count for the lowest and the highest load; see `Scheduler`.
    part = fleet.members
    for item in profile.filters_of("keep"):
        kept = part & kept_by(item, fleet)
        reject(part & ~kept & ~departed, f"filter {item.name}")
        part = kept
    if subset is not None:
        kept = part & Eligibility(profile, fleet).narrow(subset)
        reject(part & ~kept & ~departed, "not in the subset")
        part = kept
    kept = part & ~excluded_set(fleet, excluded)
    reject(part & ~kept & ~departed, "excluded")
    part = kept
    early, late = early_and_late(profile)
    pending = asked.all_pending

    def narrow(members: EndpointSet, items: Sequence[NamedFilter]) -> Narrowing:
        narrowing = Narrowing.of(members)
        narrowing.apply(items, request, departed, asked, lambda listed: candidates_of(snapshot, listed, pending))
        return narrowing

    allowed = narrow(part, early)
    fresh = without_avoided(allowed.part, snapshot, departed, request.model)
    chosen = narrow(fresh, late)
    if not chosen.part:
        fresh, chosen = allowed.part, narrow(allowed.part, late)
    for item, left_out in allowed.steps:
        reject(left_out, f"filter {item.name}")
    for slot in to_slots(allowed.part & ~fresh & ~departed):
        reject(1 << slot, _avoided_because(snapshot, slot, request.model))
    for item, left_out in chosen.steps:
        reject(left_out, f"filter {item.name}")
    # Where the counts of that moment are not known any more, filters that look at them may answer otherwise today.
    picked = 1 << next(iter(places))
    if picked & ~chosen.part & ~departed:
        return chosen.part | picked, [item for item in rejected if item.place != 1]
    return chosen.part, rejected


def _avoided_because(snapshot: Snapshot, slot: int, model: str) -> str:
    """Tell why an endpoint is avoided."""
    ejection = snapshot.ejections.get(slot)
    if ejection is not None:
        return f"ejected: {ejection}"
    if snapshot.avoided_by_model.get(model, 0) >> slot & 1:
        return f"ejected: {EjectionReason.MODEL_NOT_FOUND} for model {model}"
    return "stale metrics"


def _scores(
    scorer: WeightedScorer,
    request: InferenceRequest,
    candidates: Candidates,
    asked: ReservedCandidates,
    demands: Sequence[Demand],
) -> Sequence[float]:
    """Ask one scorer of any kind about *candidates*."""
    if scorer.kind == "score_load":
        load = load_of(scorer, candidates)
        added, step = candidates.pending, load.cost_of_pending
        if load.of is not None:
            index, amounts = asked.amounts_of(load.of)
            added, step = [amounts[slot] + demands[index].at(slot) for slot in candidates.slots], load.step
        return [(load.zero - held) * load.step - more * step for held, more in zip(load.loads, added, strict=True)]
    if scorer.kind in ("affinities", "affinities_among"):
        shown = candidates.snapshot if scorer.kind == "affinities" else asked
        sets = bonuses([attrs.evolve(scorer, weight=1.0)], request, shown)
        return [
            max((bonus / ONE for sets_ in sets for bonus, members in sets_ if members >> slot & 1), default=0.0)
            for slot in candidates.slots
        ]
    arguments = (candidates,) if scorer.kind == "score_endpoints" else (request, candidates)
    return list(map(float, scores_of(scorer, scorer.ask(*arguments), len(candidates))))
