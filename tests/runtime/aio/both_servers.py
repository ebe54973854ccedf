"""Our own server and one of grpcio, with the same routes, and channels to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio  # type: ignore[import-untyped]  # grpcio ships no types

from inferencepool.runtime.aio import add_to_grpc_aio_server
from inferencepool.runtime.grpc import CallFactory, Closure, GrpcServer, Limits, Stream

SERVERS = ["own", "grpcio"]
# Unlimited messages, and a proxy of the environment does not count.
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]


@asynccontextmanager
async def serving(
    server: str,
    routes: Mapping[str, CallFactory],
    *,
    queued_bytes: int = 64 * 1024 * 1024,
    on_error: Callable[[Exception], None] | None = None,
) -> AsyncIterator[Any]:
    """Serve *routes* while the block runs; gives a channel of grpcio."""
    more: dict[str, Any] = {} if on_error is None else {"on_error": on_error}
    if server == "own":
        own = GrpcServer(routes, limits=Limits(queued_bytes=queued_bytes), **more)
        await own.start("127.0.0.1", 0)
        port, stop = own.port, own.stop
    else:
        theirs = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        add_to_grpc_aio_server(theirs, routes, queued_bytes=queued_bytes, **more)
        port, stop = theirs.add_insecure_port("127.0.0.1:0"), theirs.stop
        await theirs.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
            yield channel
    finally:
        await stop(0)


class Recording:
    """A call that notes what it is told, and answers as a test wants."""

    def __init__(self, stream: Stream, answer: Callable[[Stream, object], None]) -> None:
        self.stream = stream
        self.told: list[object] = []
        self.closure: Closure | None = None
        self.is_closed = asyncio.Event()
        self._answer = answer

    def message(self, data: bytes) -> None:
        """Note a message."""
        self._note(data)

    def half_closed(self) -> None:
        """Note the half-close."""
        self._note("half-closed")

    def closed(self, closure: Closure) -> None:
        """Note the end."""
        self.closure = closure
        self.told.append("closed")
        self.is_closed.set()

    def _note(self, what: object) -> None:
        self.told.append(what)
        self._answer(self.stream, what)


class Recorder:
    """Makes recording calls and keeps them."""

    def __init__(self, answer: Callable[[Stream, object], None] = lambda _stream, _what: None) -> None:
        self.calls: asyncio.Queue[Recording] = asyncio.Queue()
        self._answer = answer

    def __call__(self, stream: Stream) -> Recording:
        """Make a call."""
        call = Recording(stream, self._answer)
        self.calls.put_nowait(call)
        return call
