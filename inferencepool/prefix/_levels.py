"""Counting for all slots at once: in how many sets each of them is."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from itertools import accumulate
from operator import or_

from inferencepool.model import EndpointSet

__all__ = ["count_levels"]


def count_levels(sets: Iterable[tuple[int, EndpointSet]]) -> tuple[tuple[int, EndpointSet], ...]:
    """
    Sum for each slot the numbers of the sets that it is in.

    Args:
        sets: Numbers of 1 or more, each with a set.

    Returns:
        The sums above 0, highest first, each with the slots that reach it; O(sets · digits + different sums · digits)
        set operations.
    """
    digits = _sum_in_binary(sets)
    counted = [(0, reduce(or_, digits, 0))]
    for digit in reversed(digits):
        halves = (
            (2 * count + one, members & (digit if one else ~digit)) for count, members in counted for one in (1, 0)
        )
        counted = [(count, members) for count, members in halves if members]
    reached = accumulate((members for _, members in counted), or_)
    return tuple((count, members) for (count, _), members in zip(counted, reached, strict=True) if count)


def _sum_in_binary(sets: Iterable[tuple[int, EndpointSet]]) -> list[EndpointSet]:
    """Give a set for each binary digit of the sums, the lowest first: the slots whose sum has a 1 there."""
    digits: list[EndpointSet] = []
    for number, members in sets:
        digits += [0] * (number.bit_length() - len(digits))
        for place in range(number.bit_length()):
            if number >> place & 1:
                _add(digits, place, members)
    return digits


def _add(digits: list[EndpointSet], place: int, carry: EndpointSet) -> None:
    while carry:
        if place == len(digits):
            digits.append(0)
        digits[place], carry = digits[place] ^ carry, digits[place] & carry
        place += 1
