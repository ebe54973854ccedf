"""Endpoints that fail behind a real Envoy are ejected by what it reports, and come back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, final

import pytest
from aiohttp import web

from inferencepool import EndpointPicker, EndpointRegistry, SchedulingProfile
from inferencepool.adapters.extproc import ExternalProcessor, ProcessorOptions
from inferencepool.model import Candidates, EjectionReason, InferenceRequest
from inferencepool.registry import OutlierDetection
from inferencepool.runtime.extproc import extproc_limits, extproc_routes
from inferencepool.runtime.grpc import GrpcServer
from tests.envoy.stage import CHAT, Client, Stage, chat, endpoint_at, loopback, on_stage

QUICK = OutlierDetection(base_ejection_time=0.3, max_ejection_time=0.3, max_ejection_time_jitter=0.0)


@final
class IllServer:
    """
    A model server whose answers a test chooses.

    Attributes:
        status: Of every response.
        headers: Of every response.
        asked: Requests so far.
        port: Where it listens.
    """

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked = 0
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> str:
        """Where it listens, or did."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, at the same port as before."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Refuse connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response({}, status=self.status, headers=self.headers)


class InOrderScorer:
    """Prefers endpoints in the order of a list of addresses."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._ranks = {address: 1 / (rank + 1) for rank, address in enumerate(addresses)}

    def score(self, _: InferenceRequest, candidates: Candidates, /) -> list[float]:
        """Give each its rank."""
        return [self._ranks[candidate.endpoint.destination] for candidate in candidates]


@final
class Ward:
    """Three servers, the first of which is preferred and ill; a picker; an Envoy."""

    def __init__(
        self, servers: list[IllServer], registry: EndpointRegistry, picker: GrpcServer, client: Client
    ) -> None:
        self.servers = servers
        self.ill = servers[0]
        self.registry = registry
        self.picker = picker
        self._client = client

    @property
    def ejected(self) -> dict[str, EjectionReason]:
        """Who is ejected, and why."""
        return {each.destination: ejection.reason for each, ejection in self.registry.health.ejections()}

    async def send(self, times: int = 1) -> Counter[int]:
        """Send requests one after another; count the statuses."""
        return Counter([(await self._client.send(CHAT, chat())).status for _ in range(times)])

    async def until_back(self) -> None:
        """Send requests until the first server is not ejected, and gets them."""

        async def is_back() -> bool:
            before = self.ill.asked
            await self.send()
            return not self.ejected and self.ill.asked > before

        for _ in range(200):
            if await is_back():
                return
            await asyncio.sleep(0.05)
        message = f"is not back: {self.ejected}"
        raise AssertionError(message)


@asynccontextmanager
async def _ward(
    stage: Stage, fallbacks: int = 0, prepare: Callable[[dict[str, Any]], None] = lambda _: None, **options: Any
) -> AsyncIterator[Ward]:
    servers = [IllServer() for _ in range(3)]
    for server in servers:
        await server.start()
    addresses = [server.address for server in servers]
    registry = EndpointRegistry(outlier_detection=QUICK)
    registry.set_endpoints(map(endpoint_at, addresses))
    profile = SchedulingProfile(scorers=[InOrderScorer(addresses)], max_num_of_endpoints=3)
    processor = ExternalProcessor(
        EndpointPicker(registry, profile=profile, rng=Random(0)), options=ProcessorOptions(fallbacks=fallbacks)
    )
    grpc = GrpcServer(extproc_routes(processor), limits=extproc_limits(processor))
    await grpc.start("127.0.0.1", 0)
    try:
        client = await stage.start_envoy(loopback(grpc.port), addresses=addresses, prepare=prepare, **options)
        yield Ward(servers, registry, grpc, client)
    finally:
        await grpc.stop(0)
        for server in servers:
            await server.stop()


class TestEjected:
    @pytest.mark.parametrize("usage", [False, True])
    @on_stage
    async def test_refused_connections(self, stage: Stage, usage: bool) -> None:
        """Who refuses connections fails five requests and no more; it comes back by itself."""
        async with _ward(stage, usage=usage) as ward:
            assert {200: 3} == await ward.send(3)
            await ward.ill.stop()
            seen = await ward.send(12)

            assert {503: 5, 200: 7} == seen
            assert {ward.ill.address: EjectionReason.CONSECUTIVE_GATEWAY_FAILURE} == ward.ejected
            await ward.ill.start()
            await ward.until_back()

    @on_stage
    async def test_refused_connections_with_fallbacks(self, stage: Stage) -> None:
        """Where the picker lists fallbacks no request fails, and the picked endpoint is ejected all the same."""
        async with _ward(stage, fallbacks=2) as ward:
            await ward.ill.stop()

            assert {200: 8} == await ward.send(8)
            assert {ward.ill.address: EjectionReason.CONSECUTIVE_GATEWAY_FAILURE} == ward.ejected
            await ward.ill.start()
            await ward.until_back()

    @on_stage
    async def test_errors(self, stage: Stage) -> None:
        """Who answers 500 is ejected after five of them."""
        async with _ward(stage) as ward:
            ward.ill.status = 500

            assert {500: 5, 200: 7} == await ward.send(12)
            assert {ward.ill.address: EjectionReason.CONSECUTIVE_5XX} == ward.ejected
            ward.ill.status = 200
            await ward.until_back()

    @on_stage
    async def test_busy(self, stage: Stage) -> None:
        """Who answers 429 is left alone from the first time on, for as long as it asks."""
        async with _ward(stage) as ward:
            ward.ill.status, ward.ill.headers = 429, {"retry-after": "1"}

            assert {429: 1, 200: 7} == await ward.send(8)
            assert {ward.ill.address: EjectionReason.BUSY} == ward.ejected
            ward.ill.status = 200
            await ward.until_back()

    @on_stage
    async def test_model_that_is_missing(self, stage: Stage) -> None:
        """Who does not have a model that another one serves is avoided for that model."""
        async with _ward(stage) as ward:
            ward.ill.status, ward.ill.headers = 429, {"retry-after": "0"}
            await ward.send(3)  # Another one serves the model.
            ward.ill.status = 200
            await ward.until_back()
            await asyncio.sleep(0.1)  # Ejections are known at once, but once in an interval of snapshots.
            ward.ill.status = 404

            assert {404: 3, 200: 9} == await ward.send(12)
            assert {ward.ill.address: EjectionReason.MODEL_NOT_FOUND} == ward.ejected
            ward.ill.status = 200
            await ward.until_back()

    @on_stage
    async def test_routes_that_envoy_refuses(self, stage: Stage) -> None:
        """What Envoy answers by itself, for reasons of its own, ejects nobody."""

        def refuse_all(document: dict[str, Any]) -> None:
            (endpoints, _) = document["static_resources"]["clusters"]
            endpoints["circuit_breakers"] = {"thresholds": [{"max_requests": 0, "max_pending_requests": 0}]}

        async with _ward(stage, prepare=refuse_all, retries=0) as ward:
            assert {503: 12} == await ward.send(12)
            assert {} == ward.ejected


class TestBoth:
    @on_stage
    async def test_envoy_ejects_for_itself(self, stage: Stage) -> None:
        """What Envoy has ejected gets what the picker sends there; once Envoy picks by itself it gets nothing."""

        def at_once(document: dict[str, Any]) -> None:
            (endpoints, _) = document["static_resources"]["clusters"]
            longest = {"base_ejection_time": "60s", "max_ejection_time": "60s"}
            endpoints["outlier_detection"] |= {"consecutive_5xx": 2, "interval": "0.1s", **longest}

        async with _ward(stage, prepare=at_once, outlier_detection=True, retries=0, mode="FailOpen") as ward:
            ward.ill.status = 500

            assert {500: 5, 200: 7} == await ward.send(12)
            await ward.picker.stop(0)
            assert {200: 12} == await ward.send(12)
            assert 5 == ward.ill.asked
