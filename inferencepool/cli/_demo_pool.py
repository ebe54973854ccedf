"""The pool of ``demo``: simulated model servers, the endpoint picker and a real Envoy, all on this machine."""

from __future__ import annotations

import asyncio
import copy
import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import attrs

from inferencepool.adapters.extproc import ExternalProcessor, ProcessorOptions
from inferencepool.errors import ConfigurationError, InferencePoolError
from inferencepool.gateway import EnvoyOptions, HostPort, render_envoy
from inferencepool.model import Endpoint, InferencePool, InferenceRequest, Pod
from inferencepool.picker import EndpointPicker
from inferencepool.registry import EndpointRegistry, Staleness
from inferencepool.runtime.envoy import EnvoyProcess
from inferencepool.runtime.extproc import extproc_routes
from inferencepool.runtime.grpc import GrpcServer
from inferencepool.runtime.scraping import MetricsScraper
from inferencepool.runtime.simulator import ModelServerSimulator, SimulatorOptions
from inferencepool.scheduling import Explanation, PickResult

__all__ = ["MODEL", "DemoPool", "DemoServer", "run_pool"]

#: The model that is asked for.
MODEL = "simulated"

_LOOPBACK = "127.0.0.1"
_PICKED, _DIRECT = "inference", "round-robin"
_NOTE_INTERVAL = 0.1
# One server in four is slower: a picker that looks at load has something to see.
_SLOW = 4
_MAX_TARGET_PORTS = 8
_ATTEMPTS = 20
_LABELS = {"app": "demo"}


@attrs.define(eq=False)
class DemoServer:
    """
    One server of the pool.

    Attributes:
        simulator: The server.
        speed: Its speed, where 1 is the fastest.
        queues: Lengths of its queue, as its page told them from time to time.
    """

    simulator: ModelServerSimulator
    speed: float
    queues: list[int] = attrs.field(factory=list)


@attrs.define(eq=False)
class _Witness:
    """Explains one pick at the moment it is made: the next one after `wanted` was set."""

    wanted: bool = False
    explanation: Explanation | None = None

    def picked(self, result: PickResult, /) -> None:
        if self.wanted:
            self.wanted = False
            self.explanation = result.explain()

    def refused(self, request: InferenceRequest, error: InferencePoolError, /) -> None:
        """Take no notice: the client gets the error."""


@attrs.define(eq=False)
class DemoPool:
    """
    A running pool.

    Attributes:
        servers: Its servers by address.
        envoy: The proxy in front of it.
        witness: Explains a pick.
    """

    servers: dict[str, DemoServer]
    envoy: EnvoyProcess
    witness: _Witness
    _prefixes: tuple[int, int] = (0, 0)

    @property
    def picked_url(self) -> str:
        """Where Envoy asks the endpoint picker."""
        return f"http://{self.envoy.listener(_PICKED)}"

    @property
    def direct_url(self) -> str:
        """Where Envoy takes the servers in turn."""
        return f"http://{self.envoy.listener(_DIRECT)}"

    def take_cached(self) -> float:
        """Give the share of the tokens of prompts that were in the cache of their server, since the last call."""
        loads = [server.simulator.load() for server in self.servers.values()]
        asked, found = sum(load.prefix_queries for load in loads), sum(load.prefix_hits for load in loads)
        before_asked, before_found = self._prefixes
        self._prefixes = asked, found
        return (found - before_found) / max(1, asked - before_asked)

    def take_queues(self) -> dict[str, float]:
        """Give the mean queue of each server since the last call."""
        means: dict[str, float] = {}
        for address, server in self.servers.items():
            means[address] = sum(server.queues) / max(1, len(server.queues))
            server.queues.clear()
        return means


@asynccontextmanager
async def run_pool(servers: int, seed: int) -> AsyncIterator[DemoPool]:
    """
    Start a pool of *servers* servers, and stop all of it at the end of the block.

    Raises:
        MissingExtraError: A part is not installed.
        ConfigurationError: This machine has no addresses for so many servers, or Envoy does not start.
    """
    async with AsyncExitStack() as stack:
        running = await _start_servers(stack, servers, seed)
        pool = _pool_of(running)
        registry = EndpointRegistry(pool, staleness=Staleness())
        registry.resync(_pods_of(running))
        by_address = {server.simulator.address: server for server in running}
        witness = _Witness()
        picker = EndpointPicker(registry, rng=Random(seed), observer=witness)
        processor = ExternalProcessor(picker, options=ProcessorOptions(fallbacks=True), clock=registry.clock)
        stack.callback(processor.close)
        await _start_scraping(stack, picker, by_address)
        server = GrpcServer(extproc_routes(processor))
        await server.start(_LOOPBACK, 0)
        stack.push_async_callback(server.stop, 0.0)
        bootstrap = _bootstrap_of(pool, registry.endpoints(), server.port)
        envoy = await stack.enter_async_context(EnvoyProcess(bootstrap))
        yield DemoPool(by_address, envoy, witness)


async def _start_servers(stack: AsyncExitStack, count: int, seed: int) -> list[DemoServer]:
    """Start servers at addresses of their own and one port, or, where there is one loopback address, the reverse."""
    try:
        return await _start_at_own_addresses(stack, count, seed)
    except OSError:
        if count > _MAX_TARGET_PORTS:
            message = (
                f"demo: --servers: {count} is too many for this machine: it has one loopback address, "
                f"and a pool has at most {_MAX_TARGET_PORTS} ports"
            )
            raise ConfigurationError(message) from None
    servers = [_server(number, count, seed, _LOOPBACK, 0) for number in range(count)]
    for server in servers:
        await stack.enter_async_context(server.simulator)
    return servers


async def _start_at_own_addresses(stack: AsyncExitStack, count: int, seed: int) -> list[DemoServer]:
    attempts = _ATTEMPTS
    while True:
        attempts -= 1
        servers: list[DemoServer] = []
        async with AsyncExitStack() as started:
            try:
                for number in range(count):
                    # The first one takes a free port, which at the other addresses may be somebody else's.
                    port = servers[0].simulator.port if servers else 0
                    server = _server(number, count, seed, f"127.0.0.{number + 2}", port)
                    await started.enter_async_context(server.simulator)
                    servers.append(server)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not attempts:
                    raise
                continue
            stack.push_async_exit(started.pop_all())
            return servers


def _server(number: int, count: int, seed: int, host: str, port: int) -> DemoServer:
    speed = 0.5 if number >= count - count // _SLOW else 1.0
    options = SimulatorOptions(
        models=[MODEL],
        max_running_requests=4,
        prefill_tokens_per_second=8_000,
        decode_tokens_per_second=100,
        kv_blocks=512,
        time_scale=speed,
        seed=seed + number,
    )
    return DemoServer(ModelServerSimulator(options, host=host, port=port), speed)


def _pool_of(servers: Sequence[DemoServer]) -> InferencePool:
    ports = dict.fromkeys(server.simulator.port for server in servers)
    return InferencePool.from_dict(
        {
            "apiVersion": "inference.networking.k8s.io/v1",
            "kind": "InferencePool",
            "metadata": {"name": "demo", "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": _LABELS},
                "targetPorts": [{"number": port} for port in ports],
                "endpointPickerRef": {"name": "demo-epp", "port": {"number": 9002}, "failureMode": "FailClose"},
            },
        }
    )


def _pods_of(servers: Sequence[DemoServer]) -> list[Pod]:
    hosts = dict.fromkeys(server.simulator.host for server in servers)
    return [
        Pod.from_dict(
            {
                "metadata": {"name": f"server-{number}", "namespace": "default", "labels": _LABELS},
                "status": {"podIP": host, "conditions": [{"type": "Ready", "status": "True"}]},
            }
        )
        for number, host in enumerate(hosts, 1)
    ]


async def _start_scraping(stack: AsyncExitStack, picker: EndpointPicker, servers: dict[str, DemoServer]) -> None:
    registry = picker.registry
    scraper = MetricsScraper(registry, in_use=picker.endpoints_in_flight)
    tasks = [asyncio.create_task(scraper.run()), asyncio.create_task(_note_queues(registry, servers))]

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    stack.push_async_callback(stop)


async def _note_queues(registry: EndpointRegistry, servers: dict[str, DemoServer]) -> None:
    while True:
        snapshot = registry.snapshot()
        for slot in snapshot.fleet.slots:
            servers[snapshot.fleet.at(slot).destination].queues.append(snapshot.metrics[slot].waiting_queue_size)
        await asyncio.sleep(_NOTE_INTERVAL)


def _bootstrap_of(pool: InferencePool, endpoints: Sequence[Endpoint], picker_port: int) -> dict[str, Any]:
    """Configure two listeners: one that asks the picker, and one without it, to compare with."""
    options = EnvoyOptions(listen=HostPort(_LOOPBACK, 0), epp_address=HostPort(_LOOPBACK, picker_port), epp_tls=False)
    bootstrap = render_envoy(pool, endpoints, options)
    resources = bootstrap["static_resources"]
    cluster = copy.deepcopy(resources["clusters"][0])
    cluster["name"] = cluster["load_assignment"]["cluster_name"] = _DIRECT
    del cluster["load_balancing_policy"]
    listener = copy.deepcopy(resources["listeners"][0])
    listener["name"] = _DIRECT
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["stat_prefix"] = _DIRECT
    manager["http_filters"] = manager["http_filters"][-1:]
    manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["cluster"] = _DIRECT
    resources["clusters"].append(cluster)
    resources["listeners"].append(listener)
    return bootstrap
