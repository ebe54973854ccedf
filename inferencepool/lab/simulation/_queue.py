"""The requests that wait for a place in an engine's batch."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import final

import attrs

from inferencepool.lab.simulation._cache import HeldBlocks
from inferencepool.lab.simulation._prompt import Prompt

__all__ = ["EngineRequest", "WaitingQueue"]


@attrs.define(eq=False)
class EngineRequest:
    """
    One request in an engine. The engine changes it; others only read.

    Attributes:
        prompt: The prompt.
        output_tokens: Tokens that it is going to write, 1 or more.
        adapter: The LoRA adapter that it needs; empty for none.
        answer: Its prompt with its answer, if later prompts begin with it.
        hit_blocks: Blocks of its prompt that were in the cache when it joined the batch.
        left: Tokens of its prompt that are still to be computed, while it is in the batch.
        first_token_at: When its first token was written.
        finished_at: When it was finished.
        number: Its place among all that the engine got.
        held: The blocks that it holds while it is in the batch.
    """

    prompt: Prompt
    output_tokens: int
    adapter: str = ""
    answer: Prompt | None = None
    hit_blocks: int = 0
    left: int = 0
    first_token_at: float = 0.0
    finished_at: float = 0.0
    number: int = 0
    held: HeldBlocks | None = None


@final
class WaitingQueue:
    """
    First come, first served, but a request whose adapter has no place lets those behind it go first.

    Such requests are put aside, by adapter, so that none is looked at twice while its adapter has no place: taking a
    request costs O(1), or O(adapters put aside). Those put aside came before all that are still in line.

    Not thread-safe.

    Attributes:
        length: Requests that wait.
        adapters: How many of them wait for each adapter.
    """

    def __init__(self, most_adapters: int) -> None:
        """
        Begin empty.

        Args:
            most_adapters: Adapters that may run at the same time.
        """
        self.length = 0
        self._most = most_adapters
        self._line: deque[EngineRequest] = deque()
        self._aside: dict[str, deque[EngineRequest]] = {}
        self.adapters: Counter[str] = Counter()

    def append(self, request: EngineRequest) -> None:
        """Let *request* wait."""
        self._line.append(request)
        self.length += 1
        if request.adapter:
            self.adapters[request.adapter] += 1

    def first(self, running: Mapping[str, int]) -> EngineRequest | None:
        """Give the one to serve next beside the adapters that are *running*; it keeps waiting. None without any."""
        if self._aside:
            fit = [line[0] for adapter, line in self._aside.items() if self._fits(adapter, running)]
            if fit:
                return min(fit, key=lambda request: request.number)
        line = self._line
        while line:
            request = line[0]
            if not request.adapter or self._fits(request.adapter, running):
                return request
            self._aside.setdefault(request.adapter, deque()).append(line.popleft())
        return None

    def remove(self, request: EngineRequest) -> None:
        """Take out *request*, which `first` gave."""
        self.length -= 1
        adapter = request.adapter
        aside = self._aside.get(adapter)
        if aside and aside[0] is request:
            aside.popleft()
            if not aside:
                del self._aside[adapter]
        else:
            self._line.popleft()
        if adapter:
            self.adapters[adapter] -= 1
            if not self.adapters[adapter]:
                del self.adapters[adapter]

    def _fits(self, adapter: str, running: Mapping[str, int]) -> bool:
        return adapter in running or len(running) < self._most
