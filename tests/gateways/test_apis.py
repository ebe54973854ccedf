"""Every API through every gateway, with the command `serve` behind it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, Final

import aiohttp
import attrs
import pytest

from tests.envoy.serving import Served
from tests.gateway.envoy import require_envoy
from tests.gateways.agentgateway import AgentGateway
from tests.gateways.apis import APIS, Api
from tests.gateways.conftest import Hall
from tests.gateways.envoys import EnvoyAiGateway, EnvoyGateway, Istio
from tests.gateways.model_server import EVENTS
from tests.gateways.nginx import NginxGatewayFabric

_Run = Callable[[Awaitable[Any]], Any]
_GATEWAYS: Final[dict[str, Any]] = {
    "agentgateway": AgentGateway,
    "istio": Istio,
    "envoy-ai-gateway": EnvoyAiGateway,
    "nginx-gateway-fabric": NginxGatewayFabric,
}
# It asks about requests with a body that nginx holds in memory, and turns all others away.
_NOT_ASKED: Final = {"models", "health", "cancel", "large-upload"}


@attrs.frozen
class Lane:
    """A gateway, the picker behind it, and a client before it."""

    name: str
    url: str
    picker: Served
    http: aiohttp.ClientSession

    async def send(self, api: Api, request_id: str) -> tuple[int, dict[str, str], bytes]:
        """Send a request of *api*, and read the whole answer."""
        headers = {**api.headers, "x-request-id": request_id}
        # The client warns of large bytes, and takes them as a file without a word.
        body = None if api.body is None else io.BytesIO(api.body)
        async with self.http.request(api.method, self.url + api.path, data=body, headers=headers) as response:
            answer = await response.read()
            return response.status, {name.lower(): value for name, value in response.headers.items()}, answer

    async def picked(self, request_id: str) -> dict[str, Any]:
        """Wait for what the picker says of a request."""
        while True:
            line = await self.picker.line("request picked")
            if line["request_id"] == request_id:
                return line


@pytest.fixture(name="lane", scope="module", params=_GATEWAYS)
def _lane(request: pytest.FixtureRequest, hall: Hall, runner: asyncio.Runner) -> Iterator[Lane]:
    kind = _GATEWAYS[request.param]
    if issubclass(kind, EnvoyGateway):
        require_envoy()
    resources = AsyncExitStack()

    async def start() -> Lane:
        picker = await resources.enter_async_context(hall.serve(secure=kind is EnvoyAiGateway))
        gateway = await resources.enter_async_context(kind(picker.address, hall.addresses))
        http = await resources.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        return Lane(request.param, gateway.url, picker, http)

    yield runner.run(start())
    runner.run(resources.aclose())


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_api(lane: Lane, api: Api, hall: Hall, run: _Run) -> None:
    """The request is picked for and arrives as it was sent, and the answer comes back whole, three times in turn."""
    if lane.name == "nginx-gateway-fabric" and api.name in _NOT_ASKED:
        status, _, _ = run(lane.send(api, f"{api.name}-refused"))
        assert 500 == status
        return
    for number in range(3):
        request_id = f"{api.name}-{number}"
        status, headers, answer = run(lane.send(api, request_id))
        assert 200 == status, answer[:500]
        told = [json.loads(event.removeprefix("data: ")) for event in _events(answer, is_streamed=api.is_streamed)]
        assert [(api.method, api.path)] * len(told) == [(each["method"], each["path"]) for each in told]
        sent = api.body or b""
        assert {(len(sent), hashlib.sha256(sent).hexdigest())} == {(each["length"], each["sha256"]) for each in told}
        line = run(lane.picked(request_id))
        assert headers["x-served-by"] == line["destination"]
        assert line["destination"] in hall.addresses
        assert api.model in (None, line["model"])


def _events(answer: bytes, *, is_streamed: bool) -> list[str]:
    if not is_streamed:
        return [answer.decode()]
    *events, last, rest = answer.decode().split("\n\n")
    assert ("data: [DONE]", "") == (last, rest)
    assert len(events) == EVENTS
    return events
