"""Why an endpoint was picked: every candidate with every scorer's score, and why the others were none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from inferencepool.model import Endpoint

__all__ = ["ExplainedCandidate", "ExplainedScore", "Explanation", "Rejection"]


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
        return self.score * self.weight + 0.0


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
        notes: What strategies have to say about it beyond their scores.
        unknown: Which signals it never told while others did; it is scored as the mean of those.
    """

    endpoint: Endpoint
    scores: tuple[ExplainedScore, ...]
    total: float
    pending: int
    place: int | None = None
    stale: bool = False
    age: float | None = None
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@attrs.frozen
class Rejection:
    """
    An endpoint that was no candidate.

    Attributes:
        endpoint: The endpoint.
        reason: Why: it departed, the subset hint does not name it, which filter did not keep it, it is
            excluded or ejected, or its metrics are stale.
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
        ages = ["metrics"] if any(candidate.stale for candidate in self.candidates) else []
        unknown = ["unknown"] if any(candidate.unknown for candidate in self.candidates) else []
        notes = ["notes"] if any(candidate.notes for candidate in self.candidates) else []
        yield from _table(
            ["", "endpoint", "destination", "pending", *scores, "total", *ages, *unknown, *notes],
            [
                [
                    *_row(candidate),
                    *[_age_of(candidate)] * len(ages),
                    *[", ".join(candidate.unknown)] * len(unknown),
                    *["; ".join(candidate.notes)] * len(notes),
                ]
                for candidate in self.candidates
            ],
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
        "stale": candidate.stale,
        "age": candidate.age,
        "unknown": list(candidate.unknown),
        "scores": {
            score.name: {"score": score.score, "weight": score.weight, "weighted": score.weighted}
            for score in candidate.scores
        },
        "total": candidate.total,
        "notes": list(candidate.notes),
    }


def _row(candidate: ExplainedCandidate) -> list[str]:
    place = _place_to_text(candidate.place)
    scores = [f"{score.score:z.3f}" for score in candidate.scores]
    endpoint = candidate.endpoint
    return [place, endpoint.id, endpoint.destination, str(candidate.pending), *scores, f"{candidate.total:z.3f}"]


def _age_of(candidate: ExplainedCandidate) -> str:
    age = "none" if candidate.age is None else f"{candidate.age:z.2f} s old"
    return f"{age}, stale" if candidate.stale else age


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
