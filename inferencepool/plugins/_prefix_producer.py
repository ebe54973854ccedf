"""Which prompts went where, so that strategies know what is probably cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any, Literal

import attrs
from cachetools import LRUCache

from inferencepool._checks import checked_choice, checked_flag, checked_whole_number, refusal
from inferencepool._lock import tolerant_lock
from inferencepool.model import EndpointSet, InferenceRequest, Snapshot
from inferencepool.plugins._tokens import BYTES_PER_TOKEN
from inferencepool.prefix import HashChainIndex, JointMatch, PrefixIndex, PrefixMatch, PrefixTree, token_bytes
from inferencepool.scheduling import PickResult

__all__ = ["ApproxPrefixCacheProducer"]

_NAME = "approx-prefix-cache-producer"

# The reference makes blocks no smaller than this, in tokens.
_LEAST_CHAINED = 64

# What a prompt that waits for its response takes beside its text, and a block of it at least, in bytes.
_WAITING_BYTES = 1_000
_LEAST_BLOCK_BYTES = 40

_UNKNOWN = (-1, None, None)


@attrs.define(eq=False)
class ApproxPrefixCacheProducer:
    """
    Remember which prompts went to which endpoint, as a guess at what its prefix cache holds.

    *When to choose it:* for every strategy that looks at cached prefixes; they share one, and create it by themselves.

    *Looks at:* the prompt (or its token ids), the model and the cache salt of each request, the endpoint that was
    picked, and the size of the KV cache that the engine reports.

    *Configuration:* type ``approx-prefix-cache-producer``; ``blockSizeTokens`` (tokens in a block, 1 or more, default
    16; a token is four bytes of text), ``lruCapacityPerServer`` (blocks that an endpoint has room for; 0 or less
    stands for the default, 31250),
    ``autoTune`` (default true: an engine that reports its cache has room for that many blocks instead),
    ``maxPrefixTokensToMatch`` (default 131072, 0 for no such limit), ``maxPrefixBlocksToMatch`` (default 2048, used
    where there is no limit in tokens; 0 for none) and ``blockSize`` (an old name of ``blockSizeTokens``). Beyond the
    reference: ``maxPromptsToMatch`` (how many prompts of one request are looked at, default 64), ``insertAt``
    (``pick``, the default, or ``response``: whether a prompt counts as cached from the pick on or once the response
    begins), ``maxBytes`` (memory of all prompts together, default 512 MiB; those that wait for their response may take
    as much again, and the oldest of them are not remembered beyond that), ``fingerprints`` (default false: keep hashes
    instead of prompts) and ``compatibility`` (default false: the reference's chain of hashes, with blocks of 64 tokens
    or more and without a limit of bytes).

    A request with several prompts has as much cached as all of them together, by the blocks of each.

    A prompt counts as cached at the endpoint that was picked, until others push it out. Prompts of different models,
    salts, and of text and token ids, never match. What is remembered of an endpoint is forgotten when its containers
    restart or another one takes its place. Of one that went it is kept for five minutes, in which it may come back as
    the same pod; meanwhile nobody has it cached.

    Thread-safe: the index has its own lock, another guards which endpoints it knows. Not to be shared between
    registries: slots mean other endpoints there.

    Attributes:
        index: Holds the prompts.

    Raises:
        ConfigurationError: A parameter is out of its range or of the wrong type.
    """

    block_size_tokens: int = attrs.field(default=16, validator=checked_whole_number(_NAME, 1, 1 << 16))
    lru_capacity_per_server: int = attrs.field(default=31_250, validator=checked_whole_number(_NAME, 1))
    auto_tune: bool = attrs.field(default=True, validator=checked_flag(_NAME))
    max_prefix_tokens_to_match: int = attrs.field(default=131_072, validator=checked_whole_number(_NAME, 0))
    max_prefix_blocks_to_match: int = attrs.field(default=2_048, validator=checked_whole_number(_NAME, 0))
    max_prompts_to_match: int = attrs.field(default=64, kw_only=True, validator=checked_whole_number(_NAME, 1))
    insert_at: Literal["pick", "response"] = attrs.field(
        default="pick", kw_only=True, validator=checked_choice(_NAME, "pick", "response")
    )
    max_bytes: int = attrs.field(default=512 << 20, kw_only=True, validator=checked_whole_number(_NAME, 1, 1 << 50))
    fingerprints: bool = attrs.field(default=False, kw_only=True, validator=checked_flag(_NAME))
    compatibility: bool = attrs.field(default=False, kw_only=True, validator=checked_flag(_NAME))
    index: PrefixIndex = attrs.field(init=False, repr=False)
    _lock: Lock = attrs.field(factory=tolerant_lock, init=False, repr=False)
    _generation: int = attrs.field(default=-1, init=False, repr=False)
    # By slot, see `Fleet.caches`; and whether something is remembered of endpoints that are away.
    _caches: Sequence[int] = attrs.field(default=(), init=False, repr=False)
    _some_away: bool = attrs.field(default=False, init=False, repr=False)
    # By slot: the generation that told the size of the engine's cache, its blocks, and the tokens of a block.
    _sizes: dict[int, tuple[int, int | None, int | None]] = attrs.field(factory=dict, init=False, repr=False)
    _waiting: LRUCache[PickResult, PrefixMatch] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.compatibility and self.fingerprints:
            raise refusal(_NAME, "fingerprints", True, "is not possible with compatibility: hashes are kept anyway")
        self._waiting = LRUCache(self.max_bytes, getsizeof=self._size_of)
        most = self._most_blocks
        size = self.tokens_per_block * BYTES_PER_TOKEN
        if self.compatibility:
            self.index = HashChainIndex(block_size=size, capacity=self.lru_capacity_per_server, max_match=most)
        else:
            self.index = PrefixTree(
                block_size=size,
                capacity=self.lru_capacity_per_server,
                max_bytes=self.max_bytes,
                max_match=most,
                fingerprints=self.fingerprints,
            )

    @property
    def _most_blocks(self) -> int | None:
        """How many blocks of a request are looked at; None for all."""
        if self.max_prefix_tokens_to_match:
            return max(1, self.max_prefix_tokens_to_match // self.tokens_per_block)
        return self.max_prefix_blocks_to_match or None

    @property
    def tokens_per_block(self) -> int:
        """How many tokens a block of `match` has, by the estimate where the prompt is text."""
        return max(self.block_size_tokens, _LEAST_CHAINED) if self.compatibility else self.block_size_tokens

    def match(self, request: InferenceRequest, snapshot: Snapshot, /) -> PrefixMatch:
        """Tell who probably holds how much of the prompt; looked up once for each pick."""
        produced = request.produced
        if produced is not None:
            known: PrefixMatch | None = produced.get(self)
            if known is not None:
                return known
        if snapshot.fleet.caches is not self._caches:
            self.prepare(snapshot)
        if request.prompt_tokens is None:
            found = self.index.match(request.prompt, (request.model, request.cache_salt))
        else:
            found = self.index.match(token_bytes(request.prompt_tokens), (request.model, request.cache_salt, "tokens"))
        if request.more_prompts:
            found = self._match_more(request, found)
        if self._some_away and found.levels:
            found = attrs.evolve(found, levels=_among(found.levels, snapshot.fleet.members))
        if produced is not None:
            produced[self] = found
        return found

    produce = match

    def has_cached(self, result: PickResult, /) -> bool:
        """Tell whether the endpoint that was picked probably has any of the prompt cached."""
        return bool(self.match(result.request, result.snapshot).blocks(result.slot))

    def prepare(self, snapshot: Snapshot, /) -> None:
        """Forget what was cached by those that are gone or were restarted."""
        fleet = snapshot.fleet
        caches = fleet.caches
        with self._lock:
            if caches is self._caches or snapshot.generation < self._generation:
                return
            before = self._caches
            gone = [slot for slot, (old, new) in enumerate(zip(before, caches, strict=False)) if old != new]
            for slot in (*gone, *range(len(caches), len(before))):
                self._sizes.pop(slot, None)
                self.index.remove(slot)
            self._some_away = any(
                cache and endpoint is None for cache, endpoint in zip(caches, fleet.endpoints, strict=False)
            )
            self._caches, self._generation = caches, snapshot.generation

    def picked(self, result: PickResult, /) -> None:
        """Remember where the prompt went, now or when the response begins."""
        produced = result.produced
        match = produced.get(self) if produced else None
        if match is None or not match.total:
            return
        if self.auto_tune:
            self._tune(result)
        if self.insert_at == "pick":
            self._insert(match, result.slot)
        else:
            with self._lock, suppress(ValueError):  # it alone is larger than all may be
                self._waiting[result] = match

    def started(self, result: PickResult, /) -> None:
        """Remember where the prompt went, if it waits for that."""
        if self.insert_at != "pick" and (match := self._take(result)) is not None:
            self._insert(match, result.slot)

    def released(self, result: PickResult, /) -> None:
        """Forget a prompt whose response never began."""
        if self.insert_at != "pick":
            self._take(result)

    def _match_more(self, request: InferenceRequest, first: PrefixMatch) -> PrefixMatch:
        """Look up the other prompts as well, each for itself, until as many blocks are looked at as one may have."""
        space: tuple[str, ...] = (request.model, request.cache_salt)
        pack: Callable[[Any], bytes] | None = None
        if request.prompt_tokens is not None:
            space, pack = (*space, "tokens"), token_bytes
        parts, total, most = [first], first.total, self._most_blocks
        prompts: Sequence[Any] = request.more_prompts[: self.max_prompts_to_match - 1]
        for prompt in prompts:
            if most is not None and total >= most:
                break
            parts.append(self.index.match(prompt if pack is None else pack(prompt), space))
            total += parts[-1].total
        return JointMatch.of(parts)

    def _insert(self, match: PrefixMatch, slot: int) -> None:
        if type(match) is JointMatch:
            match.insert(self.index, slot)
        else:
            self.index.insert(match, slot)

    def _size_of(self, match: PrefixMatch) -> int:
        """Estimate what a prompt takes that waits, in bytes."""
        return _WAITING_BYTES + match.total * max(_LEAST_BLOCK_BYTES, self.tokens_per_block * BYTES_PER_TOKEN)

    def _take(self, result: PickResult) -> PrefixMatch | None:
        with self._lock:
            found: PrefixMatch | None = self._waiting.pop(result, None)
        return found

    def _tune(self, result: PickResult) -> None:
        """Give the endpoint that was picked as much room as its engine reports, where that changed."""
        slot, generation = result.slot, result.snapshot.generation
        metrics = result.snapshot.metrics[slot]
        blocks, size = metrics.cache_num_blocks, metrics.cache_block_size
        if not blocks or self._sizes.get(slot, _UNKNOWN)[1:] == (blocks, size):
            return
        # The reference takes the engine's blocks for its own, whatever their size.
        tokens_per_block = self.block_size_tokens if self.compatibility else size or self.block_size_tokens
        with self._lock:
            # Another thread may know better by now: picks from different snapshots end in any order.
            is_there = self._caches[slot : slot + 1] == (result.snapshot.fleet.caches[slot],)
            if is_there and generation >= self._sizes.get(slot, _UNKNOWN)[0]:
                self._sizes[slot] = (generation, blocks, size)
                self.index.set_capacity(slot, max(1, blocks * tokens_per_block // self.block_size_tokens))


def _among(levels: Sequence[tuple[int, EndpointSet]], members: EndpointSet) -> list[tuple[int, EndpointSet]]:
    """Give the levels of a match with *members* only."""
    found: list[tuple[int, EndpointSet]] = []
    known = 0
    for blocks, holders in levels:
        there = holders & members
        if there != known:
            found.append((blocks, there))
            known = there
    return found
