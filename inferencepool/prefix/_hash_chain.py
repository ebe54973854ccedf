"""The reference's way: chained hashes of blocks, kept with all its quirks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from itertools import accumulate, groupby, takewhile
from typing import final

import attrs

from inferencepool._lock import new_lock, take
from inferencepool.model import EndpointSet
from inferencepool.prefix._index import (
    PrefixMatch,
    PrefixStatistics,
    checked_count,
    checked_slot,
    foreign_match,
    not_bytes,
)
from inferencepool.prefix._levels import count_levels

__all__ = ["HashChainIndex"]

_NAME = "hash chain index"

# The reference packs four bytes into a token.
_BYTES_OF_A_TOKEN = 4

# What one hash takes in the index, and what it takes for each endpoint that holds it, in bytes.
_HASH_BYTES = 130
_HELD_BYTES = 170


@final
@attrs.define(eq=False)
class _ChainMatch(PrefixMatch):
    """
    A match, and the chain of its prompt.

    Attributes:
        source: The index that made it.
        hashes: The hash of each block, first to last.
        removals: The index's count of removals then.
    """

    source: HashChainIndex = attrs.field(repr=False)
    hashes: list[int] = attrs.field(repr=False)
    removals: int = attrs.field(repr=False)


@attrs.define(eq=False)
class _Cache:
    """What one endpoint holds: its bit, its capacity, and the hashes of its blocks, least recently used first."""

    bit: EndpointSet
    capacity: int
    blocks: OrderedDict[int, None] = attrs.field(factory=OrderedDict)


@final
class HashChainIndex:
    """
    Finds prefixes as the reference does, for results like its own; `PrefixTree` is faster, smaller and more exact.

    Each block's hash covers the blocks before it; the space is where the chain begins. These quirks are the
    reference's, and kept:

    - what follows the last whole block is hashed as a block, filled up with zeros to whole tokens of four bytes;
    - a lookup stops at the first block that nobody holds, and until there counts the blocks of each endpoint: one that
      holds the first and the third block, but not the second, counts two;
    - a prompt's first block is inserted first, so it is forgotten first as well, and what remains is the rest;
    - the capacity of an endpoint is fixed when something is inserted for it first; one of 0 means the default.

    One is not: where a prompt is longer than the capacity, the reference remembers its first blocks for ever, out of
    reach of its own forgetting. Here they are forgotten. The hash cannot be seen from outside, so it is not the
    reference's XXH64 but the fastest there is in the standard library, Python's own of bytes and of pairs.

    One call costs time in proportion to the blocks of the prompt, at most *max_match*. Memory is in proportion to the
    blocks that endpoints hold, at most their capacity each.

    Thread-safe: one lock guards everything, and is held for the whole of each call but for hashing.
    """

    def __init__(self, *, block_size: int = 256, capacity: int = 31_250, max_match: int | None = 2_048) -> None:
        """
        Start empty.

        Args:
            block_size: Bytes in a block, 1 or more. The default is the reference's 64 tokens.
            capacity: Blocks that an endpoint has room for where `set_capacity` does not say; 1 or more.
            max_match: Blocks of a prompt that are looked at, 1 or more; None for all. The default is the reference's
                131,072 tokens.

        Raises:
            ConfigurationError: A number is out of its range.
        """
        self._block_size = checked_count(_NAME, "block_size", block_size, 1)
        self._capacity = checked_count(_NAME, "capacity", capacity, 1)
        self._max_match = None if max_match is None else checked_count(_NAME, "max_match", max_match, 1)
        self._lock = new_lock()
        self._holders: dict[int, EndpointSet] = {}
        self._caches: dict[int, _Cache] = {}
        self._capacities: dict[int, int] = {}
        self._removed: dict[int, int] = {}
        self._removals = 0
        self._hits = 0
        self._misses = 0
        self._evicted = 0

    def __repr__(self) -> str:
        return f"<HashChainIndex blocks={len(self._holders)}>"

    @property
    def block_size(self) -> int:
        """Bytes in a block."""
        return self._block_size

    def match(self, prompt: bytes, space: Hashable = ()) -> PrefixMatch:
        """
        Count for each slot the blocks of *prompt* that it holds, up to the first block that nobody holds.

        Raises:
            InvalidRequestError: *prompt* is no bytes object.
        """
        if type(prompt) is not bytes:
            raise not_bytes(prompt)
        hashes = self._chain(prompt, space)
        take(self._lock)
        try:
            found = takewhile(bool, (self._holders.get(block, 0) for block in hashes))
            levels = count_levels((len(list(run)), holders) for holders, run in groupby(found))
            self._hits += bool(levels)
            self._misses += bool(hashes) and not levels
            return _ChainMatch(len(hashes), levels, self, hashes, self._removals)
        finally:
            self._lock.release()

    def insert(self, match: PrefixMatch, slot: int) -> None:
        """
        Remember that the prompt of *match* went to *slot*.

        Raises:
            StrategyError: *match* was made by another index, or *slot* is no slot.
        """
        if type(match) is not _ChainMatch or match.source is not self:
            raise foreign_match(_NAME, match)
        checked_slot(_NAME, slot)
        take(self._lock)
        try:
            if self._removed.get(slot, 0) <= match.removals and match.hashes:
                self._insert(match.hashes, slot)
        finally:
            self._lock.release()

    def remove(self, slot: int) -> None:
        """Forget everything about *slot*, its capacity included, in O(blocks it holds)."""
        checked_slot(_NAME, slot)
        take(self._lock)
        try:
            self._removals += 1
            self._removed[slot] = self._removals
            self._capacities.pop(slot, None)
            cache = self._caches.pop(slot, None)
            if cache is not None:
                for block in cache.blocks:
                    self._drop(block, cache.bit)
        finally:
            self._lock.release()

    def set_capacity(self, slot: int, blocks: int | None) -> None:
        """
        Say how many blocks *slot* has room for; None or 0 for the default. Nothing changes for a slot in use.

        Raises:
            ConfigurationError: *blocks* is negative or no whole number.
            StrategyError: *slot* is no slot.
        """
        checked_slot(_NAME, slot)
        capacity = 0 if blocks is None else checked_count(_NAME, f"capacity of slot {slot}", blocks, 0)
        take(self._lock)
        try:
            self._capacities[slot] = capacity or self._capacity
        finally:
            self._lock.release()

    def statistics(self) -> PrefixStatistics:
        """Count what is held, in O(endpoints). Spaces and prompt ends are not known, and 0; a node is a block."""
        take(self._lock)
        try:
            blocks = len(self._holders)
            held = sum(len(cache.blocks) for cache in self._caches.values())
            return PrefixStatistics(
                spaces=0,
                nodes=blocks,
                blocks=blocks,
                prompts=0,
                endpoints=len(self._caches),
                held=held,
                bytes=blocks * _HASH_BYTES + held * _HELD_BYTES,
                hits=self._hits,
                misses=self._misses,
                evicted=self._evicted,
            )
        finally:
            self._lock.release()

    def _chain(self, prompt: bytes, space: Hashable) -> list[int]:
        """Hash the blocks of *prompt*, each with the hash before it."""
        size = self._block_size
        end = len(prompt) if self._max_match is None else min(len(prompt), self._max_match * size)
        blocks = [prompt[at : at + size] for at in range(0, end, size)]
        if blocks and len(blocks[-1]) < size:
            blocks[-1] += bytes(-len(blocks[-1]) % _BYTES_OF_A_TOKEN)
        chain = accumulate(map(hash, blocks), lambda before, block: hash((block, before)), initial=hash(space))
        return list(chain)[1:]

    def _insert(self, hashes: Iterable[int], slot: int) -> None:
        cache = self._caches.get(slot)
        if cache is None:
            capacity = self._capacities.get(slot, self._capacity)
            cache = self._caches[slot] = _Cache(1 << slot, capacity)
        blocks, holders = cache.blocks, self._holders
        for block in hashes:
            if block in blocks:
                blocks.move_to_end(block)
                continue
            blocks[block] = None
            holders[block] = holders.get(block, 0) | cache.bit
            if len(blocks) > cache.capacity:
                self._drop(blocks.popitem(last=False)[0], cache.bit)
                self._evicted += 1

    def _drop(self, block: int, bit: EndpointSet) -> None:
        holders = self._holders[block] ^ bit
        if holders:
            self._holders[block] = holders
        else:
            del self._holders[block]
