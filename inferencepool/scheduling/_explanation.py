"""Why an endpoint was picked: every candidate with every scorer's score, and why the others were none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

import attrs

from inferencepool.model import Candidates, Endpoint, EndpointSet, InferenceRequest, Snapshot, to_slots
from inferencepool.scheduling._eligibility import Eligibility, SubsetHint, apply_filter, kept_by, without_avoided
from inferencepool.scheduling._profile import SchedulingProfile, WeightedScorer
from inferencepool.scheduling._scan import candidates_of, scan_costs
from inferencepool.scheduling._terms import ONE, bonuses, fleet_terms, load_of, plain_costs, scores_of

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
        stale: Whether its metrics were too old to be trusted.
        age: Seconds from the beginning of the observation behind its metrics to the pick; None where there was none.
    """

    endpoint: Endpoint
    scores: tuple[ExplainedScore, ...]
    total: float
    pending: int
    place: int | None = None
    stale: bool = False
    age: float | None = None


@attrs.frozen
class Rejection:
    """
    An endpoint that was no candidate.

    Attributes:
        endpoint: The endpoint.
        reason: Why: it departed, the subset hint does not name it, which filter did not keep it, or its metrics are
            stale.
    """

    endpoint: Endpoint
    reason: str


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
                {"endpoint": item.endpoint.id, "destination": item.endpoint.destination, "reason": item.reason}
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
        ages = ["metrics"] if any(candidate.stale for candidate in self.candidates) else []
        yield from _table(
            ["", "endpoint", "destination", "pending", *scores, "total", *ages],
            [_row(candidate) + [_age_of(candidate) for _ in ages] for candidate in self.candidates],
        )
        if self.rejected:
            yield ""
            yield "not considered:"
            yield from _table(
                ["", "endpoint", "destination", "reason"],
                [["", item.endpoint.id, item.endpoint.destination, item.reason] for item in self.rejected],
            )


def _candidate_to_dict(candidate: ExplainedCandidate) -> dict[str, Any]:
    return {
        "endpoint": candidate.endpoint.id,
        "destination": candidate.endpoint.destination,
        "place": candidate.place,
        "pending": candidate.pending,
        "stale": candidate.stale,
        "age": candidate.age,
        "scores": {
            score.name: {"score": score.score, "weight": score.weight, "weighted": score.weighted}
            for score in candidate.scores
        },
        "total": candidate.total,
    }


def _row(candidate: ExplainedCandidate) -> list[str]:
    place = {None: "", 1: "picked"}.get(candidate.place, f"fallback {(candidate.place or 0) - 1}")
    scores = [f"{score.score:.3f}" for score in candidate.scores]
    endpoint = candidate.endpoint
    return [place, endpoint.id, endpoint.destination, str(candidate.pending), *scores, f"{candidate.total:.3f}"]


def _age_of(candidate: ExplainedCandidate) -> str:
    age = "none" if candidate.age is None else f"{candidate.age:.2f} s old"
    return f"{age}, stale" if candidate.stale else age


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
    pending: Sequence[int],
    exact: bool,
    picked_at: float,
) -> Explanation:
    """Ask all strategies of *profile* again, in O(endpoints), about a pick of *chosen* slots (the first was picked)."""
    part, rejected = _filter(profile, request, snapshot, subset, departed, pending)
    candidates = candidates_of(snapshot, part, pending)
    given = [
        [ExplainedScore(scorer.name, score, scorer.weight) for score in _scores(scorer, request, candidates)]
        for scorer in profile.scorers
    ]
    costs = scan_costs(
        candidates,
        fleet_terms(profile, candidates),
        bonuses(profile.scorers_of("affinities"), request, snapshot),
        plain_costs(profile.scorers_of("score"), request, candidates),
        pending,
    )
    places = {slot: place for place, slot in enumerate(chosen, 1)}
    explained = [
        ExplainedCandidate(
            endpoint=snapshot.fleet.at(slot),
            scores=tuple(column[index] for column in given),
            # Not the sum of the scores above: rounded as the scheduler does, so that what tied there shows as tied.
            total=-costs[slot] / ONE,
            pending=pending[slot],
            place=places.get(slot),
            stale=bool(snapshot.stale >> slot & 1),
            age=picked_at - snapshot.observed_at[slot] if isfinite(snapshot.observed_at[slot]) else None,
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
    pending: Sequence[int],
) -> tuple[EndpointSet, list[Rejection]]:
    """Apply everything that keeps endpoints from being candidates, one after the other."""
    fleet = snapshot.fleet
    rejected: list[Rejection] = []

    def reject(endpoints: EndpointSet, reason: str) -> None:
        rejected.extend(Rejection(fleet.at(slot), reason) for slot in to_slots(endpoints))

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
    for item in profile.filters_of("filter"):
        kept = apply_filter(item, request, candidates_of(snapshot, part & ~departed, pending))
        reject(part & ~kept & ~departed, f"filter {item.name}")
        part = kept
    kept = without_avoided(part, snapshot, departed)
    reject(part & ~kept & ~departed, "stale metrics")
    return kept, rejected


def _scores(scorer: WeightedScorer, request: InferenceRequest, candidates: Candidates) -> Sequence[float]:
    """Ask one scorer of any kind about *candidates*."""
    if scorer.kind == "score_load":
        load = load_of(scorer, candidates)
        held = zip(load.loads, candidates.pending, strict=True)
        return [(load.zero - observed - pending) * load.step for observed, pending in held]
    if scorer.kind == "affinities":
        sets = bonuses([attrs.evolve(scorer, weight=1.0)], request, candidates.snapshot)
        return [
            max((bonus / ONE for sets_ in sets for bonus, members in sets_ if members >> slot & 1), default=0.0)
            for slot in candidates.slots
        ]
    arguments = (candidates,) if scorer.kind == "score_endpoints" else (request, candidates)
    return scores_of(scorer, scorer.ask(*arguments), len(candidates))
