"""The pool of ``demo``: simulated model servers, the endpoint picker and a real Envoy, all on this machine."""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import attrs

from inferencepool.adapters.extproc import ExternalProcessor, ProcessorOptions
from inferencepool.errors import InferencePoolError
from inferencepool.gateway import EnvoyOptions, HostPort, render_envoy
from inferencepool.lab.commands._demo_pages import DemoPages
from inferencepool.lab.commands._demo_servers import LOOPBACK, DemoServer, start_servers
from inferencepool.lab.envoy import EnvoyProcess
from inferencepool.model import Endpoint, FailureMode, InferencePool, InferenceRequest, Pod
from inferencepool.picker import EndpointPicker
from inferencepool.plugins import default_profile
from inferencepool.registry import EndpointRegistry, Staleness
from inferencepool.runtime.exporter import StreamMetrics
from inferencepool.runtime.extproc import extproc_routes
from inferencepool.runtime.grpc import GrpcServer
from inferencepool.runtime.scraping import MetricsScraper
from inferencepool.scheduling import Explanation, PickResult

__all__ = ["DemoPool", "Kill", "run_pool"]

_PICKED, _DIRECT = "inference", "round-robin"
_NOTE_INTERVAL = 0.1
# What Envoy's retries find in a pick, as many as `envoy-config` lets it try.
_FALLBACKS = 3
# Seconds to wait for a server that has begun none of its answers.
_PATIENCE = 5.0
_POLL = 0.001
_LABELS = {"app": "demo"}


@attrs.define(eq=False)
class _Witness:
    """Counts picks, and explains one at the moment it is made: the next one after `wanted` was set."""

    wanted: bool = False
    explanation: Explanation | None = None
    picks: Counter[str] = attrs.field(factory=Counter)

    def picked(self, result: PickResult, /) -> None:
        self.picks[result.endpoint.destination] += 1
        if self.wanted:
            self.wanted = False
            self.explanation = result.explain()

    def refused(self, request: InferenceRequest, error: InferencePoolError, /) -> None:
        """Take no notice: the client gets the error."""


@attrs.frozen
class Kill:
    """
    What a server had to do when it was ended.

    Attributes:
        address: Its address.
        in_flight: Requests that had been picked for it and were not over, with those that came while it went down.
    """

    address: str
    in_flight: int


@attrs.define(eq=False)
class DemoPool:
    """
    A running pool.

    Attributes:
        servers: Its servers by address.
        envoy: The proxy in front of it.
        picker: Picks among the servers.
        witness: Explains a pick.
        pages_url: Where the picker's pages are: ``/debug/`` and ``/metrics`` below it.
    """

    servers: dict[str, DemoServer]
    envoy: EnvoyProcess
    picker: EndpointPicker
    witness: _Witness
    pages_url: str
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
        counts = [server.prefixes() for server in self.servers.values()]
        asked, found = sum(each for each, _ in counts), sum(each for _, each in counts)
        before_asked, before_found = self._prefixes
        self._prefixes = asked, found
        return (found - before_found) / max(1, asked - before_asked)

    async def kill(self) -> Kill:
        """
        End the busiest server among those that have begun no answer, as a machine that fails.

        An answer that has begun has gone to its client, and no proxy can put another one in its place. There is a
        server without any nearly always; if there is none for some seconds, the busiest one is ended.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE
        while True:
            going = self._in_flight()
            quiet = [address for address in going if not self.servers[address].simulator.streaming]
            if quiet or loop.time() > until:
                break
            await asyncio.sleep(_POLL)
        address = max(quiet or self.servers, key=lambda each: going.get(each, 0))
        before = self.witness.picks[address]
        await self.servers[address].end()
        return Kill(address, going.get(address, 0) + self.witness.picks[address] - before)

    async def start_again(self) -> None:
        """Start the servers again that were ended."""
        for server in self.servers.values():
            if server.is_down:
                await server.start_again()

    async def stop(self) -> None:
        """Stop all servers."""
        for server in self.servers.values():
            await server.simulator.stop()

    def _in_flight(self) -> dict[str, int]:
        reserved = self.picker.reserved()
        pairs = zip(reserved.fleet.endpoints, reserved.in_flight, strict=True)
        return {endpoint.destination: count for endpoint, count in pairs if endpoint is not None and count}

    def take_queues(self) -> dict[str, float]:
        """Give the mean queue of each server since the last call."""
        means: dict[str, float] = {}
        for address, server in self.servers.items():
            means[address] = sum(server.queues) / max(1, len(server.queues))
            server.queues.clear()
        return means


@asynccontextmanager
async def run_pool(
    servers: int,
    seed: int,
    failure_mode: FailureMode = FailureMode.FAIL_CLOSE,
    started: Callable[[str, str], object] = lambda _what, _where: None,
) -> AsyncIterator[DemoPool]:
    """
    Start a pool of *servers* servers, and stop all of it at the end of the block.

    Args:
        servers: How many.
        seed: Makes other answers.
        failure_mode: What the pool says about a picker that fails.
        started: Is told of each part when it runs: what it is, and where.

    Raises:
        MissingExtraError: A part is not installed.
        ConfigurationError: This machine has no addresses for so many servers, or Envoy does not start.
    """
    async with AsyncExitStack() as stack:
        running = await start_servers(stack, servers, seed)
        addresses = [server.simulator.address for server in running]
        started("model servers", f"{servers}, simulated: {' to '.join(dict.fromkeys((addresses[0], addresses[-1])))}")
        pool = _pool_of(running, failure_mode)
        registry = EndpointRegistry(pool, staleness=Staleness())
        registry.resync(_pods_of(running))
        by_address = dict(zip(addresses, running, strict=True))
        witness, pages = _Witness(), DemoPages()
        profile = default_profile(_FALLBACKS)
        picker = EndpointPicker(registry, profile=profile, rng=Random(seed), observer=pages.observer(witness))
        options = ProcessorOptions(fallbacks=_FALLBACKS)
        processor = ExternalProcessor(picker, options=options, clock=registry.clock, observer=pages.requests)
        stack.callback(processor.close)
        scraper = await _start_scraping(stack, picker, by_address)
        streams = StreamMetrics(processor)
        server = GrpcServer(extproc_routes(processor, on_closed=streams.closed))
        await server.start(LOOPBACK, 0)
        stack.push_async_callback(server.stop, 0.0)
        started("endpoint picker", f"{LOOPBACK}:{server.port}, for Envoy over ext_proc")
        page_server = pages.server_for(processor, scraper, streams, LOOPBACK)
        await page_server.start()
        stack.push_async_callback(page_server.stop)
        pages_url = f"http://{LOOPBACK}:{page_server.port}"
        started("its pages", f"{pages_url}/debug/, what it decides and why")
        started("", f"{pages_url}/metrics, what it counts")
        bootstrap = _bootstrap_of(pool, registry.endpoints(), server.port)
        envoy = await stack.enter_async_context(EnvoyProcess(bootstrap))
        demo = DemoPool(by_address, envoy, picker, witness, pages_url)
        stack.push_async_callback(demo.stop)
        started("Envoy", f"{demo.picked_url}, asks the picker where to")
        started("", f"{demo.direct_url}, takes the servers in turn")
        yield demo


def _pool_of(servers: Sequence[DemoServer], failure_mode: FailureMode) -> InferencePool:
    ports = dict.fromkeys(server.simulator.port for server in servers)
    return InferencePool.from_dict(
        {
            "apiVersion": "inference.networking.k8s.io/v1",
            "kind": "InferencePool",
            "metadata": {"name": "demo", "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": _LABELS},
                "targetPorts": [{"number": port} for port in ports],
                "endpointPickerRef": {
                    "name": "demo-epp",
                    "port": {"number": 9002},
                    "failureMode": failure_mode.value,
                },
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


async def _start_scraping(
    stack: AsyncExitStack, picker: EndpointPicker, servers: dict[str, DemoServer]
) -> MetricsScraper:
    registry = picker.registry
    scraper = MetricsScraper(registry, in_use=picker.endpoints_in_flight)
    tasks = [asyncio.create_task(scraper.run()), asyncio.create_task(_note_queues(registry, servers))]

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    stack.push_async_callback(stop)
    return scraper


async def _note_queues(registry: EndpointRegistry, servers: dict[str, DemoServer]) -> None:
    while True:
        snapshot = registry.snapshot()
        for slot in snapshot.fleet.slots:
            servers[snapshot.fleet.at(slot).destination].queues.append(snapshot.metrics[slot].waiting_queue_size)
        await asyncio.sleep(_NOTE_INTERVAL)


def _bootstrap_of(pool: InferencePool, endpoints: Sequence[Endpoint], picker_port: int) -> dict[str, Any]:
    """Configure two listeners: one that asks the picker, and one without it, to compare with."""
    options = EnvoyOptions(listen=HostPort(LOOPBACK, 0), epp_address=HostPort(LOOPBACK, picker_port), epp_tls=False)
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
