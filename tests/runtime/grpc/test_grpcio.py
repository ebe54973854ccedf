"""Real clients: grpcio, over plain connections and TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import grpc.aio  # type: ignore[import-untyped]  # as above
import pytest

from inferencepool.runtime.grpc import Closure, GrpcServer, Limits, Reason, Status
from inferencepool.runtime.tls._certificate import Certificate
from tests.patience import PATIENCE
from tests.runtime.grpc.peer import Peer
from tests.runtime.grpc.serving import ECHO, SINK, Journal, ended, serving

MIB = 1024 * 1024
UNLIMITED = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]


@asynccontextmanager
async def _channel(server: GrpcServer, certificate: Certificate | None) -> AsyncIterator[grpc.aio.Channel]:
    if certificate is None:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", UNLIMITED)
    else:
        credentials = grpc.ssl_channel_credentials(certificate.chain)
        channel = grpc.aio.secure_channel(f"localhost:{server.port}", credentials, UNLIMITED)
    async with channel:
        yield channel


@pytest.fixture(name="security", params=["plain", "tls"])
def _security(
    request: pytest.FixtureRequest, server_tls: ssl.SSLContext, certificate: Certificate
) -> tuple[ssl.SSLContext | None, Certificate | None]:
    return (server_tls, certificate) if request.param == "tls" else (None, None)


Security = tuple[ssl.SSLContext | None, Certificate | None]


def test_unary_with_metadata(security: Security) -> None:
    """One message each way, with metadata."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, tls=security[0]) as server, _channel(server, security[1]) as channel:
            call = channel.unary_unary(ECHO)
            metadata = (("x-name", "value"), ("x-data-bin", b"\0\xff"))
            assert b"data" == await call(b"data", metadata=metadata, timeout=PATIENCE)
            assert [ended()] == await journal.closed()
            headers = journal.calls[0].stream.headers
            assert ("value", "AP8") == (headers["x-name"], headers["x-data-bin"].rstrip("="))

    asyncio.run(run())


def test_thousand_small_messages(security: Security) -> None:
    """Question and answer, a thousand times on one stream."""

    async def run() -> None:
        async with serving(Journal(), tls=security[0]) as server, _channel(server, security[1]) as channel:
            call = channel.stream_stream(ECHO)()
            for number in range(1000):
                await call.write(number.to_bytes(4, "big") * 25)
                assert number.to_bytes(4, "big") * 25 == await call.read()
            await call.done_writing()
            assert grpc.aio.EOF is await call.read()
            assert grpc.StatusCode.OK is await call.code()

    asyncio.run(run())


def test_twenty_large_messages(security: Security) -> None:
    """80 MiB each way on one stream."""

    async def run() -> None:
        def requests() -> Iterator[bytes]:
            for number in range(20):
                yield bytes((number,)) * (4 * MIB)

        async with serving(Journal(), tls=security[0]) as server, _channel(server, security[1]) as channel:
            answers = [answer async for answer in channel.stream_stream(ECHO)(requests())]
            assert list(requests()) == answers

    asyncio.run(run())


def test_message_of_twenty_mebibytes_and_one_too_large() -> None:
    """The limit of a message is exact."""

    async def run() -> None:
        async with (
            serving(Journal(), limits=Limits(message_bytes=20 * MIB)) as server,
            _channel(server, None) as channel,
        ):
            data = b"abcd" * (5 * MIB)
            assert data == await channel.unary_unary(ECHO)(data)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(ECHO)(data + b"x")
            assert grpc.StatusCode.RESOURCE_EXHAUSTED is caught.value.code()
            assert "20971521 bytes is larger than the limit of 20971520" in caught.value.details()

    asyncio.run(run())


def test_status_and_text_arrive() -> None:
    """A status with a text of any characters arrives."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server, _channel(server, None) as channel:
            call = channel.stream_stream(SINK)()
            await call.write(b"x")
            await journal.until(lambda: bool(journal.calls and journal.calls[0].messages))
            journal.calls[0].stream.end(Status.DATA_LOSS, "10 % verloren, schöne Grüße\n")
            assert grpc.StatusCode.DATA_LOSS is await call.code()
            assert "10 % verloren, schöne Grüße\n" == await call.details()

    asyncio.run(run())


def test_unknown_method_and_deadline() -> None:
    """The client sees UNIMPLEMENTED and DEADLINE_EXCEEDED."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server, _channel(server, None) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await channel.unary_unary("/test.Service/Nothing")(b"")
            assert grpc.StatusCode.UNIMPLEMENTED is unknown.value.code()
            # Where the machine is so busy that the time is up before the server hears of the RPC, with more of it.
            for seconds in (0.05, 1, 10, 30):
                with pytest.raises(grpc.aio.AioRpcError) as late:
                    await channel.unary_unary(SINK)(b"", timeout=seconds)
                assert grpc.StatusCode.DEADLINE_EXCEEDED is late.value.code()
                if journal.calls:
                    break
            # Whose clock is first decides how the server sees it.
            (closure,) = await journal.closed()
            assert closure in {ended(Status.DEADLINE_EXCEEDED), Closure(Reason.RESET, code=8)}

    asyncio.run(run())


def test_cancellation_is_a_reset(security: Security) -> None:
    """A client that cancels is seen at once."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, tls=security[0]) as server, _channel(server, security[1]) as channel:
            call = channel.stream_stream(ECHO)()
            await call.write(b"x")
            assert b"x" == await call.read()
            call.cancel()
            assert [Closure(Reason.RESET, code=8)] == await journal.closed()

    asyncio.run(run())


def test_client_that_pauses_reading(security: Security) -> None:
    """Answers that nobody reads wait, and nothing else does."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, tls=security[0]) as server, _channel(server, security[1]) as channel:
            call = channel.stream_stream(SINK)()
            await call.write(b"x")
            await journal.until(lambda: bool(journal.calls))
            for number in range(10):
                journal.calls[0].stream.send(bytes((number,)) * (4 * MIB))
            journal.calls[0].stream.end()
            # Nobody reads yet: another RPC on the same connection goes on.
            assert b"beside" == await channel.unary_unary(ECHO)(b"beside")
            assert server.statistics().queued_bytes > MIB
            for number in range(10):
                assert bytes((number,)) * (4 * MIB) == await call.read()
            assert grpc.StatusCode.OK is await call.code()

    asyncio.run(run())


def test_five_hundred_rpcs_at_once(security: Security) -> None:
    """500 RPCs share one connection."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, tls=security[0]) as server, _channel(server, security[1]) as channel:
            calls = [channel.stream_stream(ECHO)() for _ in range(500)]
            for number, call in enumerate(calls):
                await call.write(b"%d" % number)
            assert [b"%d" % number for number in range(500)] == [await call.read() for call in calls]
            assert (500, 1) == (server.statistics().streams, server.statistics().connections)
            for call in calls:
                await call.done_writing()
            assert {grpc.StatusCode.OK} == {await call.code() for call in calls}
            assert [ended()] * 500 == await journal.closed(500)

    asyncio.run(run())


def test_gzip() -> None:
    """Compressed by gzip is read, by anything else is refused."""

    async def run() -> None:
        async with serving(Journal()) as server, _channel(server, None) as channel:
            data = b"compressible " * 10_000
            assert data == await channel.unary_unary(ECHO)(data, compression=grpc.Compression.Gzip)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(ECHO)(data, compression=grpc.Compression.Deflate)
            assert grpc.StatusCode.UNIMPLEMENTED is caught.value.code()

    asyncio.run(run())


def test_stop_lets_the_client_finish() -> None:
    """The client sees OK for what finishes and for what does not."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server, _channel(server, None) as channel:
            finishing, staying = channel.stream_stream(ECHO)(), channel.stream_stream(ECHO)()
            for call in (finishing, staying):
                await call.write(b"x")
                assert b"x" == await call.read()
            stopping = asyncio.ensure_future(server.stop(1))
            await finishing.write(b"y")
            assert b"y" == await finishing.read()
            await finishing.done_writing()
            assert grpc.StatusCode.OK is await finishing.code()
            assert grpc.StatusCode.OK is await staying.code()
            await stopping
            assert {ended(), Closure(Reason.STOPPED)} == set(await journal.closed(2))

    asyncio.run(run())


def test_blocking_client() -> None:
    """The blocking client works as the other one does."""

    async def run() -> None:
        def talk(port: int) -> list[bytes]:
            with grpc.insecure_channel(f"127.0.0.1:{port}", UNLIMITED) as channel:
                return list(channel.stream_stream(ECHO)(iter([b"a", b"b"]), timeout=PATIENCE))

        async with serving(Journal()) as server:
            assert [b"a", b"b"] == await asyncio.to_thread(talk, server.port)

    asyncio.run(run())


def test_protocol_must_be_negotiated(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    """A peer that does not ask for HTTP/2 is closed before a word is said."""

    async def run() -> None:
        async with serving(Journal(), tls=server_tls) as server:
            peer = await Peer.connect(server.port, tls=client_tls)
            await peer.until_end()
            assert [] == peer.events
            await peer.close()
            client_tls.set_alpn_protocols(["http/1.1", "h2"])
            good = await Peer.connect(server.port, tls=client_tls)
            stream = good.open(end=True)
            await good.flush()
            await good.over(stream)
            assert 0 == good.status(stream)
            await good.close()

    asyncio.run(run())
