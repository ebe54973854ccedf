"""What the tests need: model servers, endpoint pickers, and real Envoys in front of them, on one event loop."""

from __future__ import annotations

import asyncio
import functools
import io
import itertools
import json
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from random import Random
from typing import Any, Final, final

import aiohttp
import attrs

from inferencepool.adapters.extproc import Exchange, ExternalProcessor, ProcessorOptions
from inferencepool.gateway import EnvoyOptions, HostPort, render_envoy
from inferencepool.lab.envoy import EnvoyProcess
from inferencepool.lab.model_servers import ModelServerSimulator, SimulatorOptions
from inferencepool.model import (
    AppProtocol,
    Candidate,
    Candidates,
    Endpoint,
    EndpointPickerRef,
    FailureMode,
    InferenceModelRewrite,
    InferencePool,
    InferenceRequest,
)
from inferencepool.picker import EndpointPicker
from inferencepool.registry import EndpointRegistry
from inferencepool.runtime.extproc import extproc_limits, extproc_routes, fastest_loads
from inferencepool.runtime.grpc import CallFactory, GrpcServer
from inferencepool.scheduling import SchedulingProfile
from tests.envoy.scripted import ScriptedServer
from tests.gateway.pools import picker_filter
from tests.patience import PATIENCE

__all__ = [
    "CHAT",
    "CLUSTERS",
    "KINDS",
    "MODEL",
    "Client",
    "Reply",
    "RunningPicker",
    "Stage",
    "chat",
    "endpoint_at",
    "full_duplex_responses",
    "has_ipv6",
    "loopback",
    "on_stage",
    "until",
]

MODEL: Final = "llama-3"
_LARGE = 1_000_000
CHAT: Final = "/v1/chat/completions"
CLUSTERS: Final = ("override-host", "original-dst")
# Both kinds of cluster in full duplex, and the modes that wait for answers.
KINDS: Final[tuple[tuple[str, str], ...]] = (
    ("override-host", "full-duplex"),
    ("original-dst", "full-duplex"),
    ("override-host", "buffered"),
    ("original-dst", "buffered"),
    ("override-host", "none"),
    ("original-dst", "none"),
)


def on_stage(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test that is a coroutine on the event loop of its stage."""

    @functools.wraps(test)
    def run(*arguments: Any, stage: Stage, **fixtures: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await test(*arguments, stage=stage, **fixtures)

        stage.runner.run(bounded())

    return run


async def until(condition: Callable[[], object], what: Callable[[], object]) -> None:
    """Wait until *condition* holds; *what* tells how things are if it never does."""
    try:
        async with asyncio.timeout(PATIENCE / 2):
            while not condition():  # noqa: ASYNC110 - what is waited for may be in another process
                await asyncio.sleep(0.005)
    except TimeoutError:
        message = f"after {PATIENCE / 2:g} s: {what()}"
        raise AssertionError(message) from None


def chat(size: int = 0, **fields: Any) -> bytes:
    """Make the body of a conversation; of *size* bytes, if it is not longer anyhow."""
    document = {"model": MODEL, "messages": [{"role": "user", "content": ""}], "max_tokens": 2, **fields}
    empty = json.dumps(document).encode()
    document["messages"][0]["content"] = "x" * max(0, size - len(empty))
    return json.dumps(document).encode()


def endpoint_at(address: str, name: str = "") -> Endpoint:
    """Make an endpoint of ``ip:port``."""
    place = HostPort.parse(address)
    return Endpoint(namespace="default", pod_name=name or f"pod-{place.port}", address=place.host, port=place.port)


def loopback(port: int) -> HostPort:
    """Give an address on this machine."""
    return HostPort("127.0.0.1", port)


def full_duplex_responses(document: dict[str, Any]) -> None:
    """Let Envoy send response bodies in full duplex, as some gateways do."""
    picker_filter(document)["processing_mode"]["response_body_mode"] = "FULL_DUPLEX_STREAMED"


def has_ipv6() -> bool:
    """Tell whether this machine has an IPv6 loopback."""
    import socket  # noqa: PLC0415 - only here

    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class PinScorer:
    """Prefers the endpoints that the header ``x-pin`` names, in its order."""

    def score(self, request: InferenceRequest, candidates: Candidates, /) -> Sequence[float]:
        pinned = request.headers.get("x-pin", "").split(",")
        ranks = {address: 1 - rank / (len(pinned) + 1) for rank, address in enumerate(pinned)}
        return [ranks.get(candidate.endpoint.destination, 0.0) for candidate in candidates]


class WhimFilter:
    """Does what the header ``x-whim`` says: ``remove`` all candidates, or ``raise``."""

    def filter(self, request: InferenceRequest, candidates: Candidates, /) -> Iterable[Candidate]:
        match request.headers.get("x-whim"):
            case "remove":
                return []
            case "raise":
                message = "as it was told"
                raise LookupError(message)
        return list(candidates)


@final
@attrs.define(eq=False)
class RunningPicker:
    """
    An endpoint picker that serves.

    Attributes:
        registry: What it picks from.
        picker: The picker.
        processor: Its ext_proc side.
        server: Its gRPC side.
        exchanges: What became of the requests, by request id.
        errors: What its calls raised.
    """

    registry: EndpointRegistry
    picker: EndpointPicker
    processor: ExternalProcessor
    server: GrpcServer
    exchanges: dict[str, list[Exchange]]
    errors: list[Exception]

    @property
    def address(self) -> HostPort:
        """Where it serves."""
        return loopback(self.server.port)

    @property
    def idle(self) -> bool:
        """Whether nothing is open and nothing reserved."""
        going = self.processor.statistics()
        return not (going.sessions or going.held or self.picker.statistics().in_flight)

    async def until_idle(self) -> None:
        """Wait until nothing is open and nothing reserved."""
        await until(lambda: self.idle, lambda: (self.processor.statistics(), self.picker.statistics()))

    async def exchange(self, request_id: str) -> Exchange:
        """Wait for what became of a request; it must be told once."""
        await until(lambda: request_id in self.exchanges, lambda: f"no exchange {request_id}")
        (exchange,) = self.exchanges[request_id]
        return exchange


@attrs.define(eq=False)
class _Record:
    """Remembers what became of the requests."""

    exchanges: dict[str, list[Exchange]]

    def finished(self, exchange: Exchange, /) -> None:
        self.exchanges.setdefault(exchange.request_id, []).append(exchange)


@attrs.frozen
class Reply:
    """What a client got."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    request_id: str

    def json(self) -> Any:
        """Read the body."""
        return json.loads(self.body)


@final
@attrs.define(eq=False)
class Client:
    """
    Speaks HTTP/1.1 to one Envoy.

    Attributes:
        envoy: The Envoy.
        url: Where it listens.
        http: The connections.
    """

    envoy: EnvoyProcess
    url: str
    http: aiohttp.ClientSession
    numbers: itertools.count[int]

    def open(
        self, path: str = CHAT, body: bytes | None = None, headers: Mapping[str, str] | None = None, method: str = ""
    ) -> Any:
        """Begin a request, as a context manager that gives the response when its headers are there."""
        sent = {"x-request-id": f"request-{next(self.numbers)}", "content-type": "application/json", **(headers or {})}
        # The client warns of large bytes, and takes them as a file without a word.
        data = io.BytesIO(body) if body is not None and len(body) > _LARGE else body
        return self.http.request(
            method or ("GET" if body is None else "POST"), self.url + path, data=data, headers=sent
        )

    async def send(
        self, path: str = CHAT, body: bytes | None = None, headers: Mapping[str, str] | None = None, method: str = ""
    ) -> Reply:
        """Send a request and read the whole response."""
        async with self.open(path, body, headers, method) as response:
            lowered = {name.lower(): value for name, value in response.headers.items()}
            sent = response.request_info.headers["x-request-id"]
            return Reply(response.status, lowered, await response.read(), sent)


@final
class Stage:
    """
    Model servers, and what is started before them when a test asks for it; all of it ends with the stage.

    Attributes:
        runner: The event loop.
        simulators: Two model servers.
        scripted: A model server that does what it is told.
    """

    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner
        options = SimulatorOptions.immediate(models=[MODEL, "served-model"])
        self.simulators = [ModelServerSimulator(options) for _ in range(2)]
        self.scripted = ScriptedServer()
        self._resources = AsyncExitStack()
        self._numbers = itertools.count()
        self._pickers: dict[object, RunningPicker] = {}
        self._clients: dict[object, Client] = {}

    async def open(self) -> None:
        """Start the model servers."""
        for simulator in self.simulators:
            await self._resources.enter_async_context(simulator)
        await self.scripted.start()
        self._resources.push_async_callback(self.scripted.stop)

    async def close(self) -> None:
        """End everything."""
        await self._resources.aclose()

    @property
    def addresses(self) -> list[str]:
        """The addresses of the model servers: two simulators and the scripted one."""
        return [*(simulator.address for simulator in self.simulators), self.scripted.address]

    async def start_picker(
        self,
        addresses: Iterable[str] | None = None,
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        rewrites: Iterable[InferenceModelRewrite] = (),
        routes: Mapping[str, CallFactory] | None = None,
        profile: SchedulingProfile | None = None,
        **options: Any,
    ) -> RunningPicker:
        """Start an endpoint picker for the model servers, with options of a processor."""
        # Tests of errors send many to one endpoint, and it is to stay where they send them.
        registry = EndpointRegistry(outlier_detection=None)
        registry.set_endpoints(map(endpoint_at, self.addresses if addresses is None else addresses))
        by_pins = SchedulingProfile(filters=[WhimFilter()], scorers=[PinScorer()], max_num_of_endpoints=5)
        picker = EndpointPicker(registry, profile=by_pins if profile is None else profile, rng=Random(0))
        record = _Record({})
        processor = ExternalProcessor(
            picker,
            options=ProcessorOptions(**options),
            observer=record,
            rewrites=rewrites,
            loads=fastest_loads(),
        )
        errors: list[Exception] = []
        services = {**extproc_routes(processor), **(routes or {})}
        server = GrpcServer(services, limits=extproc_limits(processor), on_error=errors.append)
        await server.start("127.0.0.1", port, tls=tls)
        self._resources.push_async_callback(server.stop, 0)
        return RunningPicker(registry, picker, processor, server, record.exchanges, errors)

    async def start_envoy(
        self,
        picker: HostPort,
        *,
        addresses: Iterable[str] | None = None,
        mode: str = "FailClose",
        protocol: AppProtocol = AppProtocol.HTTP,
        prepare: Callable[[dict[str, Any]], None] = lambda _: None,
        **options: Any,
    ) -> Client:
        """Start an Envoy that asks *picker*; *prepare* may change its rendered configuration."""
        pool = InferencePool(
            name="llama",
            selector={"app": "llama"},
            target_ports=[8000],
            app_protocol=protocol,
            endpoint_picker_ref=EndpointPickerRef(name="llama-epp", port=9002, failure_mode=FailureMode(mode)),
        )
        chosen = EnvoyOptions(
            **{"listen": loopback(0), "epp_address": picker, "epp_tls": False, "epp_health_check": "off", **options}
        )
        endpoints = map(endpoint_at, self.addresses if addresses is None else addresses)
        document = render_envoy(pool, endpoints, chosen)
        prepare(document)
        envoy = await self._resources.enter_async_context(EnvoyProcess(document, log_level="error"))
        return await self.client_of(envoy)

    async def client_of(self, envoy: EnvoyProcess) -> Client:
        """Make a client of the one listener of *envoy*."""
        (address,) = envoy.listeners.values()
        connector = aiohttp.TCPConnector(limit=0)
        http = await self._resources.enter_async_context(
            aiohttp.ClientSession(connector=connector, auto_decompress=False)
        )
        return Client(envoy, f"http://{address}", http, self._numbers)

    async def picker(self, **options: Any) -> RunningPicker:
        """Give the picker with these options, which the tests of the module share."""
        key = tuple(sorted(options.items()))
        if key not in self._pickers:
            self._pickers[key] = await self.start_picker(**options)
        return self._pickers[key]

    async def behind(self, picker: RunningPicker, **options: Any) -> Client:
        """Give the Envoy with these options before *picker*, which the tests of the module share."""
        key = (picker.server.port, tuple(sorted(options.items())))
        if key not in self._clients:
            self._clients[key] = await self.start_envoy(picker.address, **options)
        return self._clients[key]
