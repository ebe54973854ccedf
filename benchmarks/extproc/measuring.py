"""CPU of the endpoint picker's process, for each request that goes through Envoy."""

from __future__ import annotations

import asyncio
import copy
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

import attrs

from benchmarks.extproc.ours import address
from benchmarks.extproc.traffic import Upstream, json_body, run_load
from benchmarks.measure import Row
from inferencepool import Endpoint, InferencePool
from inferencepool.gateway import EnvoyOptions, HostPort, render_envoy
from inferencepool.lab.envoy import EnvoyProcess

__all__ = ["measure_extproc"]

ENDPOINTS = 100
CONCURRENCY = 32
ROUNDS = 7

_FEW_CHUNKS, _MANY_CHUNKS = 10, 1000


@attrs.frozen
class _Setup:
    """A picker's process, with an Envoy in front of it."""

    name: str
    process: asyncio.subprocess.Process
    port: int

    async def cost(self, body: bytes, requests: int, concurrency: int = CONCURRENCY) -> float:
        """Send requests, and give the microseconds of CPU that the picker's process took for each."""
        before = self.cpu()
        wrong = await run_load(self.port, body, requests=requests, concurrency=concurrency)
        if wrong:
            message = f"{self.name}: {wrong} of {requests} requests went wrong"
            raise RuntimeError(message)
        return (self.cpu() - before) / requests

    def cpu(self) -> float:
        """Give the microseconds that all threads of the process ran."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1000

    def memory(self) -> int:
        """Give the resident memory of the process, in KiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def measure_extproc() -> Iterator[Row]:
    """Measure our picker and the baseline in turns, behind Envoy."""
    yield from asyncio.run(_measure())


async def _measure() -> list[Row]:
    async with AsyncExitStack() as stack:
        upstream = Upstream()
        port = await upstream.start()
        stack.callback(upstream.stop)
        ours = await stack.enter_async_context(_setup("ours", port))
        baseline = await stack.enter_async_context(_setup("grpc.aio", port))
        rows = [
            await _against_baseline("1 KB chat", 1000, 3000, ours, baseline, 0.5),
            await _against_baseline("32 KB chat", 32_000, 1500, ours, baseline, 0.7),
            await _against_baseline("400 KB chat", 400_000, 100, ours, baseline, None, most=5000),
        ]
        rows.append(await _memory(ours))
    rows += [
        *await _kept(),
        await _chunks("off", "auto", 1),
        await _chunks("body in full duplex", "keep", 20),
        await _chunks("body in full duplex, with usage", "usage", 30),
        await _restored(),
    ]
    return rows


async def _kept() -> list[Row]:
    """Measure requests with full duplex both ways and a short answer: the stream kept to its end, and ended before."""
    async with AsyncExitStack() as stack:
        upstream = Upstream(5)
        port = await upstream.start()
        stack.callback(upstream.stop)
        ours = await stack.enter_async_context(_setup("ours", port, "keep"))
        early = await stack.enter_async_context(_setup("ours", port, "end"))
        baseline = await stack.enter_async_context(_setup("grpc.aio", port, "keep"))
        return [
            await _against_baseline("1 KB chat, kept for 5 chunks in full duplex", 1000, 1500, ours, baseline, 0.5),
            await _against_baseline("1 KB chat, price of keeping it for 5 chunks", 1000, 1500, ours, early, None),
        ]


async def _against_baseline(
    name: str, size: int, requests: int, ours: _Setup, baseline: _Setup, limit: float | None, most: float | None = None
) -> Row:
    """Measure *ours* in turns with *baseline*: at most *limit* times as much, or *most* microseconds."""
    body = json_body(size)
    own, other = [], []
    for setup in (ours, baseline):
        await setup.cost(body, requests // 3)
    for _ in range(ROUNDS):
        own.append(await ours.cost(body, requests))
        other.append(await baseline.cost(body, requests))
    ratio = median(a / b for a, b in zip(own, other, strict=True))
    target, met = "", None
    if limit is not None:
        target, met = f"<= {limit:g} x", ratio <= limit
    elif most is not None:
        target, met = f"<= {most / 1000:g} ms", median(own) <= most
    return Row(
        f"ext_proc, {name}, n={ENDPOINTS}",
        f"{median(own):.0f} µs CPU",
        f"{baseline.name} {median(other):.0f} µs CPU",
        f"{ratio:.2f}",
        target,
        met,
    )


async def _memory(setup: _Setup) -> Row:
    body = json_body(1000)
    await setup.cost(body, 10_000)
    before = setup.memory()
    await setup.cost(body, 90_000)
    after = setup.memory()
    return Row(
        "ext_proc, memory after 90,000 requests more",
        f"{after / 1024:.1f} MiB",
        f"before {before / 1024:.1f} MiB",
        f"{after / before:.2f}",
        "<= 1.1 x",
        after <= 1.1 * before,
    )


async def _chunks(name: str, phase: str, limit: float) -> Row:
    """Measure what a chunk of a streamed response costs."""
    few, each = await _cost_of_chunks(phase)
    return Row(
        f"ext_proc, streamed response, response phase {name}",
        f"{each:.2f} µs CPU/chunk",
        f"{few:.0f} µs CPU for {_FEW_CHUNKS} chunks",
        "",
        f"<= {limit:g} µs",
        each <= limit,
    )


async def _restored() -> Row:
    """Measure what a chunk costs in which the client's model is put back, against one that stays as it is."""
    _, each = await _cost_of_chunks("rewrite", names_model=True)
    _, unchanged = await _cost_of_chunks("keep", names_model=True)
    return Row(
        "ext_proc, streamed response, the client's model put back",
        f"{each:.2f} µs CPU/chunk",
        f"unchanged {unchanged:.2f} µs CPU/chunk",
        f"{each / unchanged:.2f}",
    )


async def _cost_of_chunks(phase: str, *, names_model: bool = False) -> tuple[float, float]:
    """
    Measure a streamed response of many chunks against one of a few.

    Returns:
        What the one of a few costs, and the difference for each chunk, in microseconds.
    """
    few, many = [], []
    async with AsyncExitStack() as stack:
        setups = []
        for count in (_FEW_CHUNKS, _MANY_CHUNKS):
            upstream = Upstream(count, names_model=names_model)
            port = await upstream.start()
            stack.callback(upstream.stop)
            setups.append(await stack.enter_async_context(_setup("ours", port, phase)))
        body = json_body(1000)
        for _ in range(5):
            few.append(await setups[0].cost(body, 8, 4))
            many.append(await setups[1].cost(body, 8, 4))
    each = median(b - a for a, b in zip(few, many, strict=True)) / (_MANY_CHUNKS - _FEW_CHUNKS)
    return median(few), each


@asynccontextmanager
async def _setup(kind: str, port: int, phase: str = "auto") -> AsyncIterator[_Setup]:
    """Start a picker's process and an Envoy in front of it; the endpoints listen at *port*."""
    module = "benchmarks.extproc.ours" if kind == "ours" else "benchmarks.extproc.baseline"
    name = "ended early" if phase == "end" else kind
    arguments = [str(ENDPOINTS), str(port), phase] if kind == "ours" else [f"{address(0)}:{port}"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        epp = int(await process.stdout.readline())
        async with EnvoyProcess(_bootstrap(port, epp, full_duplex=phase != "auto")) as envoy:
            listening = next(iter(envoy.listeners.values()))
            yield _Setup(name, process, int(listening.rpartition(":")[2]))
    finally:
        process.kill()
        await process.wait()


def _bootstrap(port: int, epp: int, *, full_duplex: bool) -> dict[str, Any]:
    pool = InferencePool(name="pool", selector={"app": "llama"}, target_ports=[port])
    endpoints = [
        Endpoint(namespace="default", pod_name=f"pod-{index}", address=address(index), port=port)
        for index in range(ENDPOINTS)
    ]
    options = EnvoyOptions(
        listen=HostPort("127.0.0.1", 0), epp_address=HostPort("127.0.0.1", epp), epp_tls=False, usage=full_duplex
    )
    document = copy.deepcopy(render_envoy(pool, endpoints, options))
    if full_duplex:
        _set_body_mode(document)
    return document


def _set_body_mode(node: Any) -> None:
    """Have response bodies sent in full duplex, as gateways do that offer nothing else."""
    if isinstance(node, dict):
        if "response_body_mode" in node:
            node["response_body_mode"] = "FULL_DUPLEX_STREAMED"
        for child in node.values():
            _set_body_mode(child)
    elif isinstance(node, list):
        for child in node:
            _set_body_mode(child)
