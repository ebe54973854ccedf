"""A set of endpoints: one int, one bit per slot."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import compress
from random import Random
from typing import TypeAlias

__all__ = ["EndpointSet", "any_slot", "next_slot", "nth_slot", "to_endpoint_set", "to_slots"]

EndpointSet: TypeAlias = int
"""
A set of endpoints as a non-negative int whose bit *s* says whether the endpoint in slot *s* belongs to it.

Union, intersection and difference are ``|``, ``&`` and ``& ~``; they cost one machine word for every 30 slots.
"""


def to_endpoint_set(slots: Iterable[int]) -> EndpointSet:
    """
    Gather *slots* into a set, in O(highest slot).

    A loop of ``bits |= 1 << slot`` would copy the whole int for every slot.
    """
    listed = list(slots)
    if not listed:
        return 0
    data = bytearray((max(listed) >> 3) + 1)
    for slot in listed:
        data[slot >> 3] |= 1 << (slot & 7)
    return int.from_bytes(data, "little")


def to_slots(endpoints: EndpointSet) -> list[int]:
    """List the slots of *endpoints*, ascending, in O(highest slot)."""
    if endpoints.bit_count() < endpoints.bit_length() >> 4:
        # Few members: take them off the top, so that the int shrinks with every step.
        slots = []
        while endpoints:
            slots.append(endpoints.bit_length() - 1)
            endpoints ^= 1 << slots[-1]
        return slots[::-1]
    digits = bin(endpoints)[:1:-1]
    return list(compress(range(len(digits)), map("1".__eq__, digits)))


def nth_slot(endpoints: EndpointSet, n: int) -> int:
    """
    Find the slot of the *n*-th member, counted from 0 in ascending order.

    Halves the set at every step, so it costs O(highest slot) words in all, however many members there are.

    Raises:
        IndexError: *endpoints* has no *n*-th member.
    """
    if not 0 <= n < endpoints.bit_count():
        message = f"no member {n} in a set of {endpoints.bit_count()}"
        raise IndexError(message)
    low = 0
    half = 1 << (endpoints.bit_length() - 1).bit_length() >> 1
    while half:
        head = endpoints & ((1 << half) - 1)
        count = head.bit_count()
        if n < count:
            endpoints = head
        else:
            n -= count
            endpoints >>= half
            low += half
        half >>= 1
    return low


def any_slot(endpoints: EndpointSet, rng: Random) -> int:
    """
    Draw a member uniformly at random.

    Raises:
        IndexError: *endpoints* is empty.
    """
    count = endpoints.bit_count()
    if count == 1:
        return endpoints.bit_length() - 1
    return nth_slot(endpoints, int(rng.random() * count))


def next_slot(endpoints: EndpointSet, after: int) -> int:
    """
    Find the first member above slot *after*, or the lowest one when there is none above.

    Args:
        endpoints: A set with at least one member.
        after: Any slot, or -1 for the lowest member.

    Raises:
        IndexError: *endpoints* is empty.
    """
    above = endpoints >> (after + 1)
    if above:
        return after + (above & -above).bit_length()
    if not endpoints:
        message = "no member in an empty set"
        raise IndexError(message)
    return (endpoints & -endpoints).bit_length() - 1
