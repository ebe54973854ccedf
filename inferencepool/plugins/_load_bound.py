"""Affinity that yields to load: consistent hashing's bound on load, for any affinity."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any

import attrs

from inferencepool._checks import checked_number, checked_whole_number, refusal
from inferencepool.model import EndpointSet
from inferencepool.scheduling import CandidateSet

__all__ = ["LoadBound", "checked_bound"]

_NAME = "load bound"


def checked_bound(plugin: str) -> Callable[[Any, Any, Any], None]:
    """Make a validator that accepts a `LoadBound` or None."""

    def check(_: Any, attribute: Any, value: Any) -> None:
        if value is not None and not isinstance(value, LoadBound):
            raise refusal(plugin, attribute.name, value, "is neither a LoadBound nor None")

    return check


@attrs.frozen
class LoadBound:
    """
    How loaded an endpoint may be and still attract requests.

    An endpoint is crowded from ``max(slack, ceil(factor * (in flight + 1) / candidates))`` picks in flight on, where
    *in flight* counts those of all candidates together. The rule is that of consistent hashing with bounded loads
    (Mirrokni, Thorup and Zadimoghaddam, 2016), with a *slack* below which sharing a cache is worth more than an idle
    endpoint. Counts are this scheduler's own; where picks do not reserve, nothing is ever crowded.

    Attributes:
        factor: How far above the average load an endpoint may be, 1 or more.
        slack: Picks in flight that an endpoint may always have, 1 or more.

    Raises:
        ConfigurationError: A number is out of its range.
    """

    factor: float = attrs.field(default=1.5, validator=checked_number(_NAME, 1))
    slack: int = attrs.field(default=8, validator=checked_whole_number(_NAME, 1))

    def limit(self, candidates: CandidateSet) -> int:
        """Tell from how many picks in flight on one of *candidates* is crowded; O(distinct counts)."""
        held = sum(count * members.bit_count() for count, members in candidates.by_in_flight())
        return max(self.slack, ceil(self.factor * (held + 1) / candidates.members.bit_count()))

    def allowed(self, candidates: CandidateSet) -> EndpointSet:
        """Give the candidates that are not crowded; O(distinct counts)."""
        by_count = candidates.by_in_flight()
        if by_count[-1][0] < self.slack:
            return candidates.members
        limit = self.limit(candidates)
        allowed = 0
        for count, members in by_count:
            if count >= limit:
                break
            allowed |= members
        return allowed

    def allows(self, slot: int, candidates: CandidateSet) -> bool:
        """Tell whether the candidate in *slot* is not crowded; O(1) below *slack*."""
        held = candidates.in_flight(slot)
        return held < self.slack or held < self.limit(candidates)
