"""Pickers: which of the scored candidates gets the request."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from inferencepool.model import EndpointSet, InferenceRequest, any_slot, next_slot
from inferencepool.scheduling import Standing

__all__ = [
    "LeastRequestPicker",
    "PowerOfTwoChoicesPicker",
    "RandomPicker",
    "RoundRobinPicker",
    "WeightedRandomPicker",
]


@attrs.frozen
class RandomPicker:
    """
    Pick an endpoint uniformly at random; fallbacks likewise, without repeating one.

    *When to choose it:* as a baseline to compare other pickers with, or where no load is observed.

    *Looks at:* nothing; scores play no part.

    *Configuration:* type ``random-picker``; ``maxNumOfEndpoints`` (default 1).
    """

    def choose(self, _request: InferenceRequest, standing: Standing, count: int, /) -> Sequence[int]:
        """Choose in O(count) draws."""
        among, chosen = standing.members, list[int]()
        while among and len(chosen) < count:
            chosen.append(any_slot(among, standing.rng))
            among ^= 1 << chosen[-1]
        return chosen


@attrs.frozen
class WeightedRandomPicker:
    """
    Draw an endpoint with a probability proportional to its score; fallbacks likewise among those that are left.

    Endpoints that score 0 are drawn, uniformly, only once nothing that scores more is left.

    *When to choose it:* when several routers pick by metrics of the same age and would all choose the same best
    endpoint.

    *Looks at:* the scores.

    *Configuration:* type ``weighted-random-picker``; ``maxNumOfEndpoints`` (default 1).
    """

    def choose(self, _request: InferenceRequest, standing: Standing, count: int, /) -> Sequence[int]:
        """Choose in O(count log candidates) for most draws."""
        among, chosen = standing.members, list[int]()
        while among and len(chosen) < count:
            slot = standing.draw_by_score(among)
            chosen.append(any_slot(among, standing.rng) if slot is None else slot)
            among ^= 1 << chosen[-1]
        return chosen


@attrs.define(eq=False)
class RoundRobinPicker:
    """
    Pick the endpoints in turn; the fallbacks are the next ones in the same turn.

    *When to choose it:* when requests cost about the same and each endpoint should get the same number of them.

    *Looks at:* nothing; scores play no part.

    *Configuration:* type ``round-robin-picker``; ``maxNumOfEndpoints`` (default 1).

    The position of the rotation is its only state; guarded by the scheduler's lock. Do not share a picker between
    schedulers.
    """

    _last: int = attrs.field(default=-1, init=False, repr=False)

    def choose(self, _request: InferenceRequest, standing: Standing, count: int, /) -> Sequence[int]:
        """Choose the first candidate after the one picked last, in O(count) set operations."""
        among, chosen, last = standing.members, list[int](), self._last
        while among and len(chosen) < count:
            last = next_slot(among, last)
            chosen.append(last)
            among ^= 1 << last
        self._last = chosen[0]
        return chosen


@attrs.frozen
class PowerOfTwoChoicesPicker:
    """
    Draw two different endpoints at random and pick the better one; fallbacks likewise among those that are left.

    The higher score wins; where the scores are equal, fewer picks in flight; where these are equal too, a coin decides.

    *When to choose it:* when several routers share a fleet: it avoids the crowded endpoints without sending everyone
    to the same best one.

    *Looks at:* the scores and the picks in flight of two endpoints.

    *Configuration:* type ``power-of-two-choices-picker``; ``maxNumOfEndpoints`` (default 1).
    """

    def choose(self, _request: InferenceRequest, standing: Standing, count: int, /) -> Sequence[int]:
        """Choose in O(count) draws."""
        among, chosen = standing.members, list[int]()
        while among and len(chosen) < count:
            chosen.append(_better_of_two(among, standing))
            among ^= 1 << chosen[-1]
        return chosen


def _better_of_two(among: EndpointSet, standing: Standing) -> int:
    # Both orders of a pair are equally likely, so keeping the first one is the coin.
    first = any_slot(among, standing.rng)
    others = among ^ 1 << first
    if not others:
        return first
    second = any_slot(others, standing.rng)
    gain = standing.score(second) - standing.score(first)
    if not gain:
        gain = standing.in_flight(first) - standing.in_flight(second)
    return second if gain > 0 else first


@attrs.frozen
class LeastRequestPicker:
    """
    Pick the endpoint with the fewest picks in flight, a random one of them where several have as few; fallbacks follow.

    *When to choose it:* when no metrics can be had from the engines: the router's own count of requests that did not
    finish is then the best sign of load. Needs picks to be released when their requests end.

    *Looks at:* the picks in flight; scores play no part.

    *Configuration:* type ``least-request-picker``; ``maxNumOfEndpoints`` (default 1).
    """

    def choose(self, _request: InferenceRequest, standing: Standing, count: int, /) -> Sequence[int]:
        """Choose in O(count * distinct counts) set operations."""
        among, chosen = standing.members, list[int]()
        while among and len(chosen) < count:
            chosen.append(any_slot(standing.least_in_flight(among), standing.rng))
            among ^= 1 << chosen[-1]
        return chosen
