"""The service on a real socket, and a client of grpcio that speaks in values."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import grpc.aio  # type: ignore[import-untyped]  # as above

from inferencepool.adapters.extproc import Answer, Exchange, Message
from inferencepool.runtime.extproc import EXT_PROC_SERVICE, extproc_limits, extproc_routes
from inferencepool.runtime.grpc import GrpcServer, Limits
from tests.adapters.extproc.oracle import parse_response, to_answer, write_request
from tests.adapters.extproc.sessions import Bench
from tests.patience import PATIENCE

PATH = f"/{EXT_PROC_SERVICE}/Process"
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]


def written(message: Message) -> bytes:
    """Give *message* as the protobuf library writes it."""
    data: bytes = write_request(message).SerializeToString()
    return data


class Proxy:
    """One RPC, from the side of the proxy."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def say(self, *messages: Message | bytes) -> None:
        """Send *messages*."""
        for message in messages:
            await self.call.write(message if isinstance(message, bytes) else written(message))

    async def hear(self, count: int) -> list[Answer]:
        """Wait for *count* answers."""
        return [to_answer(parse_response(await self.call.read())) for _ in range(count)]

    async def status(self) -> tuple[Any, str]:
        """Wait for the end; there must be no answer before it."""
        try:
            assert grpc.aio.EOF == await self.call.read()
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details()
        return await self.call.code(), await self.call.details()

    async def finish(self) -> None:
        """Say that there is no more, and wait for the end."""
        await self.call.done_writing()
        assert (grpc.StatusCode.OK, "") == await self.status()


@attrs.frozen
class Service:
    """The service while it runs."""

    server: GrpcServer
    channel: Any
    bench: Bench
    errors: list[Exception]
    _news: asyncio.Event

    def open(self) -> Proxy:
        """Begin an RPC."""
        return Proxy(self.channel.stream_stream(PATH)(timeout=PATIENCE))

    async def exchanges(self, count: int = 1) -> list[Exchange]:
        """Wait until *count* requests are over; give what became of them."""
        await self.until(lambda: len(self.bench.kept.exchanges) >= count)
        return self.bench.kept.exchanges

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds after a request was over."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def serving(bench: Bench, limits: Limits | None = None) -> AsyncIterator[Service]:
    """Serve the processor of *bench*; at the end see that every session is closed."""
    news = asyncio.Event()
    bench.kept.on_change = news.set
    errors: list[Exception] = []
    limits = limits or extproc_limits(bench.processor)
    server = GrpcServer(extproc_routes(bench.processor), limits=limits, on_error=errors.append)
    await server.start("127.0.0.1", 0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", _OPTIONS) as channel:
            yield Service(server, channel, bench, errors, news)
    finally:
        async with asyncio.timeout(PATIENCE):
            await server.stop(0)
    assert 0 == bench.processor.statistics().sessions
    bench.processor.close()
    assert (0, 0, 0) == bench.counts
