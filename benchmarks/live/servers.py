"""Simulated model servers in one process: ``python -m benchmarks.live.servers CASE``. It prints their addresses."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from benchmarks.live.cases import CASES
from inferencepool.cli._collector import calm_collector
from inferencepool.lab.model_servers import ModelServerSimulator


async def _serve(case: str) -> None:
    async with AsyncExitStack() as stack:
        options = CASES[case].servers()
        servers = [await stack.enter_async_context(ModelServerSimulator(each)) for each in options]
        print(*(server.address for server in servers), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    with calm_collector():
        asyncio.run(_serve(sys.argv[1]))
