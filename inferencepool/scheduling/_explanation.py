"""Why an endpoint was picked: every candidate with every scorer's score, and why the others were none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

import attrs

from inferencepool.model import Candidates, Endpoint, EndpointSet, InferenceRequest, Snapshot, to_slots
from inferencepool.scheduling._eligibility import Eligibility, SubsetHint, kept_by
from inferencepool.scheduling._filtering import Narrowing, early_and_late
from inferencepool.scheduling._load import Demand
from inferencepool.scheduling._profile import SchedulingProfile, WeightedScorer
from inferencepool.scheduling._reservations import Reservations
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

__all__ = ["ExplainedCandidate", "ExplainedScore", "Explanation", "Rejection", "explain"]


@attrs.frozen
class ExplainedScore:
    """
    What one scorer gave one candidate.

    Attributes:
        name: The scorer's name.
        score: Its score, 0 to 1; below 0 where pending requests took it there.
        weight: The scorer's weight.
    """

    name: str
    score: float
    weight: float

    @property
    def weighted(self) -> float:
        """What the scorer adds to the candidate's total."""
        return self.score * self.weight


@attrs.frozen
class ExplainedCandidate:
    """
    One candidate of a pick.

    Attributes:
        endpoint: The endpoint.
        scores: What each scorer gave, in the profile's order.
        total: Sum of the weighted scores.
        pending: Earlier picks of it that its metrics did not cover yet.
        place: 1 for the one that was picked, 2 and more for its fallbacks, None for the others.
    """

    endpoint: Endpoint
    scores: tuple[ExplainedScore, ...]
    total: float
    pending: int
    place: int | None = None


@attrs.frozen
class Rejection:
    """
    An endpoint that was no candidate.

    Attributes:
        endpoint: The endpoint.
        reason: Why: it departed, the subset hint does not name it, or which filter did not keep it.
        place: 2 and more where it is a fallback all the same: the filter only stated a preference.
    """

    endpoint: Endpoint
    reason: str
    place: int | None = None


@attrs.frozen(kw_only=True)
class Explanation:
    """
    Why an endpoint was picked. ``str()`` gives a table.

    Attributes:
        profile: Name of the scheduling profile.
        model: The model that was asked for.
        generation: The snapshot's generation.
        candidates: All candidates, the chosen ones first, the others by falling total.
        rejected: The endpoints that were no candidates.
        exact: Whether *pending* is that of the moment of the pick; else it is that of the moment of the explanation.
    """

    profile: str
    model: str
    generation: int
    candidates: tuple[ExplainedCandidate, ...]
    rejected: tuple[Rejection, ...]
    exact: bool = True

    @property
    def picked(self) -> ExplainedCandidate:
        """The candidate that was picked."""
        return self.candidates[0]

    def to_dict(self) -> dict[str, Any]:
        """Give the explanation as plain dicts and lists, ready for JSON."""
        return {
            "profile": self.profile,
            "model": self.model,
            "generation": self.generation,
            "exact": self.exact,
            "candidates": [_candidate_to_dict(candidate) for candidate in self.candidates],
            "rejected": [
                {
                    "endpoint": item.endpoint.id,
                    "destination": item.endpoint.destination,
                    "place": item.place,
                    "reason": item.reason,
                }
                for item in self.rejected
            ],
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        picked = self.picked.endpoint
        model = f" for model {self.model}" if self.model else ""
        yield f"picked {picked.destination} ({picked.id}){model}"
        yield f"profile {self.profile}, snapshot {self.generation}, {len(self.candidates)} candidates"
        tied = sum(1 for candidate in self.candidates if candidate.total == self.picked.total)
        if tied > 1:
            yield f"{tied} candidates share the highest score"
        if not self.exact:
            yield "pending requests are those of this moment: too many picks have been made since"
        yield ""
        scores = [f"{score.name} x{score.weight:g}" for score in self.picked.scores]
        yield from _table(
            ["", "endpoint", "destination", "pending", *scores, "total"],
            [_row(candidate) for candidate in self.candidates],
        )
        if self.rejected:
            yield ""
            yield "not considered:"
            yield from _table(
                ["", "endpoint", "destination", "reason"],
                [
                    [_place_to_text(item.place), item.endpoint.id, item.endpoint.destination, item.reason]
                    for item in self.rejected
                ],
            )


def _candidate_to_dict(candidate: ExplainedCandidate) -> dict[str, Any]:
    return {
        "endpoint": candidate.endpoint.id,
        "destination": candidate.endpoint.destination,
        "place": candidate.place,
        "pending": candidate.pending,
        "scores": {
            score.name: {"score": score.score, "weight": score.weight, "weighted": score.weighted}
            for score in candidate.scores
        },
        "total": candidate.total,
    }


def _row(candidate: ExplainedCandidate) -> list[str]:
    place = _place_to_text(candidate.place)
    scores = [f"{score.score:.3f}" for score in candidate.scores]
    endpoint = candidate.endpoint
    return [place, endpoint.id, endpoint.destination, str(candidate.pending), *scores, f"{candidate.total:.3f}"]


def _place_to_text(place: int | None) -> str:
    return {None: "", 1: "picked"}.get(place, f"fallback {(place or 0) - 1}")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lay out columns, numbers to the right."""
    columns = list(zip(head, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(_is_number(cell) for cell in column[1:]) for column in columns]
    for row in (head, *rows):
        cells = zip(row, widths, right, strict=True)
        yield "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in cells
        ).rstrip()


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()


def explain(
    profile: SchedulingProfile,
    request: InferenceRequest,
    snapshot: Snapshot,
    *,
    chosen: Sequence[int],
    subset: SubsetHint | None,
    departed: EndpointSet,
    reservations: Reservations,
    exact: bool,
) -> Explanation:
    """
    Ask all strategies of *profile* again, in O(endpoints), about a pick of *chosen* slots (the first was picked).

    What was pending and in flight at that moment is in *reservations*, a copy; *request* still has what was produced.
    """
    places = {slot: place for place, slot in enumerate(chosen, 1)}
    reservations.shown = snapshot.fleet.members & ~departed
    asked = ReservedCandidates(0, snapshot, Random(0), reservations)
    part, rejected = _filter(profile, request, snapshot, subset, departed, asked, places)
    pending = reservations.pending
    candidates = candidates_of(snapshot, part, pending)
    asked.members = part & ~departed
    terms = fleet_terms(profile, candidates)
    demands = [demand_of(measure, request, snapshot) for measure in reservations.measures]
    toll, less = demand_terms(terms.charges, demands)
    given = [
        [
            ExplainedScore(scorer.name, score, scorer.weight)
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
    explained = [
        ExplainedCandidate(
            endpoint=snapshot.fleet.at(slot),
            scores=tuple(column[index] for column in given),
            # Not the sum of the scores above: rounded as the scheduler does, so that what tied there shows as tied.
            total=-costs[slot] / ONE,
            pending=pending[slot],
            place=places.get(slot),
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


def _filter(
    profile: SchedulingProfile,
    request: InferenceRequest,
    snapshot: Snapshot,
    subset: SubsetHint | None,
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
    narrowing = Narrowing.of(part)
    pending = asked.all_pending
    for items in early_and_late(profile):
        narrowing.apply(items, request, departed, asked, lambda members: candidates_of(snapshot, members, pending))
    for item, left_out in narrowing.steps:
        reject(left_out, f"filter {item.name}")
    return narrowing.part, rejected


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
        added = candidates.pending
        if load.of is not None:
            index, amounts = asked.amounts_of(load.of)
            added = [amounts[slot] + demands[index].at(slot) for slot in candidates.slots]
        return [(load.zero - held - more) * load.step for held, more in zip(load.loads, added, strict=True)]
    if scorer.kind in ("affinities", "affinities_among"):
        shown = candidates.snapshot if scorer.kind == "affinities" else asked
        sets = bonuses([attrs.evolve(scorer, weight=1.0)], request, shown)
        return [
            max((bonus / ONE for sets_ in sets for bonus, members in sets_ if members >> slot & 1), default=0.0)
            for slot in candidates.slots
        ]
    arguments = (candidates,) if scorer.kind == "score_endpoints" else (request, candidates)
    return scores_of(scorer, scorer.ask(*arguments), len(candidates))
