"""Load that grows with every pick: what a scorer says of it, and how much of it a request is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

from inferencepool.model import EndpointSet, InferenceRequest, Snapshot

__all__ = ["Demand", "LinearLoad", "LoadMeasure"]


@attrs.define(eq=False)
class Demand:
    """
    How much of a load one request is. Built for every pick, so not frozen.

    Attributes:
        amount: What it adds to an endpoint, a whole number from 0 to 2^31 - 1.
        less: Sets of endpoints to which it adds less than that, such as those that have its prefix cached, each with
            the amount; the least of an endpoint's amounts counts.
    """

    amount: int
    less: Sequence[tuple[int, EndpointSet]] = ()

    def at(self, slot: int) -> int:
        """Tell what the request adds to the endpoint in *slot*, in O(sets)."""
        least = self.amount
        for amount, members in self.less:
            if amount < least and members >> slot & 1:
                least = amount
        return least


class LoadMeasure(Protocol):
    """
    **Protocol:** counts load in something else than requests, such as tokens: requests bring different amounts of it.

    A measure is a producer, or a strategy itself (see `Producer`). The scheduler keeps the sums by endpoint: a pick
    adds the request's amount in the same step that chooses the endpoint, and releasing the result takes it back. A
    measure with the attribute ``until_started = True`` is one of work before the response: the amount is taken back as
    soon as the response begins (`PickResult.started`).
    """

    def amounts(self, request: InferenceRequest, snapshot: Snapshot, /) -> Demand:
        """Tell how much *request* adds to the endpoint that gets it."""
        ...


@attrs.frozen
class LinearLoad:
    """
    A score that falls by the same step with every request: ``(zero - load) * step - pending * pending_step``.

    Build one with `relative`, or with a *zero* and a *step* that do not depend on which endpoints are candidates.

    Attributes:
        loads: Observed load of each candidate, a whole number of at most 2^31 - 1. Where they span more than about a
            million, neighbours differ by few of the units that scores are counted in (2^-30).
        zero: The load at which the score is 0.
        step: What one more unit of load takes off the score, 0 or more.
        is_relative: Whether *zero* and *step* come from the lowest and the highest load among the candidates.
        of: What counts in place of pending requests: the amounts in flight by this measure, and the request's own. None
            for pending requests. Not for a relative load.
        pending_step: What one pending request takes off the score, 0 or more; None for *step*. Less, where it is likely
            to become another kind of load than *loads* are: an engine that has room starts it at once.
    """

    loads: Sequence[int]
    zero: int
    step: float
    is_relative: bool = False
    of: LoadMeasure | None = None
    pending_step: float | None = None

    @property
    def cost_of_pending(self) -> float:
        """What one pending request takes off the score."""
        return self.step if self.pending_step is None else self.pending_step

    @classmethod
    def relative(cls, loads: Sequence[int], pending_span: int = 1) -> LinearLoad:
        """
        Score the lowest of *loads* 1 and the highest 0; all of them 1 where they are equal.

        Args:
            loads: Observed load of each candidate.
            pending_span: Pending requests count as if the highest were higher than the lowest by so many at least, 1 or
                more.
        """
        low, high = min(loads), max(loads)
        span = high - low
        zero, step = (high, 1 / span) if span else (high + 1, 1.0)
        pending_step = None if span >= pending_span else 1 / pending_span
        return cls(loads, zero, step, is_relative=True, pending_step=pending_step)
