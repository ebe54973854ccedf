"""The simulated engine as it is defined: block by block, and one step after the other."""

from __future__ import annotations

from math import ceil

import attrs

from inferencepool.lab.simulation import EngineOptions, EngineRequest, Prompt

__all__ = ["BlockByBlock", "StepByStep"]

# A block of tokens: the prompt that ends it, and its place in that prompt.
Block = tuple[Prompt, int]


def blocks_of(prompt: Prompt, size: int) -> list[Block]:
    """List the blocks that *prompt* fills, each with the part in which it ends."""
    found: list[Block] = []
    for part in prompt.lineage():
        found += [(part, index) for index in range(len(found), part.tokens // size)]
    return found


@attrs.define(eq=False)
class BlockByBlock:
    """A KV cache that counts users of every block and keeps those without any in the order they were let go."""

    blocks: int
    size: int
    users: dict[Block, int] = attrs.field(factory=dict)
    idle: list[Block] = attrs.field(factory=list)
    own: int = 0

    @property
    def held(self) -> int:
        """Count the blocks that requests hold."""
        return self.own + len(self.users) - len(self.idle)

    def find(self, prompt: Prompt) -> int:
        """Count the blocks from the beginning of *prompt* that are there."""
        found = 0
        for block in blocks_of(prompt, self.size):
            if block not in self.users:
                break
            found += 1
        return found

    def hold(self, prompt: Prompt, output_tokens: int) -> tuple[int, int] | None:
        """Give the hits and the blocks of its own; None without room."""
        filled = blocks_of(prompt, self.size)
        own = ceil((prompt.tokens + output_tokens) / self.size) - len(filled)
        hits = self.find(prompt)
        need = len(filled) - hits + own
        reusable = [block for block in self.idle if block not in filled[:hits]]
        free = self.blocks - self.own - len(self.users)
        if need > free + len(reusable):
            return None
        for block in filled[:hits]:
            if not self.users[block]:
                self.idle.remove(block)
            self.users[block] += 1
        for _ in range(need - free):
            del self.users[self.idle.pop(0)]
        for block in filled[hits:]:
            assert block not in self.users
            self.users[block] = 1
        self.own += own
        return hits, own

    def release(self, prompt: Prompt, own: int, answer: Prompt | None) -> None:
        """Let go of *prompt*, and keep *answer*."""
        filled = blocks_of(prompt, self.size)
        self.own -= own
        if answer is not None:
            self._keep(blocks_of(answer, self.size)[len(filled) : (answer.tokens - 1) // self.size], answer)
        for block in reversed(filled):
            self.users[block] -= 1
            if not self.users[block]:
                self.idle.append(block)

    def _keep(self, written: list[Block], answer: Prompt) -> None:
        there = [block for block in self.users if block[0] is answer]
        if any(self.users[block] for block in there) or not written:
            return
        kept = sorted({*written, *there}, key=lambda block: -block[1])
        self.idle = [block for block in self.idle if block not in kept] + kept
        self.users |= dict.fromkeys(kept, 0)


@attrs.define(eq=False)
class _Running:
    request: EngineRequest
    left: int
    own: int
    written: int = 0
    tokens: int = 0


@attrs.define(eq=False)
class StepByStep:
    """An engine that does every step by itself."""

    options: EngineOptions
    cache: BlockByBlock = attrs.field(init=False)
    waiting: list[EngineRequest] = attrs.field(factory=list)
    running: list[_Running] = attrs.field(factory=list)
    loaded: list[str] = attrs.field(factory=list)
    step_end: float | None = None
    began: float = 0.0
    speed: float = 1.0
    busy_seconds: float = 0.0
    # What became of each request: hits, first token, end.
    hits: dict[EngineRequest, int] = attrs.field(factory=dict)
    first_token_at: dict[EngineRequest, float] = attrs.field(factory=dict)
    finished_at: dict[EngineRequest, float] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.cache = BlockByBlock(self.options.kv_blocks, self.options.kv_block_size)

    def submit(self, request: EngineRequest, now: float) -> None:
        """Queue *request*, after all steps that end by *now*."""
        self.run_until(now)
        self.waiting.append(request)
        if self.step_end is None:
            self._begin(now)

    def set_speed(self, speed: float, now: float) -> None:
        """Be that fast from the next step on."""
        self.run_until(now)
        self.speed = speed

    def run_until(self, now: float) -> None:
        """Do all steps that end by *now*."""
        while self.step_end is not None and self.step_end <= now:
            ended = self.step_end
            self.busy_seconds += ended - self.began
            self._end(ended)
            self._begin(ended)

    def _end(self, now: float) -> None:
        for each in list(self.running):
            if each.left:
                each.left -= each.tokens
                if each.left:
                    continue
                self.first_token_at[each.request] = now
            each.written += 1
            if each.written == each.request.output_tokens:
                self.finished_at[each.request] = now
                self.running.remove(each)
                self.cache.release(each.request.prompt, each.own, each.request.answer)

    def _begin(self, now: float) -> None:
        budget = self.options.max_step_tokens
        for each in self.running:
            each.tokens = min(budget, each.left or 1)
            budget -= each.tokens
        budget, loads = self._admit(budget)
        if not self.running:
            self.step_end = None
            return
        tokens = self.options.max_step_tokens - budget
        seconds = 1 / self.options.decode_tokens_per_second + tokens / self.options.prefill_tokens_per_second
        self.began = now
        self.step_end = now + (seconds + loads * self.options.adapter_load_seconds) / self.speed

    def _admit(self, budget: int) -> tuple[int, int]:
        loads = 0
        for request in list(self.waiting):
            if not budget or len(self.running) == self.options.max_running_requests:
                break
            adapters = {each.request.adapter for each in self.running} - {""}
            if request.adapter and len(adapters | {request.adapter}) > self.options.max_adapters:
                continue
            got = self.cache.hold(request.prompt, request.output_tokens)
            if got is None:
                break
            self.waiting.remove(request)
            self.hits[request], own = got
            size = self.options.kv_block_size
            left = request.prompt.tokens - min(got[0], (request.prompt.tokens - 1) // size) * size
            joined = _Running(request, left, own, tokens=min(left, budget))
            budget -= joined.tokens
            self.running.append(joined)
            loads += self._load(request.adapter, adapters)
        return budget, loads

    def _load(self, adapter: str, running: set[str]) -> bool:
        if not adapter:
            return False
        is_new = adapter not in self.loaded
        if is_new and len(self.loaded) == self.options.max_adapters:
            self.loaded.remove(next(other for other in self.loaded if other not in running))
        if not is_new:
            self.loaded.remove(adapter)
        self.loaded.append(adapter)
        return is_new
