"""Slots by a key that changes with every pick."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import attrs

from inferencepool.model import EndpointSet, to_endpoint_set, to_slots

__all__ = ["Levels"]

# What can be sorted and hashed: a count, or a pair of a count and a cost.
Key = TypeVar("Key", bound=Any)


@attrs.define(eq=False)
class Levels(Generic[Key]):
    """
    Slots by a count that changes with every pick: one `EndpointSet` for each value, so that a change flips two bits.

    What is called a count here may be any key that sorts. Not thread-safe; its owner's lock guards it. A slot that is
    hidden keeps its count and is in no set.

    Invariants: every shown slot is in exactly one set, that of its count; no set is empty; *values* are the keys of
    *sets*, ascending.

    Attributes:
        counts: The count by slot.
        sets: Count to the shown slots that have it.
        values: The counts that some shown slot has, ascending.
    """

    counts: list[Key]
    sets: dict[Key, EndpointSet]
    values: list[Key]
    _shown: bytearray

    @classmethod
    def build(cls, counts: Sequence[Key], shown: Iterable[int]) -> Levels[Key]:
        """Sort the slots *shown* by *counts* (indexed by slot), in O(slots)."""
        by_value: dict[Key, list[int]] = {}
        flags = bytearray(len(counts))
        for slot in shown:
            by_value.setdefault(counts[slot], []).append(slot)
            flags[slot] = 1
        sets = {value: to_endpoint_set(slots) for value, slots in by_value.items()}
        return cls(list(counts), sets, sorted(sets), flags)

    @classmethod
    def level(cls, size: int, shown: EndpointSet, count: Key) -> Levels[Key]:
        """Start *size* slots with the same *count*."""
        flags = bytearray(size)
        if shown == (1 << size) - 1:
            flags = bytearray(b"\1") * size
        else:
            for slot in to_slots(shown):
                flags[slot] = 1
        return cls([count] * size, {count: shown}, [count], flags) if shown else cls([count] * size, {}, [], flags)

    def place(self, slot: int, to: Key) -> None:
        """Change the count of *slot* to another one."""
        count = self.counts[slot]
        self.counts[slot] = to
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
