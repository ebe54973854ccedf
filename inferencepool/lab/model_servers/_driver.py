"""Drives an engine by the event loop's time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from inferencepool.lab.model_servers._engine import Engine, EngineLoad, EngineRequest
from inferencepool.lab.model_servers._options import SimulatorOptions

__all__ = ["EngineDriver", "Generation"]

# An engine whose steps are shorter is looked at this often, in seconds, and then does several steps at once.
_TICK = 0.001


@final
class Generation:
    """An answer that is being written. Used on the event loop's thread."""

    def __init__(self, request: EngineRequest) -> None:
        """Follow *request*."""
        self.request = request
        self.changed = asyncio.Event()
        self.halted = False

    async def progress(self) -> int:
        """Wait until more was written; tell how many tokens there are by now."""
        await self.changed.wait()
        if self.halted:
            await asyncio.Event().wait()
        self.changed.clear()
        return self.request.written


@final
class EngineDriver:
    """An engine that runs while there is an event loop to run it. Used on that loop's thread."""

    def __init__(self, options: SimulatorOptions) -> None:
        """Make an engine of *options*. An event loop must be running."""
        self._loop = asyncio.get_running_loop()
        self._scale = options.time_scale
        self._engine = Engine(options, lambda: self._loop.time() * self._scale)
        self._generations: dict[EngineRequest, Generation] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._looked_at = 0.0
        self._closed = False

    def load(self) -> EngineLoad:
        """Tell the load as of now."""
        return self._engine.load()

    @contextmanager
    def generate(self, *, prompt_tokens: int, output_tokens: int, adapter: str, prompt: bytes) -> Iterator[Generation]:
        """
        Submit a request, and give it up if it is not finished at the end of the block.

        Raises:
            InvalidRequestError: It does not fit into the KV cache.
        """
        request = self._engine.submit(
            prompt_tokens=prompt_tokens, output_tokens=output_tokens, adapter=adapter, prompt=prompt
        )
        generation = self._generations[request] = Generation(request)
        self._arm()
        try:
            yield generation
        finally:
            self._generations.pop(request, None)
            self._engine.cancel(request)

    def close(self) -> None:
        """Stop the clock's calls; generations make no more progress."""
        self._closed = True
        for generation in self._generations.values():
            generation.halted = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._generations.clear()

    def _arm(self) -> None:
        """See to it that the end of the step under way is noticed."""
        step_end = self._engine.next_step_at
        if step_end is None or self._closed:
            return
        at = max(step_end / self._scale, self._looked_at + _TICK)
        if self._timer is not None:
            # After a request was given up, the step that it was in may have ended before its time.
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer = None
        self._looked_at = self._loop.time()
        for request in self._engine.advance():
            if request in self._generations:
                self._generations[request].changed.set()
        self._arm()
