"""What is refused when routes are added, and what grpcio's flow control does to them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import grpc.aio  # type: ignore[import-untyped]  # grpcio ships no types
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from inferencepool.errors import ConfigurationError
from inferencepool.runtime.aio import add_to_grpc_aio_server
from inferencepool.runtime.grpc import Closure, Reason, Stream
from tests.patience import PATIENCE
from tests.runtime.aio.both_servers import Recorder, serving

PATH = "/tests.Service/Method"
EOF = grpc.aio.EOF


@pytest.mark.parametrize("path", ["", "tests.Service/Method", "/tests.Service", "/a/b/c"])
def test_a_path_that_no_client_can_call_is_refused(path: str) -> None:
    """The message shows the path."""

    async def add() -> None:
        add_to_grpc_aio_server(grpc.aio.server(), {path: Recorder()})

    with pytest.raises(ConfigurationError, match=r"does not look like /package\.Service/Method") as caught:
        asyncio.run(add())
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize("queued_bytes", [0, -1, True, 1.5])
def test_a_limit_that_cannot_be_is_refused(queued_bytes: Any) -> None:
    """The message shows the value."""

    async def add() -> None:
        add_to_grpc_aio_server(grpc.aio.server(), {}, queued_bytes=queued_bytes)

    with pytest.raises(ConfigurationError, match=f"queued_bytes: {queued_bytes!r} is not a whole number above 0"):
        asyncio.run(add())


def test_missing_grpcio_is_named() -> None:
    """Only adding needs grpcio; importing does not."""
    script = (
        "import sys; sys.modules['grpc'] = None\n"
        "from inferencepool.runtime.aio import add_to_grpc_aio_server\n"
        "from inferencepool.errors import MissingExtraError\n"
        "try: add_to_grpc_aio_server(None, {})\n"
        "except MissingExtraError as error: print(error)\n"
    )
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert completed.stdout == "adding to a grpc.aio server needs grpcio: pip install grpcio\n"


def test_services_of_the_owner_go_on() -> None:
    """Routes stand beside what the server has."""

    async def own(request: bytes, _context: Any) -> bytes:
        return request[::-1]

    def echo(stream: Stream, what: object) -> None:
        if isinstance(what, bytes):
            stream.send(what)
            stream.end()

    async def run() -> None:
        server = grpc.aio.server()
        owned = {"Reverse": grpc.unary_unary_rpc_method_handler(own)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("owner.Service", owned),))
        add_to_grpc_aio_server(server, {PATH: Recorder(echo)})
        add_to_grpc_aio_server(server, {f"{PATH}2": Recorder(echo)})
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert await channel.unary_unary("/owner.Service/Reverse")(b"ab") == b"ba"
            assert await channel.unary_unary(PATH)(b"ab") == b"ab"
            assert await channel.unary_unary(f"{PATH}2")(b"ab") == b"ab"
        await server.stop(0)

    asyncio.run(run())


def test_a_client_that_does_not_read_is_not_read_either() -> None:
    """Beyond half of the limit nothing more is read; when the client reads, all goes on and nothing is lost."""
    size, count = 100_000, 100
    told = asyncio.Event()

    def echo(stream: Stream, what: object) -> None:
        if isinstance(what, bytes):
            stream.send(what)
            if len(call_of[0].told) == 8:
                told.set()
        else:
            stream.end()

    call_of: list[Any] = []

    class First(Recorder):
        def __call__(self, stream: Stream) -> Any:
            call_of.append(super().__call__(stream))
            return call_of[-1]

    async def run() -> None:
        async with serving("grpcio", {PATH: First(echo)}, queued_bytes=1_000_000) as channel:
            client = channel.stream_stream(PATH)()

            async def send() -> None:
                for number in range(count):
                    await client.write(bytes([number]) * size)
                await client.done_writing()

            sending = asyncio.create_task(send())
            await told.wait()
            # The limit holds 10 messages, and windows and buffers of HTTP/2 more, but far fewer than all. How many
            # more while the client reads is grpcio's affair: it makes its windows larger as it measures the link.
            stalled = -1
            while stalled < len(call_of[0].told):
                stalled = len(call_of[0].told)
                await asyncio.sleep(0.2)
            assert stalled < count
            received = []
            while (message := await client.read()) is not EOF:
                received.append(message)
            await sending
            assert received == [bytes([number]) * size for number in range(count)]
            assert await client.code() == grpc.StatusCode.OK

    asyncio.run(asyncio.wait_for(run(), PATIENCE))


def test_a_client_that_goes_while_a_message_is_sent_is_noticed() -> None:
    """The message that waits for room in the client's window does not hold the call."""

    def answer(stream: Stream, what: object) -> None:
        if isinstance(what, bytes):
            stream.send(b"x" * 10_000_000)
            stream.end()

    recorder = Recorder(answer)

    async def run() -> None:
        async with serving("grpcio", {PATH: recorder}) as channel:
            client = channel.stream_stream(PATH)()
            await client.write(b"go")
            call = await recorder.calls.get()
            client.cancel()
            await call.is_closed.wait()
            assert call.closure is not None
            assert call.closure.reason is Reason.RESET

    asyncio.run(asyncio.wait_for(run(), PATIENCE))


@pytest.mark.parametrize("ends_its_side", [True, False])
def test_a_reset_hides_a_half_close_that_comes_with_it(ends_its_side: bool) -> None:
    """END_STREAM and RST_STREAM in one packet, as Envoy sends them, look like RST_STREAM alone."""
    recorder = Recorder()
    names = [(":method", "POST"), (":path", PATH), (":scheme", "http"), (":authority", "localhost")]

    async def run() -> None:
        server = grpc.aio.server()
        add_to_grpc_aio_server(server, {PATH: recorder})
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        client = H2Connection(H2Configuration(client_side=True))
        client.initiate_connection()
        client.send_headers(1, [*names, ("content-type", "application/grpc"), ("te", "trailers")])
        client.send_data(1, b"\0\0\0\0\1x")
        writer.write(client.data_to_send())
        call = await recorder.calls.get()
        if ends_its_side:
            client.end_stream(1)
        client.reset_stream(1, 2)
        writer.write(client.data_to_send())
        await call.is_closed.wait()
        assert "half-closed" not in call.told
        assert call.closure == Closure(Reason.RESET)
        writer.close()
        await writer.wait_closed()
        await server.stop(0)

    asyncio.run(asyncio.wait_for(run(), PATIENCE))


def test_a_server_that_stops_ends_its_calls() -> None:
    """After its grace grpcio breaks them off."""
    recorder = Recorder()

    async def run() -> None:
        async with serving("grpcio", {PATH: recorder}) as channel:
            client = channel.stream_stream(PATH)()
            await client.write(b"go")
            call = await recorder.calls.get()
        await call.is_closed.wait()
        assert call.closure is not None
        assert call.closure.reason is Reason.RESET

    asyncio.run(asyncio.wait_for(run(), PATIENCE))
