"""
A stand-in for agentgateway: its ext_proc client as of 2026, in front of model servers.

It is as strict as the real one: both bodies pass the picker in full duplex, a stream that ends before the response's
headers are answered is a 500 though the model server has answered, one that ends later cuts the response off without a
sign, a destination is one address, trailers are dropped, and nothing has a timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Self, final

import aiohttp
import grpc.aio  # type: ignore[import-untyped]  # grpcio ships no types
from aiohttp import web
from multidict import CIMultiDict

from inferencepool.errors import ConfigurationError
from inferencepool.gateway import HostPort
from tests.adapters.extproc.oracle import new_request, parse_response
from tests.gateways.front import DESTINATION, PROCESS, Failed, Front, Served, onward, write

__all__ = ["AgentGateway"]

_FULL_DUPLEX_STREAMED: Final = 4
_SERVED: Final = f"{DESTINATION}-served"
_REQUEST_KINDS: Final = {"request_headers", "request_body", "request_trailers"}
_ENDED: Final = None


@final
class AgentGateway(Front):
    """
    The gateway.

    Attributes:
        passthrough: Whether any address that the picker names is dialed; else it has to be one of the pool.
    """

    def __init__(self, *arguments: Any, passthrough: bool = False, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.passthrough = passthrough
        self._channel: Any = None

    async def __aenter__(self) -> Self:
        self._channel = await self._resources.enter_async_context(self.channel())
        return await super().__aenter__()

    async def process(self, request: web.Request) -> web.StreamResponse:
        """Ask the picker, the model server, and the picker again."""
        stream = _Stream(self._channel)
        try:
            return await self._exchange(request, stream)
        finally:
            await stream.close()

    async def _exchange(self, request: web.Request, stream: _Stream) -> web.StreamResponse:
        has_body = request.can_read_body
        headers = CIMultiDict(request.headers)
        skipped = False
        body: Any = None
        try:
            body = await _ask(stream, request, headers, has_body=has_body)
        except _NoMoreResponsesError:
            # A body is on its way to the picker by then, and cannot be taken back.
            if has_body or not self.fails_open:
                raise Failed(500, "ext_proc failed: no more response messages") from None
            skipped = True
        address = self._destination(headers, skipped=skipped)
        served = await self.forward(request, headers, body, address)
        immediate = stream.immediate
        if immediate is not None:
            raise immediate
        return await _hand_back(request, stream, served, skipped=skipped)

    def _destination(self, headers: CIMultiDict[str], *, skipped: bool) -> str:
        """Read where the request goes from its header, whoever put it there."""
        named = headers.get(DESTINATION)
        if named is None:
            if skipped:
                return self.somewhere()
            raise Failed(503, "no destination")
        try:
            place = HostPort.parse(named)
            is_address = place.is_ip
        except ConfigurationError:
            is_address = False
        if not is_address:
            raise Failed(503, "processing failed: EPP returned invalid address: invalid socket address syntax")
        if not self.passthrough and named not in self.addresses:
            raise Failed(503, "no healthy backends")
        return named


async def _ask(stream: _Stream, request: web.Request, headers: CIMultiDict[str], *, has_body: bool) -> Any:
    """Tell the picker of a request until it answers the headers, which it may change; give the body to send."""
    pseudo = [(":authority", request.host), (":method", request.method), (":path", request.raw_path)]
    first = _headers_message("request_headers", [*pseudo, (":scheme", "http")], headers, end_of_stream=not has_body)
    first.protocol_config.request_body_mode = _FULL_DUPLEX_STREAMED
    first.protocol_config.response_body_mode = _FULL_DUPLEX_STREAMED
    await stream.say(first)
    if has_body:
        stream.start(_tell_body(stream, "request_body", request.content))
    answer = await stream.request_answer()
    while answer.WhichOneof("kind") != "request_headers":
        answer = await stream.request_answer()
    _change(headers, answer.request_headers.response.header_mutation)
    if not has_body:
        return None
    # Whatever its length was, the body may have another one now.
    headers.popall("content-length", None)
    return _chunks(stream.request_answer, "request_body")


async def _hand_back(request: web.Request, stream: _Stream, served: Served, *, skipped: bool) -> web.StreamResponse:
    response = served.response
    headers = onward(response.headers.copy())
    if skipped:
        return await _copy(request, web.StreamResponse(status=response.status, headers=headers), response)
    has_body = request.method != "HEAD" and response.headers.get("content-length") != "0"
    status = [(":status", str(response.status))]
    told = _headers_message("response_headers", status, headers, end_of_stream=not has_body)
    _serve_at(told, served.address)
    try:
        await stream.say(told)
        if has_body:
            stream.start(_tell_body(stream, "response_body", response.content, served.address))
        answer = await stream.response_answer()
        while answer.WhichOneof("kind") != "response_headers":
            answer = await stream.response_answer()
    except _NoMoreResponsesError:
        # The model server has answered, and it does not help.
        raise Failed(500, "ext_proc failed: no more response messages") from None
    _change(headers, answer.response_headers.response.header_mutation)
    if not has_body:
        return web.Response(status=response.status, headers=headers)
    headers.popall("content-length", None)
    back = web.StreamResponse(status=response.status, headers=headers)
    await back.prepare(request)
    # A stream that ends here is the end of the body: nobody is told that it is not whole.
    async for chunk in _chunks(stream.response_answer, "response_body"):
        await write(back, chunk)
    with suppress(ConnectionError):
        await back.write_eof()
    return back


async def _copy(request: web.Request, back: web.StreamResponse, response: aiohttp.ClientResponse) -> web.StreamResponse:
    await back.prepare(request)
    async for chunk in response.content.iter_any():
        await write(back, chunk)
    with suppress(ConnectionError):
        await back.write_eof()
    return back


async def _tell_body(stream: _Stream, kind: str, content: aiohttp.StreamReader, address: str = "") -> None:
    """Tell the picker of a body, a chunk as it comes; its end is told with the last one, or by itself."""
    while True:
        chunk = await content.readany()
        message = new_request()
        part = getattr(message, kind)
        part.body, part.end_of_stream = chunk, content.at_eof()
        if address:
            _serve_at(message, address)
        await stream.say(message)
        if part.end_of_stream:
            return


async def _chunks(hear: Callable[[], Awaitable[Any]], kind: str) -> AsyncIterator[bytes]:
    """Give the chunks of a body that the picker hands back, to its end or that of the stream."""
    while True:
        try:
            answer = await hear()
        except (_NoMoreResponsesError, Failed):
            return
        if answer.WhichOneof("kind") != kind:
            if answer.WhichOneof("kind") == kind.replace("body", "trailers"):
                return
            continue
        mutation = getattr(answer, kind).response.body_mutation
        if mutation.WhichOneof("kind") != "streamed_response":
            return
        chunk = mutation.streamed_response
        if chunk.body:
            yield chunk.body
        if chunk.end_of_stream:
            return


def _headers_message(
    kind: str, pseudo: list[tuple[str, str]], headers: CIMultiDict[str], *, end_of_stream: bool
) -> Any:
    message = new_request()
    part = getattr(message, kind)
    part.end_of_stream = end_of_stream
    for name, value in [*pseudo, *((name.lower(), value) for name, value in headers.items())]:
        part.headers.headers.add(key=name.encode(), raw_value=value.encode("latin-1", "surrogateescape"))
    return message


def _serve_at(message: Any, address: str) -> None:
    """Report the endpoint that served, as every message about a response does."""
    metadata = message.metadata_context.filter_metadata.add(key="envoy.lb")
    metadata.value.fields.add(key=_SERVED).value.string_value = address


def _change(headers: CIMultiDict[str], mutation: Any) -> None:
    for name in mutation.remove_headers:
        headers.popall(name, None)
    for option in mutation.set_headers:
        value = (option.header.raw_value or option.header.value).decode("latin-1")
        headers[option.header.key.decode()] = value


class _NoMoreResponsesError(Exception):
    """The picker's stream is over, or was never there."""


@final
class _Stream:
    """One stream to the picker; what comes is sorted by whether it is about the request or about the response."""

    def __init__(self, channel: Any) -> None:
        self._call = channel.stream_stream(PROCESS)()
        self._about_request: asyncio.Queue[Any] = asyncio.Queue()
        self._about_response: asyncio.Queue[Any] = asyncio.Queue()
        self._tasks = [asyncio.create_task(self._read())]
        self.immediate: Failed | None = None

    def start(self, telling: Any) -> None:
        """Tell the picker something beside all else."""
        self._tasks.append(asyncio.create_task(telling))

    async def say(self, message: Any) -> None:
        """Tell the picker something; if it has gone, the next answer that is waited for says so."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(message.SerializeToString())

    async def request_answer(self) -> Any:
        """Wait for an answer about the request."""
        return await self._next(self._about_request)

    async def response_answer(self) -> Any:
        """Wait for an answer about the response."""
        return await self._next(self._about_response)

    async def _next(self, queue: asyncio.Queue[Any]) -> Any:
        answer = await queue.get()
        if answer is _ENDED:
            queue.put_nowait(_ENDED)
            raise _NoMoreResponsesError
        if answer.WhichOneof("kind") == "immediate_response":
            self.immediate = _to_failed(answer.immediate_response)
            raise self.immediate
        return answer

    async def _read(self) -> None:
        with suppress(grpc.aio.AioRpcError):
            while (data := await self._call.read()) is not grpc.aio.EOF:
                answer = parse_response(data)
                kind = answer.WhichOneof("kind")
                if kind in _REQUEST_KINDS or kind == "immediate_response":
                    self._about_request.put_nowait(answer)
                if kind not in _REQUEST_KINDS:
                    self._about_response.put_nowait(answer)
        self._about_request.put_nowait(_ENDED)
        self._about_response.put_nowait(_ENDED)

    async def close(self) -> None:
        """Say that there is no more, and hear what the picker has left to say."""
        for task in self._tasks[1:]:
            task.cancel()
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.done_writing()
        await asyncio.wait(self._tasks)


def _to_failed(immediate: Any) -> Failed:
    headers = {
        option.header.key.decode(): (option.header.raw_value or option.header.value).decode("latin-1")
        for option in immediate.headers.set_headers
    }
    return Failed(immediate.status.code, immediate.body.decode(), headers)
