"""What the stand-ins share: the side of the client and that of the model servers, both HTTP/1.1 on real sockets."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, Self

import aiohttp
import attrs
import grpc.aio  # type: ignore[import-untyped]  # grpcio ships no types
from aiohttp import web
from multidict import CIMultiDict

from inferencepool.gateway import HostPort
from inferencepool.runtime.extproc import EXT_PROC_SERVICE

__all__ = ["DESTINATION", "MESSAGES", "PROCESS", "Failed", "Front", "Served"]

DESTINATION: Final = "x-gateway-destination-endpoint"
PROCESS: Final = f"/{EXT_PROC_SERVICE}/Process"
#: How gRPC clients are made here: with a connection of their own, and no limit for messages.
MESSAGES: Final = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]

_HOP_BY_HOP: Final = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "host"}
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None)


@attrs.frozen
class Failed(Exception):  # noqa: N818 - it is what the client gets
    """The gateway answers the client itself."""

    status: int
    text: str = ""
    headers: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Served:
    """
    What a model server answered.

    Attributes:
        response: Its status and headers, and its body to be read.
        address: Where it is.
    """

    response: aiohttp.ClientResponse
    address: str


class Front(ABC):
    """
    A gateway before model servers: takes requests, and leaves to its kind what happens to them.

    Attributes:
        picker: Where the endpoint picker is.
        addresses: The model servers of the pool.
        fails_open: Whether the pool fails open.
    """

    def __init__(self, picker: HostPort, addresses: Iterable[str], *, fails_open: bool = False) -> None:
        self.picker = picker
        self.addresses = tuple(addresses)
        self.fails_open = fails_open
        self.url = ""
        self._turns = itertools.cycle(self.addresses)
        self._resources = AsyncExitStack()
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0)
        self._http = await self._resources.enter_async_context(
            aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=_NO_TIMEOUT)
        )
        application = web.Application(client_max_size=64 << 20)
        application.add_routes([web.route("*", "/{path:.*}", self._serve)])
        # A request goes on when its client has gone, as it does behind the real ones.
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.001)
        await runner.setup()
        self._resources.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    @abstractmethod
    async def process(self, request: web.Request) -> web.StreamResponse:
        """
        Serve a request.

        Raises:
            Failed: The client gets the gateway's own answer.
        """

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self.process(request)
        except Failed as failed:
            return web.Response(status=failed.status, text=failed.text, headers=failed.headers)

    def somewhere(self) -> str:
        """Give the address of some model server of the pool, each in turn."""
        return next(self._turns)

    def channel(self) -> Any:
        """Make a connection to the picker."""
        return grpc.aio.insecure_channel(str(self.picker), MESSAGES)

    async def forward(self, request: web.Request, headers: CIMultiDict[str], body: Any, address: str) -> Served:
        """
        Send a request to a model server.

        Raises:
            Failed: It cannot be reached; the client gets 503.
        """
        assert self._http is not None
        url = f"http://{address}{request.raw_path}"
        try:
            response = await self._http.request(
                request.method, url, headers=onward(headers), data=body, allow_redirects=False
            )
        except aiohttp.ClientError as error:
            raise Failed(503, f"upstream call failed: {error}") from None
        return Served(response, address)


def onward(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    """Give the headers that go beyond one connection."""
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP)


async def write(response: web.StreamResponse, chunk: bytes) -> None:
    """Write *chunk* to the client, which may have gone."""
    with suppress(ConnectionError):
        await response.write(chunk)
