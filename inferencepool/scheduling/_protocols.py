"""
The shapes that strategies have. A strategy is any object with one of these methods; it inherits nothing.

What a strategy offers tells how often it is asked, so that only what is opaque pays for being opaque:

========  ====================================  ============================  ==================
role      method                                asked                         cost of a pick
========  ====================================  ============================  ==================
filter    ``keep(endpoint)``                    once per endpoint's lifetime  none
filter    ``filter(request, candidates)``       every pick                    O(candidates)
scorer    ``score_endpoints(candidates)``       once per snapshot             none
scorer    ``score_load(candidates)``            once per snapshot             none
scorer    ``affinities(request, snapshot)``     every pick                    per set it returns
scorer    ``score(request, candidates)``        every pick                    O(candidates)
picker    ``choose(request, standing, count)``  every pick                    its own
picker    ``pick(request, scored, count)``      every pick                    O(candidates)
========  ====================================  ============================  ==================

Beside these any strategy may offer ``picked(result)`` and ``released(result)`` (see `PickListener`), to remember where
requests went.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING, Protocol, TypeAlias

import attrs

from inferencepool.model import Candidate, Candidates, Endpoint, EndpointSet, InferenceRequest, Snapshot

if TYPE_CHECKING:
    from inferencepool.scheduling._result import PickResult

__all__ = [
    "EndpointFilter",
    "Filter",
    "FleetScorer",
    "LinearLoad",
    "LoadScorer",
    "PickListener",
    "Picker",
    "PlainFilter",
    "PlainPicker",
    "PlainScorer",
    "ScoredCandidate",
    "Scorer",
    "SparseScorer",
    "Standing",
    "StandingPicker",
]


class EndpointFilter(Protocol):
    """**Protocol:** a filter that looks at nothing but the endpoint itself: its labels, its port, its address."""

    def keep(self, endpoint: Endpoint, /) -> bool:
        """Tell whether *endpoint* may be picked. Must give the same answer for equal endpoints."""
        ...


class PlainFilter(Protocol):
    """**Protocol:** a filter that looks at the request or at the load."""

    def filter(self, request: InferenceRequest, candidates: Candidates, /) -> Iterable[Candidate]:
        """Give those *candidates* that may be picked."""
        ...


class FleetScorer(Protocol):
    """
    **Protocol:** a scorer that looks at the endpoints and their load, not at the request.

    Where the score of an endpoint does not depend on which others are candidates, say so with a class attribute
    ``pointwise = True``: requests that are limited to a part of the fleet are then answered from the ranking of the
    whole.
    """

    def score_endpoints(self, candidates: Candidates, /) -> Sequence[float]:
        """Give each of *candidates* a score from 0 to 1, in their order. Values outside are clamped."""
        ...


@attrs.frozen
class LinearLoad:
    """
    A score that falls by the same step with every request: ``(zero - load - pending) * step``.

    Build one with `relative`, or with a *zero* and a *step* that do not depend on which endpoints are candidates.

    Attributes:
        loads: Observed load of each candidate, a whole number of at most 2^31 - 1. Where they span more than about a
            million, neighbours differ by few of the units that scores are counted in (2^-30).
        zero: The load at which the score is 0.
        step: What one more request takes off the score, 0 or more.
        is_relative: Whether *zero* and *step* come from the lowest and the highest load among the candidates.
    """

    loads: Sequence[int]
    zero: int
    step: float
    is_relative: bool = False

    @classmethod
    def relative(cls, loads: Sequence[int]) -> LinearLoad:
        """Score the lowest of *loads* 1 and the highest 0; all of them 1 where they are equal."""
        low, high = min(loads), max(loads)
        if high > low:
            return cls(loads, high, 1 / (high - low), is_relative=True)
        return cls(loads, high + 1, 1.0, is_relative=True)


class LoadScorer(Protocol):
    """**Protocol:** a scorer whose score falls by a fixed step with every request an endpoint gets."""

    def score_load(self, candidates: Candidates, /) -> LinearLoad:
        """
        Describe how the score of each of *candidates* (one or more) depends on its load.

        With nothing pending the scores are in 0 to 1; pending requests may take them below 0.
        """
        ...


class SparseScorer(Protocol):
    """**Protocol:** a scorer whose answer depends on the request and is the same for whole sets of endpoints."""

    def affinities(self, request: InferenceRequest, snapshot: Snapshot, /) -> Sequence[tuple[float, EndpointSet]]:
        """
        Give a few sets of endpoints with the score of their members, 0 to 1.

        Sets may overlap and may hold endpoints that are no candidates: the best score that an endpoint gets counts,
        and one in no set gets 0.
        """
        ...


class PlainScorer(Protocol):
    """**Protocol:** a scorer that may look at everything, and makes a pick walk all candidates."""

    def score(self, request: InferenceRequest, candidates: Candidates, /) -> Sequence[float]:
        """Give each of *candidates* a score from 0 to 1, in their order. Values outside are clamped."""
        ...


class Standing(Protocol):
    """
    **Protocol:** what a picker chooses from: the candidates of one request and how they score.

    Valid only during the call that it is passed to.
    """

    @property
    def members(self) -> EndpointSet:
        """All candidates."""
        ...

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that the candidates belong to."""
        ...

    @property
    def rng(self) -> Random:
        """The source of randomness to draw from."""
        ...

    def best(self, among: EndpointSet | None = None, /) -> EndpointSet:
        """Give all members (of *among*, when given) that share the highest score; empty when there are none."""
        ...

    def score(self, slot: int, /) -> float:
        """Give the total score of the member in *slot*, in units of `inferencepool.scheduling.ONE`."""
        ...

    def in_flight(self, slot: int, /) -> int:
        """Count the picks of the endpoint in *slot* that were not released yet."""
        ...

    def least_in_flight(self, among: EndpointSet, /) -> EndpointSet:
        """Give the members of *among* with the fewest picks in flight."""
        ...

    def total_in_flight(self) -> int:
        """Count the picks that were not released yet, over all endpoints."""
        ...

    def draw_by_score(self, among: EndpointSet, /) -> int | None:
        """Draw a member of *among* with a probability proportional to its score; None when none scores above 0."""
        ...


class StandingPicker(Protocol):
    """**Protocol:** a picker that asks for what it needs to know instead of walking all candidates."""

    def choose(self, request: InferenceRequest, standing: Standing, count: int, /) -> Sequence[int]:
        """
        Choose up to *count* members, best first; the first gets the request, the others are its fallbacks.

        *standing* has at least one member. Called with the scheduler's lock held: decide, and return.
        """
        ...


@attrs.frozen(eq=False)
class ScoredCandidate:
    """
    A candidate and its total score.

    Attributes:
        candidate: The candidate.
        score: Sum of its weighted scores.
    """

    candidate: Candidate
    score: float

    @property
    def endpoint(self) -> Endpoint:
        """The candidate's endpoint."""
        return self.candidate.endpoint


class PlainPicker(Protocol):
    """**Protocol:** a picker that walks all candidates."""

    def pick(
        self, request: InferenceRequest, scored: Sequence[ScoredCandidate], count: int, /
    ) -> Sequence[ScoredCandidate]:
        """Choose up to *count* of *scored* (one or more, in no order that means anything), best first."""
        ...


class PickListener(Protocol):
    """
    **Protocol:** a strategy that remembers where requests went. Either method may be left out.

    Called without any lock, by the thread that picks or releases; so a listener guards its own state.
    """

    def picked(self, result: PickResult, /) -> object:
        """Hear of a pick, before its result is handed out."""
        ...

    def released(self, result: PickResult, /) -> object:
        """
        Hear that a pick was released: once for each pick, if it is released at all.

        The result may be detached by then: only what identifies it, its `slot` and its `birth` can be relied on.
        """
        ...


Filter: TypeAlias = EndpointFilter | PlainFilter
Scorer: TypeAlias = FleetScorer | LoadScorer | SparseScorer | PlainScorer
Picker: TypeAlias = StandingPicker | PlainPicker
