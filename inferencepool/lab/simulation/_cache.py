"""What a simulated engine really holds in its KV cache."""

from __future__ import annotations

from collections import OrderedDict
from typing import final

import attrs

from inferencepool.lab.simulation._prompt import Prompt

__all__ = ["BlockCache", "HeldBlocks"]


@attrs.define(eq=False)
class _Part:
    """
    The blocks that are there of what a prompt adds to those before it.

    Attributes:
        prompt: The prompt.
        before: The part that ends where this one begins; None at the beginning.
        start: Blocks before this part.
        size: Blocks that it has when it is whole, 1 or more.
        blocks: Blocks that are there, from its beginning.
        users: Requests that hold it.
    """

    prompt: Prompt
    before: _Part | None
    start: int
    size: int
    blocks: int
    users: int


@attrs.define(eq=False)
class HeldBlocks:
    """
    The blocks that one request holds.

    Attributes:
        hits: Blocks of its prompt that were there when it came.
        own: Blocks for itself alone: of its answer, and of the end of its prompt if that fills no block.
        last: The last part of its prompt, which others may hold, too, as all those before it; None if it has none.
    """

    hits: int
    own: int
    last: _Part | None


@final
class BlockCache:
    """
    A KV cache of a fixed number of blocks, which keeps prompts until it needs their room.

    It works as vLLM's does. Only blocks that a prompt fills are shared. A request takes the blocks of the longest
    beginning of its prompt that is there, and free ones for the rest. Blocks that no request holds stay until their
    room is needed: those that were let go first leave first, and of one prompt its end before its beginning.

    Holding and releasing cost O(parts of the prompt), however long these are; a part that leaves costs O(1).

    Not thread-safe. Of a prompt that is there, all that it begins with is there, too, has at least as many users, and
    was let go no earlier: what leaves next is therefore never the beginning of anything.
    """

    def __init__(self, blocks: int, block_size: int, *, keeps: bool = True) -> None:
        """
        Begin empty.

        Args:
            blocks: Blocks in all, 1 or more.
            block_size: Tokens in a block, 1 or more.
            keeps: Whether prompts are kept and shared; if not, every request computes its whole prompt.
        """
        self._blocks = blocks
        self._block_size = block_size
        self._keeps = keeps
        self._free = blocks
        self._parts: dict[Prompt, _Part] = {}
        # The parts that no request holds, those that leave first in front, and their blocks.
        self._idle: OrderedDict[_Part, None] = OrderedDict()
        self._idle_blocks = 0

    @property
    def held_blocks(self) -> int:
        """Blocks that requests hold."""
        return self._blocks - self._free - self._idle_blocks

    @property
    def kept_blocks(self) -> int:
        """Blocks that no request holds and that are kept for those to come."""
        return self._idle_blocks

    def find(self, prompt: Prompt) -> int:
        """Count the blocks from the beginning of *prompt* that are there."""
        part, _ = self._find(prompt)
        return part.start + part.blocks if part is not None else 0

    def hold(self, prompt: Prompt, output_tokens: int) -> HeldBlocks | None:
        """Take the blocks for *prompt* and its answer; None, and nothing has changed, if there is no room."""
        size = self._block_size
        total = -(-(prompt.tokens + output_tokens) // size)
        if not self._keeps:
            return self._hold_own(total)
        found, absent = self._find(prompt)
        hits = found.start + found.blocks if found is not None else 0
        idle, part = 0, found
        while part is not None:
            if not part.users:
                idle += part.blocks
            part = part.before
        need = total - hits
        if need > self._free + self._idle_blocks - idle:
            return None
        if found is not None:
            self._use(found, idle)
        if need > self._free:
            self._make_room(need)
        self._free -= need
        last = self._add(absent, found) if absent else found
        return HeldBlocks(hits, total - prompt.tokens // size, last)

    def release(self, held: HeldBlocks, answer: Prompt | None = None) -> None:
        """
        Let go of what a request held, once.

        Args:
            held: What it held.
            answer: Its prompt together with its answer, if that is to be kept for prompts that begin with it.
        """
        self._free += held.own
        if answer is not None and self._keeps:
            self._keep(answer, held.last)
        part = held.last
        while part is not None:
            part.users -= 1
            if not part.users:
                self._idle[part] = None
                self._idle_blocks += part.blocks
            part = part.before

    def _find(self, prompt: Prompt) -> tuple[_Part | None, list[Prompt]]:
        """Give the last part of *prompt* that is there, and what comes after it, from the end."""
        parts = self._parts
        absent: list[Prompt] = []
        at: Prompt | None = prompt
        while at is not None:
            part = parts.get(at)
            if part is not None:
                return part, absent
            absent.append(at)
            at = at.parent
        return None, absent

    def _hold_own(self, blocks: int) -> HeldBlocks | None:
        if blocks > self._free:
            return None
        self._free -= blocks
        return HeldBlocks(0, blocks, None)

    def _use(self, found: _Part, idle: int) -> None:
        """Hold *found* and all before it, of which *idle* blocks were held by nobody."""
        part: _Part | None = found
        while part is not None:
            if not part.users:
                del self._idle[part]
            part.users += 1
            part = part.before
        self._idle_blocks -= idle
        # It may have lost its end, which the request computes again.
        found.blocks = found.size

    def _add(self, absent: list[Prompt], last: _Part | None) -> _Part | None:
        """Add what comes after *last*, held by one request; give the last part."""
        size = self._block_size
        for prompt in reversed(absent):
            start = prompt.parent.tokens // size if prompt.parent is not None else 0
            blocks = prompt.tokens // size - start
            if blocks:
                last = self._parts[prompt] = _Part(prompt, last, start, blocks, blocks, 1)
        return last

    def _make_room(self, blocks: int) -> None:
        """Let those leave that were let go first, until so many blocks are free."""
        while self._free < blocks:
            part = next(iter(self._idle))
            leaving = min(part.blocks, blocks - self._free)
            part.blocks -= leaving
            self._idle_blocks -= leaving
            self._free += leaving
            if not part.blocks:
                del self._idle[part], self._parts[part.prompt]

    def _keep(self, answer: Prompt, last: _Part | None) -> None:
        """Keep what *answer* adds to the prompt that ends with *last*, of which it is one."""
        size = self._block_size
        start = answer.parent.tokens // size if answer.parent is not None else 0
        # An engine never computes the last token that it writes.
        blocks = (answer.tokens - 1) // size - start
        part = self._parts.get(answer)
        if blocks <= 0 or (part is not None and part.users):
            return
        if part is None:
            part = self._parts[answer] = _Part(answer, last, start, answer.tokens // size - start, 0, 0)
        more = max(0, blocks - part.blocks)
        part.blocks += more
        self._free -= more
        self._idle_blocks += more
        self._idle[part] = None
        self._idle.move_to_end(part)
