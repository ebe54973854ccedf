"""A prefix tree against its definition, block by block, whatever happens to it."""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inferencepool.prefix import PrefixMatch, PrefixTree
from tests.prefix.oracle import BlockLru, check_levels, check_shape, found_by, holders_in
from tests.strategies.prompts import blocks_of, outlines, spaces

AMPLE = 2**40
SLOTS = st.sampled_from([0, 1, 2, 40])


class TreeMachine(RuleBasedStateMachine):
    """
    One tree and its oracle.

    Matches may be inserted late: after the tree has moved, and after their slot was removed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[PrefixMatch, bytes, Hashable, int]] = []
        self.removals: dict[int, int] = {}
        self.calls = 0

    @initialize(
        capacity=st.sampled_from([0, 1, 3, 8, 20, 200]),
        block_size=st.sampled_from([1, 4, 300]),
        max_bytes=st.one_of(st.just(AMPLE), st.integers(1, 12_000)),
        max_match=st.sampled_from([None, 1, 6]),
        fingerprints=st.booleans(),
    )
    def start(self, capacity: int, block_size: int, max_bytes: int, max_match: int | None, fingerprints: bool) -> None:
        """Make both."""
        self.tree = PrefixTree(
            block_size=block_size,
            capacity=capacity,
            max_bytes=max_bytes,
            max_match=max_match,
            fingerprints=fingerprints,
        )
        self.max_match = max_match
        self.oracle = BlockLru(self.tree._width, capacity, max_bytes)
        self.hits = self.misses = 0

    def text_of(self, prompt: bytes) -> bytes:
        """Cut a prompt as the tree does, by other means."""
        size = self.tree.block_size
        blocks = [prompt[at : at + size] for at in range(0, len(prompt) - size + 1, size)][: self.max_match]
        if self.tree._fingerprint is not None:
            return b"".join(map(self.tree._fingerprint, blocks))
        return b"".join(blocks)

    def match(self, prompt: bytes, space: Hashable) -> PrefixMatch:
        """Look a prompt up in both."""
        match, text = self.tree.match(prompt, space), self.text_of(prompt)
        expected = self.oracle.match(text, space)
        assert expected == found_by(match)
        assert len(text) // self.tree._width == match.total
        check_levels(match)
        self.hits += bool(expected)
        self.misses += bool(text) and not expected
        return match

    def insert(self, match: PrefixMatch, prompt: bytes, space: Hashable, slot: int) -> None:
        """Insert into both."""
        self.tree.insert(match, slot)
        if match.total:
            self.oracle.insert(self.text_of(prompt), space, slot)
        self.fit_memory()

    def fit_memory(self) -> None:
        """Let the oracle forget what there is no memory for."""
        forgotten = 0
        while self.oracle.size() > self.oracle.max_bytes:
            self.oracle.forget_oldest_prompt()
            forgotten += 1
        event(f"forgot {min(forgotten, 3)} for the cap in bytes")

    @rule(outline=outlines(), rest=st.integers(0, 3), space=spaces())
    def look_up(self, outline: str, rest: int, space: Hashable) -> None:
        """Look a prompt up, and keep the match for later."""
        prompt = blocks_of(outline, self.tree.block_size) + b"a" * rest
        self.kept.append((self.match(prompt, space), prompt, space, self.calls))

    @rule(outline=outlines(), space=spaces(), slot=SLOTS)
    def look_up_and_insert(self, outline: str, space: Hashable, slot: int) -> None:
        """Do what a pick does."""
        prompt = blocks_of(outline, self.tree.block_size)
        self.insert(self.match(prompt, space), prompt, space, slot)

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), slot=SLOTS)
    def insert_late(self, data: st.DataObject, slot: int) -> None:
        """Insert what was looked up earlier, maybe before the slot was removed."""
        match, prompt, space, at = data.draw(st.sampled_from(self.kept))
        if self.removals.get(slot, -1) >= at:
            before = holders_in(self.tree)
            self.tree.insert(match, slot)
            assert before == holders_in(self.tree)
            event("inserted for a slot that was removed since")
        else:
            self.insert(match, prompt, space, slot)

    @rule(slot=SLOTS)
    def remove(self, slot: int) -> None:
        """Let an endpoint leave; its slot may come back."""
        self.tree.remove(slot)
        self.oracle.remove(slot)
        self.removals[slot] = self.calls

    @rule(slot=SLOTS, blocks=st.sampled_from([None, 0, 1, 2, 5, 30]))
    def set_capacity(self, slot: int, blocks: int | None) -> None:
        """Give an endpoint more or less room."""
        self.tree.set_capacity(slot, blocks)
        self.oracle.set_capacity(slot, blocks)
        self.fit_memory()

    @invariant()
    def agree(self) -> None:
        """Both hold the same blocks at the same slots, and count alike; the tree is as small as it can be."""
        self.calls += 1
        if not hasattr(self, "tree"):
            return
        check_shape(self.tree)
        holders, found = self.oracle.holders(), self.tree.statistics()
        assert holders == holders_in(self.tree)
        assert len(self.oracle.nodes()) == found.nodes
        assert len(self.oracle.ends()) == found.prompts
        assert len(holders) == found.blocks
        assert sum(map(len, holders.values())) == found.held
        assert len({space for space, _ in holders}) == found.spaces
        assert len(set().union(*holders.values())) == found.endpoints
        assert self.oracle.size() == found.bytes <= self.oracle.max_bytes
        assert (self.hits, self.misses, self.oracle.evicted) == (found.hits, found.misses, found.evicted)


TestTreeMachine = TreeMachine.TestCase
TestTreeMachine.settings = settings(max_examples=5 * settings().max_examples, stateful_step_count=40)
