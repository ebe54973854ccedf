"""
Ways to scrape, each in a process of its own: ``python -m benchmarks.scraping.scraper WAY SECONDS PORT...``.

It prints the scrapes of the seconds that were measured, and the microseconds of CPU that each took.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import aiohttp

from inferencepool import Endpoint, EndpointRegistry
from inferencepool.registry import Staleness
from inferencepool.runtime.scraping import MetricsScraper, ScrapingOptions

_INTERVAL = 0.05
_IDLE_INTERVAL = 1.0


async def _measure(count: Callable[[], int], warm_up: float, seconds: float) -> None:
    await asyncio.sleep(warm_up)
    scrapes, cpu, began = count(), time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    scrapes, cpu, taken = count() - scrapes, time.process_time() - cpu, time.monotonic() - began
    print(scrapes / taken, cpu / taken, cpu / max(scrapes, 1) * 1e6, flush=True)


async def _ours(ports: list[int], seconds: float, idle_interval: float | None) -> None:
    registry = EndpointRegistry(staleness=Staleness())
    registry.set_endpoints(
        Endpoint(namespace="default", pod_name=f"pod-{port}", address="127.0.0.1", port=port) for port in ports
    )
    scraper = MetricsScraper(registry, options=ScrapingOptions(interval=_INTERVAL, idle_interval=idle_interval))
    task = asyncio.create_task(scraper.run())
    await _measure(lambda: scraper.statistics().scrapes, 1 if idle_interval is None else 5, seconds)
    statistics = scraper.statistics()
    assert not statistics.fetch_errors
    assert not any(endpoint.stale for endpoint in statistics.endpoints)
    task.cancel()


async def _aiohttp(ports: list[int], seconds: float) -> None:
    """Ask with aiohttp, a task for each port, and throw the pages away: only fetching is compared."""
    scrapes = 0
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=1)

    async def ask(number: int, port: int) -> None:
        nonlocal scrapes
        due = time.monotonic() + _INTERVAL * number / len(ports)
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + _INTERVAL, time.monotonic())
            async with client.get(f"http://127.0.0.1:{port}/metrics") as response:
                await response.read()
            scrapes += 1

    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:
        tasks = [asyncio.create_task(ask(number, port)) for number, port in enumerate(ports)]
        await _measure(lambda: scrapes, 1, seconds)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def main(way: str, seconds: float, ports: list[int]) -> None:
    """Scrape *ports* for some seconds in one of the ways: ``ours``, ``adaptive`` or ``aiohttp``."""
    if way == "aiohttp":
        asyncio.run(_aiohttp(ports, seconds))
    else:
        asyncio.run(_ours(ports, seconds, _IDLE_INTERVAL if way == "adaptive" else None))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), [int(port) for port in sys.argv[3:]])
