"""The prefix tree."""

from __future__ import annotations

from collections.abc import Hashable
from sys import maxsize
from typing import final

import attrs

from inferencepool._lock import new_lock, take
from inferencepool.prefix._fingerprints import FINGERPRINT_SIZE, Fingerprinter
from inferencepool.prefix._forest import Forest
from inferencepool.prefix._index import (
    PrefixMatch,
    PrefixStatistics,
    checked_count,
    checked_slot,
    foreign_match,
    not_bytes,
)
from inferencepool.prefix._node import Node
from inferencepool.prefix._recency import Holding, Recency

__all__ = ["PrefixTree"]

_NAME = "prefix tree"


@final
@attrs.define(eq=False)
class _TreeMatch(PrefixMatch):
    """
    A match, and where its walk ended.

    Attributes:
        source: The tree that made it.
        text: What was looked up: the prompt, or its fingerprints.
        space: Where it was looked up.
        tick: The tree's tick then.
        version: The forest's version then.
        node: The last node of the path; None where the space was not known.
        position: Bytes of *text* that match.
        inside: Bytes of the key of *node* that match where it is not the whole key, else 0.
    """

    source: PrefixTree = attrs.field(repr=False)
    text: bytes = attrs.field(repr=False)
    space: Hashable = attrs.field(repr=False)
    tick: int = attrs.field(repr=False)
    version: int = attrs.field(repr=False)
    node: Node | None = attrs.field(repr=False)
    position: int = attrs.field(repr=False)
    inside: int = attrs.field(repr=False)


@final
class PrefixTree:
    """
    Remembers which prompts went to which endpoints, in radix trees over the prompts' own bytes.

    Blocks are compared and not hashed, a whole run of them at a time: a lookup costs little more than comparing the
    prompt once with what is known of it. Endpoints forget as engines do: each has room for *capacity* blocks, and the
    block that was not used for longest goes first, of one prompt the last block first. So what an endpoint holds of a
    prompt is always its beginning.

    All endpoints together are held to *max_bytes*: where that is exceeded, the prompt that no request used for longest
    goes, at whichever endpoint it is, whole. Every endpoint so keeps what was used since about the same time; and as no
    endpoint holds more than its own capacity, none can push out more than that of the others.

    Cost of one call, with the lock held: `match` steps through at most *max_match* nodes and compares each byte about
    once. `insert` does the same where the tree has moved since; it copies the texts of the few nodes that it cuts or
    merges, each of at most *max_match* blocks; and it forgets what there is no more room for, in the long run one
    prompt end for each one inserted. `remove` and `set_capacity` cost as much as what they forget. Memory is at most
    *max_bytes*, and beyond that one small entry for each slot that was ever used.

    Thread-safe: one lock guards everything, and is held for the whole of each call but for making fingerprints.
    """

    def __init__(
        self,
        *,
        block_size: int = 64,
        capacity: int = 31_250,
        max_bytes: int = 512 * 2**20,
        max_match: int | None = 8_192,
        fingerprints: bool = False,
    ) -> None:
        """
        Start empty.

        Args:
            block_size: Bytes in a block, 1 or more; 64 bytes are 16 token ids, the block of most engines, or about 16
                tokens of English text. What is shorter than a block, or follows the last whole one, is not looked at.
            capacity: Blocks that an endpoint has room for where `set_capacity` does not say; 0 or more. The default is
                the reference's; in blocks of 64 bytes it is 2 MB of text or half a million token ids.
            max_bytes: Memory that everything may take, as estimated, 1 or more. With text of 64 bytes a block the
                default is room for about 7 million different blocks, the whole capacity of 200 endpoints that have
                nothing in common.
            max_match: Blocks of a prompt that are looked at, 1 or more; None for all. It bounds the cost of one
                request. The default is the reference's 131,072 tokens, at four bytes each.
            fingerprints: Whether to keep a hash of 8 bytes for each block instead of its text. Takes less memory and
                keeps no prompt, but hashes every prompt as a whole. Two blocks look alike by chance once in 2^64.

        Raises:
            ConfigurationError: A number is out of its range.
        """
        self._block_size = checked_count(_NAME, "block_size", block_size, 1)
        self._capacity = checked_count(_NAME, "capacity", capacity, 0)
        most_bytes = checked_count(_NAME, "max_bytes", max_bytes, 1)
        most = maxsize if max_match is None else checked_count(_NAME, "max_match", max_match, 1)
        self._longest = min(most, maxsize // block_size) * block_size
        self._fingerprint = Fingerprinter(block_size) if fingerprints else None
        self._width = FINGERPRINT_SIZE if fingerprints else block_size
        self._lock = new_lock()
        self._forest = Forest(self._width)
        self._recency = Recency(self._forest, most_bytes)
        # At which tick slots were removed, so that a match that was made before is not inserted.
        self._removed: dict[int, int] = {}
        self._hits = 0
        self._misses = 0

    def __repr__(self) -> str:
        return f"<PrefixTree blocks={self._forest.text // self._width}>"

    @property
    def block_size(self) -> int:
        """Bytes in a block."""
        return self._block_size

    def match(self, prompt: bytes, space: Hashable = ()) -> PrefixMatch:
        """
        Tell who holds how many leading blocks of *prompt*. Changes nothing, recency included.

        Args:
            prompt: The prompt; for token ids see `token_bytes`.
            space: What engines keep apart; a tuple of strings is best. Its size counts towards *max_bytes*.

        Raises:
            InvalidRequestError: *prompt* is no bytes object.
        """
        if type(prompt) is not bytes:
            raise not_bytes(prompt)
        text = prompt
        if len(text) - self._longest >= self._block_size:
            text = text[: self._longest]
        if self._fingerprint is not None:
            text = self._fingerprint(text)
        total = len(text) // self._width
        lock, forest = self._lock, self._forest
        if not total:
            return _TreeMatch(0, (), self, b"", space, 0, 0, None, 0, 0)
        if not lock.acquire(False):  # by position: a keyword would cost half as much again
            take(lock)
        try:
            levels, node, position, inside = forest.walk(text, space)
            if levels:
                self._hits += 1
            else:
                self._misses += 1
            return _TreeMatch(
                total, levels, self, text, space, self._recency.tick, forest.version, node, position, inside
            )
        finally:
            lock.release()

    def insert(self, match: PrefixMatch, slot: int) -> None:
        """
        Remember that the prompt of *match* went to *slot*; its blocks are then the youngest of that slot.

        Of a prompt longer than the slot's capacity as many leading blocks are remembered as there is room for.

        Raises:
            StrategyError: *match* was made by another index, or *slot* is no slot.
        """
        if type(match) is not _TreeMatch or match.source is not self:
            raise foreign_match(_NAME, match)
        lock = self._lock
        if not lock.acquire(False):
            take(lock)
        try:
            if match.total and self._removed.get(slot, 0) <= match.tick:
                self._insert(match, self._recency.holdings.get(slot) or self._holding(slot))
        finally:
            lock.release()

    def remove(self, slot: int) -> None:
        """Forget everything about *slot*, its capacity included, in O(nodes it holds)."""
        take(self._lock)
        try:
            checked_slot(_NAME, slot)
            self._recency.remove(slot)
            self._removed[slot] = self._recency.tick
        finally:
            self._lock.release()

    def set_capacity(self, slot: int, blocks: int | None) -> None:
        """
        Say how many blocks *slot* has room for, 0 or more, or None for the default; what is too much is forgotten.

        Raises:
            ConfigurationError: *blocks* is negative or no whole number.
            StrategyError: *slot* is no slot.
        """
        capacity = self._capacity if blocks is None else checked_count(_NAME, f"capacity of slot {slot}", blocks, 0)
        take(self._lock)
        try:
            holding = self._holding(slot)
            holding.capacity = capacity
            self._recency.fit(holding)
        finally:
            self._lock.release()

    def statistics(self) -> PrefixStatistics:
        """Count what is held, in O(endpoints)."""
        take(self._lock)
        try:
            forest, holdings = self._forest, self._recency.holdings.values()
            return PrefixStatistics(
                spaces=len(forest.roots),
                nodes=forest.nodes,
                blocks=forest.text // self._width,
                prompts=forest.ends,
                endpoints=sum(1 for holding in holdings if holding.used),
                held=sum(holding.used for holding in holdings),
                bytes=forest.size,
                hits=self._hits,
                misses=self._misses,
                evicted=self._recency.evicted,
            )
        finally:
            self._lock.release()

    def _holding(self, slot: int) -> Holding:
        holding = self._recency.holdings.get(slot)
        return holding or self._recency.add(checked_slot(_NAME, slot), self._capacity)

    def _insert(self, match: _TreeMatch, holding: Holding) -> None:
        node, position, inside = match.node, match.position, match.inside
        if match.version != self._forest.version:
            _, node, position, inside = self._forest.walk(match.text, match.space)
        if node is None:
            node = self._forest.add_space(match.space)
        tail = match.text[position : match.total * self._width]
        self._recency.use(holding, self._forest.extend(node, inside, tail))
