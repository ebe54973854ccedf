"""A histogram that is cheap to fill with many values at a time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, repeat
from math import inf
from typing import final

__all__ = ["Histogram"]


@final
class Histogram:
    """
    Counts values in buckets. Its owner's lock guards it.

    Attributes:
        total: Sum of all values.
    """

    __slots__ = ("_counts", "_edges", "total")

    def __init__(self, edges: Sequence[float]) -> None:
        """Count in buckets that end at *edges*, ascending, and in one without an end."""
        self._edges = edges
        self._counts = [0] * (len(edges) + 1)
        self.total = 0.0

    def observe(self, values: Sequence[float]) -> None:
        """Count *values*; one that equals an edge belongs to the bucket that ends there."""
        self.total += sum(values)
        counts = self._counts
        for bucket in map(bisect_left, repeat(self._edges), values):
            counts[bucket] += 1

    def buckets(self) -> list[tuple[float, int]]:
        """Give each bucket's end, ascending, with the number of values up to there; the last is all of them."""
        return list(zip((*self._edges, inf), accumulate(self._counts), strict=True))
