"""Simulated model servers in one process: ``python -m benchmarks.hostile.servers COUNT``. It prints their ports."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from benchmarks.hostile.bodies import MODEL
from inferencepool.lab.model_servers import ModelServerSimulator, SimulatorOptions

# They refuse what is larger without reading it: what the picker does with it is measured, not what they do.
_LARGEST = 64 * 1024


async def _serve(count: int) -> None:
    options = SimulatorOptions.immediate(models=[MODEL], max_body_size=_LARGEST)
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(ModelServerSimulator(options)) for _ in range(count)]
        print(*(server.port for server in servers), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
