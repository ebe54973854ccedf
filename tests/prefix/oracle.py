"""What a prefix tree must do, block by block and without a tree."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import TypeAlias

import attrs

from inferencepool.prefix import PrefixMatch, PrefixTree
from inferencepool.prefix._forest import _END_BYTES, _NODE_BYTES, _SET_BYTES, _SPACE_BYTES, _size_of
from inferencepool.prefix._node import Node

# A block is known by its space and by the whole text up to its end.
Block: TypeAlias = tuple[Hashable, bytes]


@attrs.define
class BlockLru:
    """
    Each slot has a list of blocks in the order of their last use.

    A prompt uses its blocks from the last to the first; the least recently used block goes first.
    """

    width: int
    capacity: int
    max_bytes: int
    capacities: dict[int, int] = attrs.field(factory=dict)
    ticks: dict[int, OrderedDict[Block, int]] = attrs.field(factory=dict)
    clock: int = 0
    slots: int = 0
    evicted: int = 0

    def insert(self, text: bytes, space: Hashable, slot: int) -> None:
        """Use all blocks of a text, and drop those that there is no room for."""
        self.slots = max(self.slots, slot + 1)
        self.clock += 1
        blocks = self.ticks.setdefault(slot, OrderedDict())
        for end in reversed(range(self.width, len(text) + 1, self.width)):
            blocks[space, text[:end]] = self.clock
            blocks.move_to_end((space, text[:end]))
        self.fit(slot)

    def fit(self, slot: int) -> None:
        """Drop the blocks of a slot that there is no room for."""
        blocks = self.ticks.setdefault(slot, OrderedDict())
        while len(blocks) > self.capacities.get(slot, self.capacity):
            blocks.popitem(last=False)
            self.evicted += 1

    def forget_oldest_prompt(self) -> None:
        """Drop the blocks that were used last when the oldest of all was."""
        tick, slot = min((tick, slot) for slot, blocks in self.ticks.items() for tick in blocks.values())
        blocks = self.ticks[slot]
        oldest = [block for block, used in blocks.items() if used == tick]
        for block in oldest:
            del blocks[block]
        self.evicted += len(oldest)

    def remove(self, slot: int) -> None:
        """Forget a slot."""
        self.ticks.pop(slot, None)
        self.capacities.pop(slot, None)

    def set_capacity(self, slot: int, blocks: int | None) -> None:
        """Give a slot more or less room."""
        self.slots = max(self.slots, slot + 1)
        self.capacities[slot] = self.capacity if blocks is None else blocks
        self.fit(slot)

    def match(self, text: bytes, space: Hashable) -> dict[int, int]:
        """Count the leading blocks of a text that each slot holds; slots that hold none are left out."""
        found = {}
        for slot, blocks in self.ticks.items():
            ends = range(self.width, len(text) + 1, self.width)
            missing = (end for end in ends if (space, text[:end]) not in blocks)
            if length := next(missing, len(text) // self.width * self.width + self.width) // self.width - 1:
                found[slot] = length
        return found

    def holders(self) -> dict[Block, set[int]]:
        """List who holds which block."""
        found: dict[Block, set[int]] = {}
        for slot, blocks in self.ticks.items():
            for block in blocks:
                found.setdefault(block, set()).add(slot)
        return found

    def ends(self) -> list[tuple[int, Block]]:
        """List the prompt ends: the deepest of the blocks of a slot that were used last together."""
        return [
            (slot, block)
            for slot, blocks in self.ticks.items()
            for block, tick in blocks.items()
            if not any(blocks[below] == tick for below in self.below(block, blocks))
        ]

    def below(self, block: Block, blocks: dict[Block, int] | dict[Block, set[int]]) -> Iterator[Block]:
        """List the blocks right after *block*."""
        space, text = block
        for other, longer in blocks:
            if other == space and len(longer) == len(text) + self.width and longer.startswith(text):
                yield other, longer

    def nodes(self) -> list[Block]:
        """List the last blocks of the nodes that a radix tree needs: those where a prompt ends or where it branches."""
        holders = self.holders()
        ends = {block for _, block in self.ends()}
        return [block for block in holders if block in ends or len(list(self.below(block, holders))) != 1]

    def size(self) -> int:
        """Estimate the memory that a radix tree takes."""
        holders, nodes = self.holders(), self.nodes()
        return (
            len(holders) * self.width
            + len(nodes) * (_NODE_BYTES + self.width)
            + len(self.ends()) * _END_BYTES
            + sum(len(holders[node]) > 1 for node in nodes) * (_SET_BYTES + (self.slots >> 3))
            + sum(_SPACE_BYTES + _size_of(space) for space in {space for space, _ in holders})
        )


def holders_in(tree: PrefixTree) -> dict[Block, set[int]]:
    """List who holds which block, as the tree has it."""
    return {
        (space, text[: len(text) - len(node.key) + end]): {
            slot for slot in range(node.holders.bit_length()) if node.holders >> slot & 1
        }
        for space, text, node in nodes_in(tree)
        for end in range(tree._width, len(node.key) + 1, tree._width)
    }


def nodes_in(tree: PrefixTree) -> Iterator[tuple[Hashable, bytes, Node]]:
    """Walk all nodes below the roots, each with its space and the text from the root to its end."""
    todo: list[tuple[Hashable, bytes, Node]] = [(space, b"", root) for space, root in tree._forest.roots.items()]
    while todo:
        space, text, node = todo.pop()
        for child in (node.children or {}).values():
            todo.append((space, text + child.key, child))
            yield todo[-1]


def check_shape(tree: PrefixTree) -> None:
    """Everything that must hold inside a tree between two calls."""
    forest, width = tree._forest, tree._width
    used = dict.fromkeys(tree._recency.holdings, 0)
    nodes = [node for _, _, node in nodes_in(tree)]
    for node in nodes:
        children = list((node.children or {}).values())
        assert node.children is None or children
        assert all(child.parent is node for child in children)
        assert all(child.key[:width] == first for first, child in (node.children or {}).items())
        assert all(child.holders & ~node.holders == 0 for child in children)
        assert node.key
        assert len(node.key) % width == 0
        assert node.holders
        assert node.ends or len(children) > 1
        assert node.ends == sum(node in holding.ends for holding in tree._recency.holdings.values())
        assert node.claims is None or node.claims
        for slot, holding in tree._recency.holdings.items():
            reasons = sum(child.holders >> slot & 1 for child in children) + (node in holding.ends)
            beyond = (node.claims or {}).get(slot, 0)
            assert reasons == (node.holders >> slot & 1) + beyond
            used[slot] += (node.holders >> slot & 1) * len(node.key) // width
    assert all(root.children and not root.holders and not root.ends for root in forest.roots.values())
    assert forest.nodes == len(nodes)
    assert forest.text == sum(len(node.key) for node in nodes)
    assert forest.ends == sum(node.ends for node in nodes)
    assert forest.shared == sum(node.holders.bit_count() > 1 for node in nodes)
    assert not forest.loose
    for slot, holding in tree._recency.holdings.items():
        assert holding.used == used[slot] <= holding.capacity
        assert list(holding.ends.values()) == sorted(set(holding.ends.values()))
    assert len(tree._recency._turns) == len(tree._recency._in_turns)
    assert tree._recency._in_turns >= {slot for slot, holding in tree._recency.holdings.items() if holding.ends}
    bounds = {slot: tick for tick, slot in tree._recency._turns}
    assert bounds.keys() == tree._recency._in_turns
    for slot, holding in tree._recency.holdings.items():
        oldest = holding.oldest_tick()
        assert oldest is None or bounds[slot] <= oldest


def check_levels(match: PrefixMatch) -> None:
    """Levels go from the deepest to the shallowest, and each set is a true superset of the one before."""
    depths = [blocks for blocks, _ in match.levels]
    assert depths == sorted(set(depths), reverse=True)
    assert all(1 <= blocks <= match.total for blocks in depths)
    before = 0
    for _, holders in match.levels:
        assert before & ~holders == 0
        assert before != holders
        before = holders


def found_by(match: PrefixMatch) -> dict[int, int]:
    """Turn levels into the number of blocks by slot."""
    slots = range(max((holders.bit_length() for _, holders in match.levels), default=0))
    return {slot: match.blocks(slot) for slot in slots if match.blocks(slot)}
