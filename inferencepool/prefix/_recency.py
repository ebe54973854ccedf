"""Which endpoint used which prompt when, and what it forgets for that."""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappop, heappush, heapreplace
from sys import maxsize

import attrs

from inferencepool.model import EndpointSet
from inferencepool.prefix._forest import Forest
from inferencepool.prefix._node import Node

__all__ = ["Holding", "Recency"]


@attrs.define(eq=False)
class Holding:
    """
    The prompt ends of one endpoint, least recently used first.

    Ends are in order and not blocks: a prompt is used with all its blocks, so those that were used last with one prompt
    go one after the other, from the end towards the front.

    Attributes:
        slot: The endpoint's slot.
        bit: The set of this slot alone.
        capacity: How many blocks it has room for.
        ends: Node that a prompt ends at to the tick at which it was last used. No prompt that a younger one begins with
            is there: all its blocks are younger too. Not a dict, which gets slow at taking off its first entry.
        used: Blocks it holds: those of all nodes from these ends up to the roots.
    """

    slot: int
    bit: EndpointSet
    capacity: int
    ends: OrderedDict[Node, int] = attrs.field(factory=OrderedDict)
    used: int = 0

    def oldest_tick(self) -> int | None:
        """Tell when the prompt that was left unused longest was used last; None where there is none."""
        return next(iter(self.ends.values()), None)


@attrs.define(eq=False)
class Recency:
    """
    What every endpoint holds, in the order of its last use.

    This equals a list of blocks for each endpoint in which a prompt's blocks are moved to the end from its last to its
    first, and from whose front blocks are taken when it is full; but it takes one step for a prompt and not for each
    block.

    Not thread-safe: the tree's lock guards it.

    Attributes:
        forest: The trees that the ends are in.
        max_bytes: Memory that the forest may take.
        holdings: Slot to what its endpoint holds.
        tick: Counts uses and removals.
        evicted: Blocks that were forgotten for want of room.
    """

    forest: Forest
    max_bytes: int
    holdings: dict[int, Holding] = attrs.field(factory=dict)
    tick: int = 0
    evicted: int = 0
    # A heap with one entry for each slot that holds something, and maybe for others: a tick no later than that of its
    # oldest prompt, and the slot. So a slot has to be looked at only when its turn may have come.
    _turns: list[tuple[int, int]] = attrs.field(factory=list)
    _in_turns: set[int] = attrs.field(factory=set)

    def add(self, slot: int, capacity: int) -> Holding:
        """Begin to remember for a slot that is not known."""
        holding = self.holdings[slot] = Holding(slot, 1 << slot, capacity)
        self.forest.slots = max(self.forest.slots, slot + 1)
        return holding

    def use(self, holding: Holding, node: Node) -> None:
        """Make the prompt that ends at *node* the youngest of an endpoint, and forget what there is no room for."""
        self.tick += 1
        ends = holding.ends
        if node in ends:
            ends.move_to_end(node)
        else:
            self._add_end(holding, node)
        ends[node] = self.tick
        above = node.parent
        while above is not None:
            # All blocks of an end above the youngest one are as young, so its turn would never come.
            if above.ends and above in ends:
                del ends[above]
                self.forest.drop_end(above)
                above.unclaim(holding.slot)
            above = above.parent
        self.fit(holding)

    def fit(self, holding: Holding) -> None:
        """Forget what an endpoint has no room for, and what there is no memory for."""
        excess = holding.used - holding.capacity
        while excess > 0:
            forgotten = self._forget(holding, excess)
            self.evicted += forgotten
            excess -= forgotten
        forest = self.forest
        if forest.loose:
            forest.tidy()
        # Forgetting as well as remembering may take memory: of a part that others hold too, it makes two.
        if forest.size > self.max_bytes:
            self._fit_memory()

    def remove(self, slot: int) -> None:
        """Forget everything about a slot."""
        self.tick += 1
        holding = self.holdings.pop(slot, None)
        if holding is not None:
            while holding.ends:
                self._forget(holding, maxsize)
            self.forest.tidy()

    def _add_end(self, holding: Holding, node: Node) -> None:
        """Let an endpoint hold *node* for one more reason, and for its first one everything above as well."""
        forest, slot, bit = self.forest, holding.slot, holding.bit
        forest.add_end(node)
        if slot not in self._in_turns:
            self._in_turns.add(slot)
            heappush(self._turns, (self.tick, slot))
        above = node.parent
        while above is not None:
            if node.holders & bit:
                node.claim(slot)
                return
            forest.hold(node, bit)
            holding.used += len(node.key) // forest.width
            node, above = above, above.parent

    def _fit_memory(self) -> None:
        """
        Forget whole prompts, those unused longest at any endpoint first, until all fit into the memory.

        Merges nodes only where that may save a prompt: seldom, so that it does not copy a long text again and again.
        """
        forest, turns = self.forest, self._turns
        while forest.size > self.max_bytes and turns:
            if forest.size - forest.slack <= self.max_bytes:
                forest.tidy()
                continue
            tick, slot = turns[0]
            holding = self.holdings.get(slot)
            oldest = None if holding is None else holding.oldest_tick()
            if holding is None or oldest is None:
                heappop(turns)
                self._in_turns.discard(slot)
            elif oldest > tick:
                heapreplace(turns, (oldest, slot))
            else:
                self.evicted += self._forget(holding, maxsize)
        forest.tidy()

    def _forget(self, holding: Holding, excess: int) -> int:
        """
        Let an endpoint forget its oldest prompt, from the end to where a younger one shares it, or *excess* blocks.

        The front that is kept remains the oldest prompt.

        Returns:
            How many blocks were forgotten, at least one.
        """
        forest, bit, ends = self.forest, holding.bit, holding.ends
        node = next(iter(ends))
        if node.holders == bit and len(node.key) > excess * forest.width:
            # A part of what nobody else holds, the most frequent case: the node remains this end.
            forest.shorten(node, len(node.key) // forest.width - excess, bit)
            holding.used -= excess
            return excess
        tick = ends.pop(node)
        forest.drop_end(node)
        forgotten = 0
        while forgotten < excess:
            forgotten += len(node.key) // forest.width
            if forgotten > excess:
                node = forest.shorten(node, forgotten - excess, bit)
                break
            above = forest.release(node, bit)
            if above is None or above.unclaim(holding.slot):
                holding.used -= forgotten
                return forgotten
            node = above
        holding.used -= excess
        ends[node] = tick
        ends.move_to_end(node, last=False)
        forest.add_end(node)
        return excess
