"""Random times, lengths and choices, which workloads are put together from."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator
from itertools import accumulate
from random import Random

__all__ = ["MOST_MEAN", "length", "poisson_times", "zipf_choice"]

MOST_MEAN = 1_000_000
"""The greatest mean length, in tokens; prompts of a few parts stay below `MOST_TOKENS` with it."""

# The longest length that is drawn, as a multiple of the mean.
_LONGEST = 8


def length(rng: Random, mean: float) -> int:
    """Draw a number of tokens, 1 or more, by an exponential distribution that is cut off at eight times *mean*."""
    return max(1, round(min(rng.expovariate(1 / mean), _LONGEST * mean)))


def poisson_times(rng: Random, rate: float, start: float, end: float) -> Iterator[float]:
    """Give the times, from *start* to *end*, of events that come at random, *rate* of them in a second."""
    at = start + rng.expovariate(rate)
    while at < end:
        yield at
        at += rng.expovariate(rate)


def zipf_choice(rng: Random, count: int, exponent: float) -> Callable[[], int]:
    """
    Make draws from 0 to *count* - 1, of which number *i* comes up in proportion to ``1 / (i + 1) ** exponent``.

    With an exponent of 0 all come up equally often. A draw costs O(log count).
    """
    weights = list(accumulate(1 / (number + 1) ** exponent for number in range(count)))
    total, last = weights[-1], count - 1
    return lambda: min(bisect(weights, rng.random() * total), last)
