"""
A stand-in for NGINX Gateway Fabric: its ext_proc client as of 2026, and what njs and nginx make of it.

It is as strict as the real one: the picker hears no pseudo headers and no protocol config, then the body in one
message and no more. Of the answer the destination counts, and nothing else: a refusal is a picker that fails.
A request without a body is not asked about to the end, nor one whose body nginx does not keep in memory.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, final

import grpc.aio  # type: ignore[import-untyped]  # grpcio ships no types
from aiohttp import web
from multidict import CIMultiDict

from tests.adapters.extproc.oracle import new_request, parse_response
from tests.gateways.front import DESTINATION, PROCESS, Failed, Front, onward

__all__ = ["NginxGatewayFabric"]

# Seconds and bytes: what nginx and njs have by default.
_FETCH_TIMEOUT: Final = 20.0
_BODY_BUFFER: Final = 16 << 10
_BARE: Final = "<html>\r\n<head><title>500 Internal Server Error</title></head>\r\n</html>\r\n"


@final
class NginxGatewayFabric(Front):
    """
    The gateway.

    Attributes:
        fetch_timeout: Seconds after which the picker is given up.
        body_buffer: Most bytes of a body that nginx keeps in memory, where njs can read it.
    """

    def __init__(
        self, *arguments: Any, fetch_timeout: float = _FETCH_TIMEOUT, body_buffer: int = _BODY_BUFFER, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self.fetch_timeout = fetch_timeout
        self.body_buffer = body_buffer

    async def process(self, request: web.Request) -> web.StreamResponse:
        """Ask the picker, then send the request as it came to a model server."""
        headers = CIMultiDict(request.headers)
        body = await request.read()
        try:
            async with asyncio.timeout(self.fetch_timeout):
                address = await self._ask(headers, body if len(body) <= self.body_buffer else b"")
        except TimeoutError:
            address = ""
        if not address:
            if not self.fails_open:
                raise Failed(500, _BARE, {"content-type": "text/html"})
            address = self.somewhere()
        if "," in address:
            raise Failed(500, _BARE, {"content-type": "text/html"})  # invalid port in upstream
        served = await self.forward(request, headers, body or None, address)
        answer = await served.response.read()
        return web.Response(status=served.response.status, headers=onward(served.response.headers.copy()), body=answer)

    async def _ask(self, headers: CIMultiDict[str], body: bytes) -> str:
        """Give the destination; empty where there is none, for whatever reason."""
        first = new_request()
        first.request_headers.SetInParent()
        told = [("X-EPP-Host", self.picker.host), ("X-EPP-Port", str(self.picker.port)), *headers.items()]
        for name, value in told:
            if name.lower() not in {"host", "transfer-encoding"}:
                first.request_headers.headers.headers.add(key=name.title().encode(), value=value.encode("latin-1"))
        try:
            # A connection for each request.
            async with self.channel() as channel:
                call = channel.stream_stream(PROCESS)()
                await call.write(first.SerializeToString())
                if not body:
                    return ""  # "request body is empty": the connection is closed over it
                second = new_request()
                # njs reads a body as text.
                second.request_body.body = body.decode("utf-8", "replace").encode()
                second.request_body.end_of_stream = True
                await call.write(second.SerializeToString())
                await call.done_writing()
                return await _destination(call)
        except grpc.aio.AioRpcError:
            return ""


async def _destination(call: Any) -> str:
    """Read the answers to the end of the stream, which has to come."""
    found = ""
    while (data := await call.read()) is not grpc.aio.EOF:
        answer = parse_response(data)
        if answer.WhichOneof("kind") == "immediate_response":
            return ""
        for option in answer.request_headers.response.header_mutation.set_headers:
            if option.header.key == DESTINATION.encode():
                found = option.header.raw_value.decode()
    return found
