"""
The shapes that strategies have. A strategy is any object with one of these methods; it inherits nothing.

What a strategy offers tells how often it is asked, so that only what is opaque pays for being opaque:

========  ============================================  ============================  ==================
role      method                                       asked                         cost of a pick
========  ============================================  ============================  ==================
filter    ``keep(endpoint)``                           once per endpoint's lifetime  none
filter    ``narrow(request, candidate_set)``            every pick                    its own
filter    ``filter(request, candidates)``              every pick                    O(candidates)
scorer    ``score_endpoints(candidates)``              once per snapshot             none
scorer    ``score_load(candidates)``                   once per snapshot             none
scorer    ``affinities(request, snapshot)``            every pick                    per set it returns
scorer    ``affinities_among(request, candidate_set)``  every pick                    per set it returns
scorer    ``score(request, candidates)``               every pick                    O(candidates)
picker    ``choose(request, standing, count)``         every pick                    its own
picker    ``pick(request, scored, count)``             every pick                    O(candidates)
========  ============================================  ============================  ==================

Beside these any strategy may offer the methods of `PickListener`, to remember where requests went, and name the
producers of what it shares with others (see `Producer`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

import attrs

from inferencepool.model import Candidate, Candidates, Endpoint, EndpointSet, InferenceRequest, Snapshot
from inferencepool.scheduling._candidate_set import CandidateSet, Standing
from inferencepool.scheduling._load import LinearLoad

__all__ = [
    "AmongScorer",
    "EndpointFilter",
    "Filter",
    "FleetScorer",
    "LoadScorer",
    "Picker",
    "PlainFilter",
    "PlainPicker",
    "PlainScorer",
    "ScoredCandidate",
    "Scorer",
    "SetFilter",
    "SparseScorer",
    "StandingPicker",
]


class EndpointFilter(Protocol):
    """**Protocol:** a filter that looks at nothing but the endpoint itself: its labels, its port, its address."""

    def keep(self, endpoint: Endpoint, /) -> bool:
        """Tell whether *endpoint* may be picked. Must give the same answer for equal endpoints."""
        ...


class SetFilter(Protocol):
    """
    **Protocol:** a filter that looks at the request or at what is in flight, and answers with a set.

    It and all filters behind it are asked with the scheduler's lock held: decide, and return. A filter that states a
    preference rather than a rule says so with a class attribute ``is_preference = True``: endpoints that it leaves out
    may then be fallbacks, behind those that it keeps.
    """

    def narrow(self, request: InferenceRequest, candidates: CandidateSet, /) -> EndpointSet:
        """Give those members of *candidates* (one or more) that may be picked; others in the set do not count."""
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


class LoadScorer(Protocol):
    """**Protocol:** a scorer whose score falls by a fixed step with the load that picks bring to an endpoint."""

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


class AmongScorer(Protocol):
    """**Protocol:** a sparse scorer that also looks at which endpoints are candidates, or at what is in flight."""

    def affinities_among(
        self, request: InferenceRequest, candidates: CandidateSet, /
    ) -> Sequence[tuple[float, EndpointSet]]:
        """
        Give a few sets of endpoints with the score of their members, as `SparseScorer`.

        Called with the scheduler's lock held: decide, and return.
        """
        ...


class PlainScorer(Protocol):
    """**Protocol:** a scorer that may look at everything, and makes a pick walk all candidates."""

    def score(self, request: InferenceRequest, candidates: Candidates, /) -> Sequence[float]:
        """Give each of *candidates* a score from 0 to 1, in their order. Values outside are clamped."""
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


Filter: TypeAlias = EndpointFilter | SetFilter | PlainFilter
Scorer: TypeAlias = FleetScorer | LoadScorer | SparseScorer | AmongScorer | PlainScorer
Picker: TypeAlias = StandingPicker | PlainPicker
