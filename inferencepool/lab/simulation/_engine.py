"""
The queueing model of a simulated model server.

It works in steps, as engines with continuous batching and chunked prefill do, and as the model servers of
`inferencepool.lab.model_servers` do. A step takes ``1 / decode_tokens_per_second + tokens / prefill_tokens_per_second``
seconds. In it each request that writes has one token; what is left of the step's tokens goes to prompts, in the order
in which they joined, and only when all of those have theirs do further ones join. So at most one prompt is computed in
part, and it is the one that joined last. The step that ends a prompt writes the first token of its answer.

As long as nobody joins, finishes or ends a prompt, one step is like the next. Such a run of steps is one event: it is
known how many there are and how long they take. So the work for a request does not depend on the length of its answer.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from heapq import heappop, heappush
from math import inf
from typing import final

import attrs

from inferencepool._checks import checked_flag, checked_number, checked_whole_number, refusal
from inferencepool.errors import InvalidRequestError
from inferencepool.lab.simulation._cache import BlockCache, HeldBlocks
from inferencepool.lab.simulation._queue import EngineRequest, WaitingQueue
from inferencepool.model import EndpointMetrics

__all__ = ["EngineOptions", "SimulatedEngine"]

_OWNER = "engine options"
_MANY = 2**62


@attrs.frozen(kw_only=True)
class EngineOptions:
    """
    How fast a simulated engine is and how much it holds.

    The defaults are about those of a model of middle size on one large accelerator.

    Attributes:
        prefill_tokens_per_second: Speed at which tokens are computed when there are many. Above 0.
        decode_tokens_per_second: Speed of a single answer when there is nothing else to do. Above 0.
        max_running_requests: The batch limit: how many requests it works on at a time. At least 1.
        max_step_tokens: How many tokens one step takes in; longer prompts take several steps. At least
            `max_running_requests`.
        kv_blocks: Blocks in the KV cache. At least 1.
        kv_block_size: Tokens in one block. At least 1.
        keeps_prefixes: Whether prompts stay in the cache for others that begin with them.
        max_adapters: LoRA adapters that run at a time; 0 for an engine without any.
        adapter_load_seconds: How much longer a step takes for an adapter that is loaded in it.

    Raises:
        ConfigurationError: A field holds a value that is not allowed; the message names it.
    """

    prefill_tokens_per_second: float = attrs.field(default=16_000.0, validator=checked_number(_OWNER, above=True))
    decode_tokens_per_second: float = attrs.field(default=50.0, validator=checked_number(_OWNER, above=True))
    max_running_requests: int = attrs.field(default=64, validator=checked_whole_number(_OWNER, 1))
    max_step_tokens: int = attrs.field(default=2048, validator=checked_whole_number(_OWNER, 1))
    kv_blocks: int = attrs.field(default=16_384, validator=checked_whole_number(_OWNER, 1))
    kv_block_size: int = attrs.field(default=16, validator=checked_whole_number(_OWNER, 1))
    keeps_prefixes: bool = attrs.field(default=True, validator=checked_flag(_OWNER))
    max_adapters: int = attrs.field(default=4, validator=checked_whole_number(_OWNER, 0))
    adapter_load_seconds: float = attrs.field(default=0.1, validator=checked_number(_OWNER))

    def __attrs_post_init__(self) -> None:
        if self.max_step_tokens < self.max_running_requests:
            allowed = f"max_running_requests, {self.max_running_requests}, or more"
            raise refusal(_OWNER, "max_step_tokens", self.max_step_tokens, f"is not {allowed}")

    @property
    def max_model_tokens(self) -> int:
        """How many tokens a request may have, prompt and answer together: what the KV cache holds."""
        return self.kv_blocks * self.kv_block_size


@final
class SimulatedEngine:
    """
    Simulates a model server, from event to event.

    Nothing happens by itself: whoever drives it calls `advance` at exactly `next_at`, and `submit` and `set_speed` in
    between, in order of time; at the same time `advance` goes first. What comes while a step is under way counts from
    the next step on. A request takes O(log running) for each event of its own, however long it is.

    A request takes the blocks for its prompt and its whole answer when it joins the batch. Engines take those of the
    answer one by one, and put requests back when none is left.

    Not thread-safe.

    Attributes:
        next_at: When the next event happens; infinite while there is nothing to do.
        busy_seconds: How long it has been working, up to the latest event.
        adapter_loads: How often it loaded an adapter.
        begun: The requests that wrote their first token at the latest event.
    """

    def __init__(self, options: EngineOptions) -> None:
        """Begin with nothing to do."""
        self._options = options
        self._most_running, self._most_tokens = options.max_running_requests, options.max_step_tokens
        self._most_in_all = options.max_model_tokens
        self._overhead = 1 / options.decode_tokens_per_second
        self._per_token = 1 / options.prefill_tokens_per_second
        self._speed = 1.0
        self._frozen_at: float | None = None
        self._cache = BlockCache(options.kv_blocks, options.kv_block_size, keeps=options.keeps_prefixes)
        self._queue = WaitingQueue(options.max_adapters)
        self._arrived = 0
        self._running = 0
        self._running_adapters: Counter[str] = Counter()
        self._loaded: OrderedDict[str, None] = OrderedDict()
        # Those that write, by the number of the step that they finish with.
        self._writing: list[tuple[int, int, EngineRequest]] = []
        self._steps_done = 0
        # The run of steps under way: when it began, how many there are, how long one takes, what it does to prompts.
        self._began = 0.0
        self._steps = 0
        self._step_seconds = 0.0
        self._ending: list[EngineRequest] = []
        self._partial: EngineRequest | None = None
        self._partial_tokens = 0
        self._may_join = False
        self._load_seconds = 0.0
        # What was told last; the load in it is out of date.
        self._metrics = EndpointMetrics(
            max_active_models=options.max_adapters,
            cache_block_size=options.kv_block_size,
            cache_num_blocks=options.kv_blocks,
        )
        self.next_at = inf
        self._left = inf
        self.busy_seconds = 0.0
        self.adapter_loads = 0
        self.begun: list[EngineRequest] = []

    @property
    def waiting(self) -> int:
        """Requests that wait for a place in the batch."""
        return self._queue.length

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return self._running

    def submit(self, request: EngineRequest, now: float) -> None:
        """
        Queue *request*.

        Raises:
            InvalidRequestError: It does not fit into the KV cache, or needs an adapter of an engine without any.
        """
        self._check(request)
        self._arrived += 1
        request.number = self._arrived
        self._queue.append(request)
        if self._frozen_at is not None:
            return
        if self.next_at == inf:
            self._begin(now)
        elif self._may_join:
            self._cut(now)

    def freeze(self, now: float) -> None:
        """Do nothing any more until `thaw`; what comes waits."""
        if self._frozen_at is None:
            self._frozen_at, self._left, self.next_at = now, self.next_at - now, inf

    def thaw(self, now: float) -> None:
        """Go on where `freeze` found it."""
        if self._frozen_at is None:
            return
        self._began += now - self._frozen_at
        self._frozen_at = None
        self.next_at = now + self._left
        if self.next_at == inf:
            self._begin(now)
        elif self._may_join:
            self._cut(now)

    def set_speed(self, speed: float, now: float) -> None:
        """Be *speed* times as fast as the options say, from the next step on; above 0."""
        if self.next_at < inf:
            self._cut(now)
        self._speed = speed

    def advance(self) -> list[EngineRequest]:
        """Do what happens at `next_at`; give the requests that finished."""
        now = self.next_at
        self.busy_seconds += now - self._began
        self._steps_done += self._steps
        partial = self._partial
        if partial is not None:
            partial.left -= self._steps * self._partial_tokens
            if not partial.left:
                self._ending.append(partial)
                self._partial = None
        writing, done = self._writing, self._steps_done
        finished: list[EngineRequest] = []
        self.begun, self._ending = self._ending, []
        for request in self.begun:
            request.first_token_at = now
            heappush(writing, (done + request.output_tokens - 1, request.number, request))
        while writing and writing[0][0] == done:
            finished.append(heappop(writing)[2])
        for request in finished:
            request.finished_at = now
            self._leave(request)
        self._begin(now)
        return finished

    def metrics(self, observed_at: float) -> EndpointMetrics:
        """Tell the load as its metrics page would."""
        metrics, running, waiting = self._metrics, self._running_adapters.keys(), self._queue.adapters.keys()
        if metrics.active_models != running or metrics.waiting_models != waiting:
            metrics = self._metrics = attrs.evolve(metrics, active_models=running, waiting_models=waiting)
        usage = self._cache.held_blocks / self._options.kv_blocks
        return metrics.with_load(self._queue.length, self._running, usage, observed_at)

    def _check(self, request: EngineRequest) -> None:
        tokens = request.prompt.tokens + request.output_tokens
        if tokens > self._most_in_all:
            message = f"prompt and answer have {tokens} tokens, allowed are at most {self._most_in_all}"
            raise InvalidRequestError(message)
        if request.adapter and not self._options.max_adapters:
            message = f"adapter {request.adapter!r}: the engine runs none"
            raise InvalidRequestError(message)

    def _begin(self, now: float) -> None:
        """Begin the next run of steps, if there is anything to do."""
        writing, partial = self._writing, self._partial
        budget = self._most_tokens - len(writing)
        steps = _MANY
        if partial is not None:
            if partial.left > budget:
                steps = partial.left // budget
                self._partial_tokens, budget = budget, 0
            else:
                budget -= partial.left
                self._ending.append(partial)
                self._partial = None
        self._may_join = budget > 0 and self._running < self._most_running
        if self._may_join and self._queue.length:
            budget = self._admit(budget)
        if not self._running:
            self.next_at = inf
            return
        if self._ending or self._partial is not partial:
            steps = 1
        elif writing:
            steps = min(steps, writing[0][0] - self._steps_done)
        seconds = (self._overhead + (self._most_tokens - budget) * self._per_token + self._load_seconds) / self._speed
        self._load_seconds = 0.0
        self._began, self._steps, self._step_seconds = now, steps, seconds
        self.next_at = now + steps * seconds

    def _admit(self, budget: int) -> int:
        """Let requests of the queue join, in order; give what is left of *budget*."""
        queue, adapters, most = self._queue, self._running_adapters, self._most_running
        while queue.length and budget and self._running < most:
            request = queue.first(adapters)
            if request is None:
                return budget
            held = self._cache.hold(request.prompt, request.output_tokens)
            if held is None:
                # Nobody can join before somebody leaves.
                self._may_join = False
                return budget
            queue.remove(request)
            self._join(request, held)
            if request.left <= budget:
                budget -= request.left
                self._ending.append(request)
            else:
                self._partial, self._partial_tokens, budget = request, budget, 0
        self._may_join = budget > 0 and self._running < most
        return budget

    def _join(self, request: EngineRequest, held: HeldBlocks) -> None:
        size, prompt_tokens = self._options.kv_block_size, request.prompt.tokens
        request.held, request.hit_blocks = held, held.hits
        # The last token of a prompt is computed even if it is in the cache: the answer begins with what comes of it.
        request.left = prompt_tokens - min(held.hits, (prompt_tokens - 1) // size) * size
        self._running += 1
        if request.adapter:
            self._running_adapters[request.adapter] += 1
            self._load(request.adapter)

    def _load(self, adapter: str) -> None:
        """Load *adapter* if it is not there, in the place of the one that was not used for longest."""
        loaded = self._loaded
        if adapter not in loaded:
            self.adapter_loads += 1
            self._load_seconds += self._options.adapter_load_seconds
            if len(loaded) == self._options.max_adapters:
                del loaded[next(other for other in loaded if other not in self._running_adapters)]
        loaded[adapter] = None
        loaded.move_to_end(adapter)

    def _leave(self, request: EngineRequest) -> None:
        self._running -= 1
        adapter = request.adapter
        if adapter:
            self._running_adapters[adapter] -= 1
            if not self._running_adapters[adapter]:
                del self._running_adapters[adapter]
        if request.held is not None:
            self._cache.release(request.held, request.answer)
            request.held = None

    def _cut(self, now: float) -> None:
        """Let the run of steps under way end with the step under way."""
        steps = int((now - self._began) / self._step_seconds) + 1
        if steps < self._steps:
            self._steps = steps
            self.next_at = self._began + steps * self._step_seconds
