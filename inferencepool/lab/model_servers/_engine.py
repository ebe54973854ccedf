"""
The queueing model of a simulated model server: steps, batches and blocks, without any I/O.

It works as engines with continuous batching and chunked prefill do. In every step each request of the batch gets the
tokens that are not in the KV cache yet, as far as the step's limit goes: the next part of its prompt, or the one token
that it wrote in the step before. A request whose tokens are all in the cache after a step has written one more. Those
that wait join at the beginning of a step, in order, while there is room in the batch and in the cache. When the cache
is full, the request that joined last loses its blocks and goes back to the front of the queue.

Prompts are remembered from the step on that computes the last of their tokens, also for those that join after them in
the same step, as engines do. A request that joins has as many of its tokens in the KV cache at once as its prompt
begins with whole blocks of one that is remembered; the last token is computed all the same, since the answer begins
with what comes of it. Room is that of the requests alone: what is remembered takes none of it, and may have as many
blocks again. What was used longest ago is forgotten first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from math import ceil
from typing import final

import attrs

from inferencepool.errors import InvalidRequestError
from inferencepool.lab.model_servers._options import SimulatorOptions
from inferencepool.prefix import PrefixTree

__all__ = ["BYTES_PER_TOKEN", "Engine", "EngineLoad", "EngineRequest"]

BYTES_PER_TOKEN = 4
"""A rule of thumb for English text; and what a token id takes in a prompt."""

# The one slot of the index of prompts: that of the engine itself.
_HERE = 0
# What the prompts that are remembered may take, in bytes.
_MOST_BYTES = 64 * 2**20


@attrs.define(eq=False)
class EngineRequest:
    """
    One request in an engine. The engine changes it; others only read.

    Attributes:
        prompt_tokens: Length of its prompt.
        output_tokens: How many tokens it is going to write.
        adapter: The LoRA adapter it needs; empty for none.
        prompt: The prompt itself, `BYTES_PER_TOKEN` for each token; empty for one that is like no other.
        cached: Tokens of the prompt that were remembered when it joined the batch.
        written: Tokens that it has written.
        computed: Tokens of prompt and answer that are in the KV cache.
        submitted_at: When it came, in seconds of the engine's clock.
        joined_at: When it joined the batch, the last time if it had to do so again.
        began_at: When it wrote its first token.
    """

    prompt_tokens: int
    output_tokens: int
    adapter: str = ""
    prompt: bytes = attrs.field(default=b"", repr=False)
    cached: int = 0
    written: int = 0
    computed: int = 0
    submitted_at: float = 0.0
    joined_at: float = 0.0
    began_at: float = 0.0
    # Tokens that the step under way computes, and blocks that are held.
    step_tokens: int = 0
    blocks: int = 0

    @property
    def finished(self) -> bool:
        """Whether it has written everything."""
        return self.written == self.output_tokens


@attrs.frozen(kw_only=True)
class EngineLoad:
    """
    What an engine tells about itself.

    Attributes:
        waiting: Requests in the queue.
        running: Requests in the batch.
        kv_usage: Used share of the KV cache, 0 to 1.
        waiting_adapters: LoRA adapters of requests in the queue, in order.
        running_adapters: LoRA adapters of requests in the batch, in order.
        prompt_tokens: Tokens of all prompts that were computed so far.
        generation_tokens: Tokens written so far.
        finished: Requests finished so far.
        canceled: Requests given up by their clients so far.
        preemptions: How often a request lost its place because the KV cache was full.
        prefix_queries: Tokens of all prompts of which it was asked how many are remembered.
        prefix_hits: How many of them were.
    """

    waiting: int
    running: int
    kv_usage: float
    waiting_adapters: tuple[str, ...]
    running_adapters: tuple[str, ...]
    prompt_tokens: int
    generation_tokens: int
    finished: int
    canceled: int
    preemptions: int
    prefix_queries: int
    prefix_hits: int


@final
class Engine:
    """
    Simulates the steps of a model server, as far as the clock has come.

    Nothing happens by itself: whoever drives it calls `advance` at `next_step_at` or later. What happens, and at which
    time of the clock, does not depend on how late that is. Not thread-safe: one thread drives it.
    """

    def __init__(self, options: SimulatorOptions, clock: Callable[[], float]) -> None:
        """
        Begin with nothing to do.

        Args:
            options: Speeds and sizes; the time scale is left to the clock.
            clock: Simulated seconds.
        """
        self._options = options
        self._clock = clock
        self._waiting: deque[EngineRequest] = deque()
        # In the order in which they joined.
        self._running: dict[EngineRequest, None] = {}
        self._free_blocks = options.kv_blocks
        self._step_end: float | None = None
        self._progressed: dict[EngineRequest, None] = {}
        self._prompt_tokens = self._generation_tokens = 0
        self._finished = self._canceled = self._preemptions = 0
        self._prefix_queries = self._prefix_hits = 0
        self._prompts: PrefixTree | None = None
        if options.keeps_prefixes:
            size = options.kv_block_size * BYTES_PER_TOKEN
            self._prompts = PrefixTree(block_size=size, capacity=options.kv_blocks, max_bytes=_MOST_BYTES)

    @property
    def next_step_at(self) -> float | None:
        """When the step under way ends, in seconds of the clock; None when there is nothing to do."""
        return self._step_end

    def submit(
        self, *, prompt_tokens: int, output_tokens: int, adapter: str = "", prompt: bytes = b""
    ) -> EngineRequest:
        """
        Queue a request.

        Args:
            prompt_tokens: Length of the prompt, 1 or more.
            output_tokens: How many tokens to write, 1 or more.
            adapter: The LoRA adapter it needs; empty for none.
            prompt: The prompt itself, `BYTES_PER_TOKEN` for each token, so that others that begin alike need less
                computing; empty for one that is like no other.

        Raises:
            InvalidRequestError: A count is below 1, or prompt and answer together do not fit into the KV cache.
        """
        most = self._options.max_model_tokens
        if prompt_tokens < 1 or output_tokens < 1 or prompt_tokens + output_tokens > most:
            message = (
                f"model server simulator: request with {prompt_tokens} prompt tokens and {output_tokens} output tokens:"
                f" each must be 1 or more, and together they must not exceed {most}"
            )
            raise InvalidRequestError(message)
        self._catch_up()
        request = EngineRequest(prompt_tokens, output_tokens, adapter, prompt)
        request.submitted_at = self._clock()
        self._waiting.append(request)
        if self._step_end is None:
            self._begin_step(request.submitted_at)
        return request

    def cancel(self, request: EngineRequest) -> None:
        """Give *request* up: its place and its blocks are free from the next step on. No effect when it is over."""
        self._catch_up()
        if request in self._waiting:
            self._waiting.remove(request)
        elif request in self._running:
            del self._running[request]
            self._free(request)
        else:
            return
        self._progressed.pop(request, None)
        self._canceled += 1
        if not self._running and not self._waiting:
            self._step_end = None

    def advance(self) -> list[EngineRequest]:
        """Do all steps that have ended by now; give the requests that have written since the last call, in order."""
        self._catch_up()
        progressed = list(self._progressed)
        self._progressed.clear()
        return progressed

    def load(self) -> EngineLoad:
        """Tell the load as of now."""
        self._catch_up()
        blocks = self._options.kv_blocks
        return EngineLoad(
            waiting=len(self._waiting),
            running=len(self._running),
            kv_usage=(blocks - self._free_blocks) / blocks,
            waiting_adapters=_adapters_of(self._waiting),
            running_adapters=_adapters_of(self._running),
            prompt_tokens=self._prompt_tokens,
            generation_tokens=self._generation_tokens,
            finished=self._finished,
            canceled=self._canceled,
            preemptions=self._preemptions,
            prefix_queries=self._prefix_queries,
            prefix_hits=self._prefix_hits,
        )

    def _catch_up(self) -> None:
        now = self._clock()
        while self._step_end is not None and self._step_end <= now:
            ended = self._step_end
            self._end_step(ended)
            self._begin_step(ended)

    def _end_step(self, now: float) -> None:
        for request in self._running:
            request.computed += request.step_tokens
            if request.step_tokens and request.computed == request.prompt_tokens + request.written:
                if not request.written:
                    self._prompt_tokens += request.prompt_tokens
                    request.began_at = now
                request.written += 1
                self._generation_tokens += 1
                self._progressed[request] = None
            request.step_tokens = 0
        for request in [each for each in self._running if each.finished]:
            del self._running[request]
            self._free(request)
            self._finished += 1

    def _begin_step(self, start: float) -> None:
        if not self._running and not self._waiting:
            self._step_end = None
            return
        options = self._options
        preemptions = self._preemptions
        budget = self._continue_batch(options.max_step_tokens)
        # Whoever joined after a preemption would take the blocks that were just freed for others.
        if preemptions == self._preemptions:
            budget = self._admit(budget, start)
        tokens = options.max_step_tokens - budget
        seconds = 1 / options.decode_tokens_per_second + tokens / options.prefill_tokens_per_second
        self._step_end = start + seconds

    def _continue_batch(self, budget: int) -> int:
        """Give tokens of the step to the requests of the batch; give what is left of *budget*."""
        for request in tuple(self._running):
            # One that was preempted for a request before it is in the queue again.
            if request in self._running:
                budget -= self._grant(request, budget, preempt=True)
        return budget

    def _admit(self, budget: int, now: float) -> int:
        """Let requests of the queue join, in order; give what is left of *budget*."""
        options = self._options
        adapters = {request.adapter for request in self._running if request.adapter}
        passed_over: list[EngineRequest] = []
        while self._waiting and budget and len(self._running) < options.max_running_requests:
            request = self._waiting.popleft()
            needed = {request.adapter} - {""}
            if len(adapters | needed) > options.max_adapters:
                passed_over.append(request)
                continue
            self._recall(request)
            tokens = self._grant(request, budget, preempt=False)
            if not tokens:
                passed_over.append(request)
                break
            self._prefix_queries += request.prompt_tokens if self._prompts is not None else 0
            self._prefix_hits += request.cached
            self._running[request] = None
            request.joined_at = now
            adapters |= needed
            budget -= tokens
        self._waiting.extendleft(reversed(passed_over))
        return budget

    def _recall(self, request: EngineRequest) -> None:
        """Let *request* begin after the blocks of its prompt that are remembered."""
        if self._prompts is not None:
            size = self._options.kv_block_size
            known = self._prompts.match(request.prompt, request.adapter).blocks(_HERE)
            request.cached = request.computed = min(known, (request.prompt_tokens - 1) // size) * size

    def _remember(self, request: EngineRequest) -> None:
        """Remember the prompt of *request*, of which the last tokens are computed now."""
        if self._prompts is not None:
            self._prompts.insert(self._prompts.match(request.prompt, request.adapter), _HERE)

    def _grant(self, request: EngineRequest, budget: int, *, preempt: bool) -> int:
        """Give *request* its tokens of the step and the blocks for them; give how many tokens, 0 for no room."""
        tokens = min(request.prompt_tokens + request.written - request.computed, budget)
        needed = ceil((request.computed + tokens) / self._options.kv_block_size) - request.blocks
        while needed > self._free_blocks:
            if not preempt:
                return 0
            # The last one has not got its tokens of this step yet: the batch is served in order.
            last = next(reversed(self._running))
            self._preempt(last)
            if last is request:
                return 0
        self._free_blocks -= needed
        request.blocks += needed
        request.step_tokens = tokens
        if request.computed + tokens == request.prompt_tokens:
            self._remember(request)
        return tokens

    def _preempt(self, request: EngineRequest) -> None:
        del self._running[request]
        self._free(request)
        self._waiting.appendleft(request)
        self._preemptions += 1

    def _free(self, request: EngineRequest) -> None:
        self._free_blocks += request.blocks
        request.blocks = request.computed = request.step_tokens = 0


def _adapters_of(requests: Iterable[EngineRequest]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(request.adapter for request in requests if request.adapter))
