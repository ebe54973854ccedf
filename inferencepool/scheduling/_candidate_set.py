"""What strategies are shown that look at sets of candidates instead of walking them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol

from inferencepool.model import EndpointSet, Snapshot
from inferencepool.scheduling._load import LoadMeasure

__all__ = ["CandidateSet", "Standing"]


class CandidateSet(Protocol):
    """
    **Protocol:** the candidates of one request as a set, and what is in flight.

    Valid only during the call that it is passed to; the scheduler's lock is held meanwhile, so that what is in flight
    does not change.
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
        """
        The source of randomness to draw from.

        A filter or a scorer keeps what it drew in `InferenceRequest.produced`, so that an explanation finds the same.
        """
        ...

    def in_flight(self, slot: int, /) -> int:
        """Count the picks of the endpoint in *slot* that were not released yet."""
        ...

    def least_in_flight(self, among: EndpointSet, /) -> EndpointSet:
        """Give the members of *among* with the fewest picks in flight."""
        ...

    def by_in_flight(self) -> Sequence[tuple[int, EndpointSet]]:
        """Sort the candidates by picks in flight: each number that occurs, ascending, with who has it."""
        ...

    def total_in_flight(self) -> int:
        """Count the picks that were not released yet, over all endpoints."""
        ...

    def least_amount(self, measure: LoadMeasure, among: EndpointSet, /) -> int | None:
        """Tell the least amount in flight by *measure* that a member of *among* has; None when there is no member."""
        ...


class Standing(CandidateSet, Protocol):
    """
    **Protocol:** what a picker chooses from: the candidates of one request and how they score.

    Valid only during the call that it is passed to.
    """

    def best(self, among: EndpointSet | None = None, /) -> EndpointSet:
        """Give all members (of *among*, when given) that share the highest score; empty when there are none."""
        ...

    def any_best(self) -> int:
        """Draw one of the members that share the highest score, each as likely as the others; there is at least one."""
        ...

    def score(self, slot: int, /) -> float:
        """Give the total score of the member in *slot*, in units of `inferencepool.scheduling.ONE`."""
        ...

    def draw_by_score(self, among: EndpointSet, /) -> int | None:
        """Draw a member of *among* with a probability proportional to its score; None when none scores above 0."""
        ...
