"""Four model servers, `inferencepool serve` and a real Envoy, each in a process of its own, and their clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Final, final

import aiohttp
import attrs

from inferencepool import Endpoint, FailureMode, InferencePool
from inferencepool.gateway import EnvoyOptions, HostPort, render_envoy
from inferencepool.lab.envoy import Admin, EnvoyProcess
from inferencepool.model import EndpointPickerRef

__all__ = ["FAULTS", "LOADS", "MODEL", "Sent", "Stack", "running"]

FAULTS: Final = ("dies", "hangs", "stuck", "slow", "500", "429", "404", "adapter")
"""What becomes of the first server: killed, stopped (SIGSTOP), or what it is told by its standard input."""
LOADS: Final[dict[str, float]] = {"20/s": 20.0, "60/s": 60.0, "8 clients": 0.0}
"""Requests a second; 0 for clients that send the next one when the last one is answered."""

MODEL: Final = "llama-3"
SERVERS: Final = 4
_CLIENTS: Final = 8
_HOST: Final = "127.0.0.1"
# Clients wait no longer.
_TIMEOUT: Final = 5.0
_FIRST_ERROR: Final = 400


@attrs.frozen
class Sent:
    """A request: when it was sent, in seconds of the clock, its model, whether it failed, and who answered, by port."""

    at: float
    model: str
    failed: bool
    server: str


@final
@attrs.define(eq=False)
class Stack:
    """
    What runs.

    Attributes:
        url: Where Envoy listens.
        servers: Addresses of the model servers; the first one falls ill.
        sent: The requests that are over.
    """

    url: str
    servers: list[str]
    _admin: Admin
    _first: Process
    _resources: AsyncExitStack
    _timeout: float
    _models: Sequence[str]
    sent: list[Sent] = attrs.field(factory=list)
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set)

    async def fall_ill(self, fault: str) -> None:
        """Begin a fault."""
        if fault == "dies":
            self._first.kill()
            await self._first.wait()
        elif fault == "hangs":
            self._first.send_signal(signal.SIGSTOP)
        else:
            await self._tell(fault)

    async def recover(self, fault: str) -> None:
        """End it."""
        if fault == "dies":
            port = int(self.servers[0].rpartition(":")[2])
            self._first, _ = await self._resources.enter_async_context(_server(port))
        elif fault == "hangs":
            self._first.send_signal(signal.SIGCONT)
        else:
            await self._tell("")

    async def _tell(self, line: str) -> None:
        assert self._first.stdin is not None
        self._first.stdin.write(f"{line}\n".encode())
        await self._first.stdin.drain()

    async def asked(self) -> dict[str, int]:
        """Tell how many requests Envoy sent, or tried to send, to each server, by port."""
        _, text = await self._admin.get("/clusters", format="json")
        numbers: dict[str, int] = {}
        for cluster in json.loads(text)["cluster_statuses"]:
            for host in cluster.get("host_statuses", ()):
                port = str(host["address"].get("socket_address", {}).get("port_value"))
                told = {each["name"]: int(each.get("value", 0)) for each in host["stats"]}
                numbers[port] = numbers.get(port, 0) + told["rq_total"] + told["cx_connect_fail"]
        return {server: numbers[server.rpartition(":")[2]] for server in self.servers}

    async def load(self, rate: float, seconds: float, seed: int) -> None:
        """Send requests for some seconds, and wait for what is under way."""
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        end, rng = monotonic() + seconds, Random(seed)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
            if not rate:
                await asyncio.gather(*(self._client(session, rng, end) for _ in range(_CLIENTS)))
                return
            due = monotonic()
            while (due := due + rng.expovariate(rate)) < end:
                await asyncio.sleep(max(0.0, due - monotonic()))
                task = asyncio.create_task(self._send(session, rng))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            while self._tasks:
                await asyncio.wait(self._tasks)

    async def _client(self, session: aiohttp.ClientSession, rng: Random, end: float) -> None:
        while monotonic() < end:
            await self._send(session, rng)

    async def _send(self, session: aiohttp.ClientSession, rng: Random) -> None:
        began, failed, server = monotonic(), True, ""
        prompt = "".join(rng.choices("abcdefgh ", k=200))
        model = rng.choice(self._models)
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": prompt}]}
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with session.post(self.url, json=body) as response:
                server = response.headers.get("x-server", "")
                await response.read()
                failed = response.status >= _FIRST_ERROR
        self.sent.append(Sent(began, model, failed, server))


@asynccontextmanager
async def _server(port: int) -> AsyncIterator[tuple[Process, int]]:
    """Run a model server; gives it with its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.outages.server", str(port), stdin=PIPE, stdout=PIPE
    )
    try:
        assert process.stdout is not None
        yield process, int(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def running(
    mode: FailureMode,
    *,
    detection: bool,
    timeout: float = _TIMEOUT,  # noqa: ASYNC109 - of clients
    models: Sequence[str] = (MODEL,),
) -> AsyncIterator[Stack]:
    """Start everything for a pool, and end it after the block; clients ask for *models*, and wait for *timeout*."""
    async with AsyncExitStack() as resources:
        folder = Path(resources.enter_context(TemporaryDirectory()))
        first, port = await resources.enter_async_context(_server(0))
        others = [await resources.enter_async_context(_server(0)) for _ in range(SERVERS - 1)]
        ports = [port, *(each for _, each in others)]
        picker = await resources.enter_async_context(_picker(folder, ports, detection=detection))
        pool = InferencePool(
            name="llama",
            selector={"app": "llama"},
            target_ports=[8000],
            endpoint_picker_ref=EndpointPickerRef(name="picker", port=9002, failure_mode=mode),
        )
        endpoints = [Endpoint(namespace="default", pod_name=f"pod-{port}", address=_HOST, port=port) for port in ports]
        options = EnvoyOptions(listen=HostPort(_HOST, 0), epp_address=HostPort(_HOST, picker), epp_tls=False)
        envoy = await resources.enter_async_context(
            EnvoyProcess(render_envoy(pool, endpoints, options), log_level="error")
        )
        (address,) = envoy.listeners.values()
        servers = [f"{_HOST}:{port}" for port in ports]
        yield Stack(f"http://{address}/v1/chat/completions", servers, envoy.admin, first, resources, timeout, models)


@asynccontextmanager
async def _picker(folder: Path, ports: list[int], *, detection: bool) -> AsyncIterator[int]:
    """Run the picker; gives its port."""
    file = folder / "endpoints.json"
    entries = [{"name": f"pod-{port}", "address": _HOST, "port": str(port)} for port in ports]
    file.write_text(json.dumps({"endpoints": entries}))
    flags = ("--fallbacks", "3", "--secure-serving=false", f"--outlier-detection={str(detection).lower()}")
    free = ("--grpc-port", "0", "--grpc-health-port", "0", "--metrics-port", "0")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "inferencepool", "serve", "--address", _HOST, "--endpoints-file", str(file)),
        *(*flags, *free, "--log-format", "json"),
        stderr=PIPE,
        stdout=DEVNULL,
    )
    assert process.stderr is not None
    port = json.loads(await process.stderr.readline())["grpc_port"]
    # What it logs further is let go of, so that it never waits for a reader.
    reading = asyncio.create_task(process.stderr.read())
    try:
        yield port
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading
