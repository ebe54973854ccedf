"""Slots by a small count that changes with every pick."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence

import attrs

from inferencepool.model import EndpointSet, to_endpoint_set, to_slots

__all__ = ["Levels"]


@attrs.define(eq=False)
class Levels:
    """
    Slots by a count that changes with every pick: one `EndpointSet` for each value, so that a change flips two bits.

    Not thread-safe; its owner's lock guards it. A slot that is hidden keeps its count and is in no set.

    Invariants: every shown slot is in exactly one set, that of its count; no set is empty; *values* are the keys of
    *sets*, ascending.

    Attributes:
        counts: The count by slot.
        sets: Count to the shown slots that have it.
        values: The counts that some shown slot has, ascending.
    """

    counts: list[int]
    sets: dict[int, EndpointSet]
    values: list[int]
    _shown: bytearray

    @classmethod
    def build(cls, counts: Sequence[int], shown: Iterable[int]) -> Levels:
        """Sort the slots *shown* by *counts* (indexed by slot), in O(slots)."""
        by_value: dict[int, list[int]] = {}
        flags = bytearray(len(counts))
        for slot in shown:
            by_value.setdefault(counts[slot], []).append(slot)
            flags[slot] = 1
        sets = {value: to_endpoint_set(slots) for value, slots in by_value.items()}
        return cls(list(counts), sets, sorted(sets), flags)

    @classmethod
    def level(cls, size: int, shown: EndpointSet) -> Levels:
        """Start *size* slots with the count 0."""
        flags = bytearray(size)
        if shown == (1 << size) - 1:
            flags = bytearray(b"\1") * size
        else:
            for slot in to_slots(shown):
                flags[slot] = 1
        return cls([0] * size, {0: shown}, [0], flags) if shown else cls([0] * size, {}, [], flags)

    def move(self, slot: int, by: int) -> None:
        """Change the count of *slot* by *by*."""
        count = self.counts[slot]
        self.counts[slot] = to = count + by
        if not self._shown[slot]:
            return
        sets, bit = self.sets, 1 << slot
        rest = sets[count] ^ bit
        if rest:
            sets[count] = rest
        else:
            del sets[count]
            self.values.remove(count)
        there = sets.get(to)
        if there is None:
            sets[to] = bit
            insort(self.values, to)
        else:
            sets[to] = there | bit

    def hide(self, slot: int) -> None:
        """Take *slot* out of its set, if it is in one."""
        if self._shown[slot]:
            self._shown[slot] = 0
            count = self.counts[slot]
            self.sets[count] ^= 1 << slot
            if not self.sets[count]:
                del self.sets[count]
                self.values.remove(count)

    def lowest(self, among: EndpointSet) -> EndpointSet:
        """Give the shown members of *among* that have the lowest count, in O(values)."""
        for value in self.values:
            found = among & self.sets[value]
            if found:
                return found
        return 0
