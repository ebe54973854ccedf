"""Metrics that are too old to be trusted, and what they count for then."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from math import inf
from typing import Any, TypeVar

import attrs

from inferencepool._checks import MOST, checked_number, refusal
from inferencepool.model import EndpointSet, Fleet, to_endpoint_set, to_slots

__all__ = ["Ages", "StaleMetrics", "Staleness"]

_OWNER = "registry: staleness"

_T = TypeVar("_T", int, float)


class StaleMetrics(StrEnum):
    """
    What is done with an endpoint whose metrics are stale, as long as the metrics of others are fresh.

    Where those of all endpoints are stale their last values count, whatever is chosen: nothing better is known.

    Attributes:
        WORST: It counts as the most loaded one: its queue is one longer than the longest, as many requests run there as
            where most do, and its KV cache is as full as the fullest.
        AVOID: It is no candidate, unless no fresh one is left for a request. The default.
        LAST: Its last values count, as if they were fresh.
    """

    WORST = "worst"
    AVOID = "avoid"
    LAST = "last"


def _to_policy(value: Any) -> StaleMetrics:
    try:
        return StaleMetrics(value)
    except ValueError:
        raise refusal(_OWNER, "policy", value, f"is not one of {', '.join(StaleMetrics)}") from None


@attrs.frozen
class Staleness:
    """
    When metrics are stale, and what that means.

    Metrics are stale when the observation behind them began more than *threshold* seconds ago, or later than now, and
    where there never was one. Those of an endpoint that cannot be reached (`EndpointRegistry.lose`) are stale from that
    moment until its next observation.

    Attributes:
        threshold: Seconds; the reference's general threshold by default.
        policy: What stale metrics count for; one of the texts of `StaleMetrics` will do.

    Raises:
        ConfigurationError: A value is not allowed.
    """

    threshold: float = attrs.field(default=2.0, validator=checked_number(_OWNER, above=True, unit="seconds"))
    policy: StaleMetrics = attrs.field(default=StaleMetrics.AVOID, converter=_to_policy)


@attrs.frozen
class Ages:
    """
    Which endpoints of a fleet are stale at one moment.

    Attributes:
        stale: Those.
        fresh: The others; not listed where none is stale.
        until: The next moment at which one of the others becomes stale, or one that was observed later than now does no
            longer; infinite if none does.
    """

    stale: EndpointSet = 0
    fresh: Sequence[int] = ()
    until: float = inf

    @classmethod
    def judge(cls, fleet: Fleet, observed_at: Sequence[float], threshold: float, now: float) -> Ages:
        """Judge the endpoints of *fleet* by when they were observed, in O(endpoints)."""
        slots = fleet.slots
        oldest = now - threshold
        times = observed_at if isinstance(slots, range) else list(map(observed_at.__getitem__, slots))
        if not times or (oldest <= min(times) and max(times) <= now):
            return cls(until=min(times, default=inf) + threshold)
        fresh = [slot for slot, time in zip(slots, times, strict=True) if oldest <= time <= now]
        until = min(map(observed_at.__getitem__, fresh), default=inf) + threshold
        until = min(until, min((time for time in times if time > now), default=inf))
        return cls(fleet.members & ~to_endpoint_set(fresh), fresh, until)

    def without(self, lost: EndpointSet, fleet: Fleet) -> Ages:
        """Give the same with those that are *lost* among the stale ones."""
        if not lost & ~self.stale:
            return self
        fresh = fleet.members & ~self.stale & ~lost
        return attrs.evolve(self, stale=self.stale | lost, fresh=to_slots(fresh))

    def worsened(self, column: Sequence[_T], more: int = 0) -> list[_T]:
        """Give *column* with *more* than the most of the fresh ones has for each stale one that has less."""
        worst = min(max(map(column.__getitem__, self.fresh)) + more, MOST)
        copy = list(column)
        for slot in to_slots(self.stale):
            copy[slot] = max(copy[slot], worst)
        return copy
