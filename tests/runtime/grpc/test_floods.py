"""Peers that mean harm, or are broken."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Iterator

import pytest
from h2.errors import ErrorCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from inferencepool.runtime.grpc import Closure, Limits, Reason
from tests.patience import PATIENCE
from tests.runtime.grpc.peer import Peer, close, message
from tests.runtime.grpc.serving import LOOPBACK, SINK, Journal, serving

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FIELDS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", SINK),
    (":authority", "test"),
    ("content-type", "application/grpc"),
]
# Literals that leave the table alone, so that one block serves any number of streams.
BLOCK = Encoder().encode([(name, value, True) for name, value in FIELDS])
COUNT = 5000


def _headers(stream_id: int, *flags: str) -> HeadersFrame:
    frame = HeadersFrame(stream_id, data=BLOCK)
    frame.flags |= {"END_HEADERS", *flags}
    return frame


def _floods() -> Iterator[tuple[str, list[Frame]]]:
    """Give frames that cost time and carry nothing; stream 1 is open already."""
    yield "ping", [PingFrame(0, opaque_data=bytes(8))] * COUNT
    yield "ping answers", [PingFrame(0, flags=["ACK"], opaque_data=bytes(8))] * COUNT
    yield "settings", [SettingsFrame(0)] * COUNT
    yield "settings answers", [SettingsFrame(0, flags=["ACK"])] * COUNT
    yield "priority", [PriorityFrame(1, depends_on=3)] * COUNT
    yield "window of the connection", [WindowUpdateFrame(0, 1)] * COUNT
    yield "window of a stream", [WindowUpdateFrame(1, 1)] * COUNT
    unknown = ExtensionFrame(0x42, 0, body=b"x")
    unknown.body_len = 1
    yield "unknown frames", [unknown] * COUNT
    yield "empty data", [DataFrame(1)] * COUNT
    yield "padded empty data", [DataFrame(1, pad_length=20, flags=["PADDED"])] * COUNT
    yield "short data", [DataFrame(1, message(bytes(1_000_000))[:5]), *[DataFrame(1, b"x")] * COUNT]
    resets = [(_headers(number), RstStreamFrame(number)) for number in range(3, 2 * COUNT, 2)]
    yield "rapid reset", [frame for pair in resets for frame in pair]
    yield "headers only", [_headers(number) for number in range(3, 2 * COUNT, 2)]
    yield "headers with an end", [_headers(number, "END_STREAM") for number in range(3, 2 * COUNT, 2)]
    after: list[Frame] = [RstStreamFrame(1)]
    yield "windows after a reset", [*after, *[WindowUpdateFrame(1, 1)] * COUNT]
    yield "resets after a reset", after * COUNT
    yield "headers after a reset", [*after, *[_headers(1, "END_STREAM")] * COUNT]
    yield "data after a reset", [*after, *[DataFrame(1, b"x")] * COUNT]


@pytest.mark.parametrize(("name", "frames"), list(_floods()), ids=lambda value: value if isinstance(value, str) else "")
def test_flood_is_stopped(name: str, frames: list[Frame]) -> None:
    """A flood of any kind of frame that carries no work ends the connection."""

    async def run() -> None:
        journal = Journal()
        limits = Limits(idle_frames=500, idle_frames_per_second=1.0, streams=100)
        async with serving(journal, limits=limits) as server:
            peer = await Peer.connect(server.port)
            peer.opens_windows = False
            assert 1 == peer.open(SINK)
            await peer.flush()
            await journal.until(lambda: bool(journal.calls))
            await peer.settled()
            sending = asyncio.ensure_future(peer.frames(frames))
            await peer.until_end()
            await sending

            assert [ErrorCodes.ENHANCE_YOUR_CALM] == peer.gone(), name
            assert 1 == server.statistics().floods
            assert 100 >= max(1, server.statistics().streams)
            await peer.close()
            await journal.closed(len(journal.calls))

    asyncio.run(run())


def test_work_allows_frames_without_work() -> None:
    """A client that answers every message with PING and WINDOW_UPDATE is no flood."""

    async def run() -> None:
        journal = Journal()
        limits = Limits(idle_frames=100, idle_frames_per_second=0.001)
        async with serving(journal, limits=limits) as server:
            peer = await Peer.connect(server.port)
            stream = peer.open()
            for _ in range(500):
                peer.send(stream, b"work")
                peer.h2.ping(bytes(8))
                peer.h2.increment_flow_control_window(1)
                peer.h2.increment_flow_control_window(1, stream)
            peer.h2.end_stream(stream)
            await peer.flush()
            await peer.over(stream)
            assert 0 == peer.status(stream)
            await peer.close()

    asyncio.run(run())


def test_large_answers_allow_windows() -> None:
    """A client that takes one long answer opens its windows many times, and sends nothing else."""

    async def run() -> None:
        journal = Journal()
        limits = Limits(idle_frames=100, idle_frames_per_second=0.001)
        async with serving(journal, limits=limits) as server:
            peer = await Peer.connect(server.port)
            stream = peer.open(SINK)
            await peer.flush()
            await journal.until(lambda: bool(journal.calls))
            journal.calls[0].stream.send(bytes(20_000_000))
            journal.calls[0].stream.end()
            await peer.over(stream)
            assert 20_000_005 == len(peer.data(stream))
            await peer.close()

    asyncio.run(run())


def _continuations(count: int, size: int) -> list[Frame]:
    return [HeadersFrame(1, data=BLOCK), *[ContinuationFrame(1, data=bytes(size))] * count]


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (_continuations(200, 0), ErrorCodes.PROTOCOL_ERROR),
        (_continuations(20, 16_384), ErrorCodes.ENHANCE_YOUR_CALM),
        # A small block that stands for a large list: one entry of the table, many times.
        (
            [
                HeadersFrame(
                    1,
                    data=Encoder().encode([("x", "y" * 2000)]) + b"\xbe" * 200,
                    flags=["END_HEADERS"],
                )
            ],
            ErrorCodes.ENHANCE_YOUR_CALM,
        ),
        ([DataFrame(0x7FFFFFFF, b"x")], ErrorCodes.PROTOCOL_ERROR),
        ([ContinuationFrame(1, data=b"")], ErrorCodes.PROTOCOL_ERROR),
        ([_headers(2)], ErrorCodes.PROTOCOL_ERROR),
        ([_headers(5), _headers(3)], ErrorCodes.PROTOCOL_ERROR),
        ([HeadersFrame(1, data=b"\xff\xff\xff\xff\xff", flags=["END_HEADERS"])], ErrorCodes.PROTOCOL_ERROR),
    ],
)
def test_broken_frames_end_the_connection(frames: list[Frame], code: ErrorCodes) -> None:
    """Frames that HTTP/2 forbids end the connection with the right code."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            await peer.settled()
            await peer.frames(frames)
            await peer.until_end()
            assert [code] == peer.gone()
            assert 1 == server.statistics().floods + server.statistics().violations
            await peer.close()

    asyncio.run(run())


def test_data_after_the_end_of_a_stream_resets_it_alone() -> None:
    """What breaks one stream ends that stream only."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            stream = peer.open(SINK, end=True)
            await peer.frames([DataFrame(stream, b"late")])
            assert [Closure(Reason.BROKEN, code=ErrorCodes.STREAM_CLOSED)] == await journal.closed()
            again = peer.open(SINK, end=True)
            await peer.frames([_headers(again)])
            await peer.until(lambda: peer.reset(again) is not None)
            assert [ErrorCodes.STREAM_CLOSED] * 2 == [peer.reset(stream), peer.reset(again)]
            assert [] == peer.gone()
            await peer.close()

    asyncio.run(run())


def test_headers_on_a_stream_that_ended_end_the_connection() -> None:
    """Both sides had ended it, so nothing of it can be under way."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            streams = [peer.open(end=True) for _ in range(100)]
            await peer.flush()
            await peer.over(streams[-1])
            # Another one makes the library forget those that are closed.
            last = peer.open(end=True)
            await peer.flush()
            await peer.over(last)
            await peer.frames([_headers(streams[0])])
            await peer.until_end()
            assert [ErrorCodes.STREAM_CLOSED] == peer.gone()
            await peer.close()

    asyncio.run(run())


@pytest.mark.parametrize("start", [b"", PREFACE[:10], PREFACE])
def test_peer_that_says_too_little_is_closed(start: bytes) -> None:
    """A peer that does not speak HTTP/2 in time is closed."""

    async def run() -> None:
        async with serving(Journal(), limits=Limits(handshake_seconds=0.05)) as server:
            reader, writer = await _having_said(server.port, start)
            data = await asyncio.wait_for(reader.read(), PATIENCE)
            # One that says nothing at all is no more than a socket, and hears nothing either.
            assert (bytes((0, 0, 0, ErrorCodes.SETTINGS_TIMEOUT)) if start else b"") == data[-4:]
            assert 1 == server.statistics().limits["handshake_seconds"]
            await close(writer)

    asyncio.run(run())


@pytest.mark.parametrize("begin", [HeadersFrame(1, data=BLOCK).serialize(), _headers(1).serialize()[:-1]])
def test_headers_that_do_not_end_are_given_up(begin: bytes) -> None:
    """Headers that begin must end in time."""

    async def run() -> None:
        async with serving(Journal(), limits=Limits(header_seconds=0.05)) as server:
            peer = await Peer.connect(server.port)
            await peer.settled()
            await peer.raw(begin)
            await peer.until_end()
            assert [ErrorCodes.ENHANCE_YOUR_CALM] == peer.gone()
            await peer.close()

    asyncio.run(run())


def test_headers_in_parts_are_read() -> None:
    """Headers may come byte by byte."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            await peer.settled()
            data = b"".join(_headers(number).serialize() for number in (1, 3, 5))
            for position in range(len(data)):
                await peer.raw(data[position : position + 1])
                # Parts must not be joined on the way; a PING cannot stand within headers.
                await asyncio.sleep(0)
            await journal.until(lambda: len(journal.calls) == 3)
            await peer.close()

    asyncio.run(run())


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"])
def test_other_protocols_are_closed(data: bytes) -> None:
    """A peer that speaks something else is closed."""

    async def run() -> None:
        async with serving(Journal()) as server:
            reader, writer = await asyncio.open_connection(LOOPBACK, server.port)
            writer.write(data)
            await asyncio.wait_for(reader.read(), PATIENCE)
            assert 1 == server.statistics().violations
            await close(writer)

    asyncio.run(run())


def test_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    """The idle limit counts from the end of the last RPC."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=Limits(idle_seconds=0.1)) as server:
            reader, writer = await _having_said(
                server.port, PREFACE + SettingsFrame(0).serialize() + _headers(1).serialize()
            )
            idle = await Peer.connect(server.port)
            await idle.until_end()
            assert [ErrorCodes.NO_ERROR] == idle.gone()
            await idle.close()

            assert [False] == [bool(call.closures) for call in journal.calls]
            writer.write(RstStreamFrame(1, error_code=ErrorCodes.CANCEL).serialize())
            end = GoAwayFrame(0, last_stream_id=1, error_code=ErrorCodes.NO_ERROR).serialize()
            assert (await asyncio.wait_for(reader.read(), PATIENCE)).endswith(end)
            await close(writer)

    asyncio.run(run())


def test_connections_beyond_the_limit_are_closed() -> None:
    """One connection too many is closed where all others have RPCs, and those stay."""

    async def run() -> None:
        async with serving(Journal(), limits=Limits(connections=1)) as server:
            first = await Peer.connect(server.port)
            first.open(SINK)
            await first.flush()
            await first.settled()
            second = await Peer.connect(server.port)
            await second.until_end()
            assert [] == second.events
            assert 1 == server.statistics().connections
            assert 1 == server.statistics().limits["connections"]
            await first.close()
            await second.close()

    asyncio.run(run())


def test_peer_that_does_not_close_is_cut_off() -> None:
    """To stop does not depend on the peer."""

    async def run() -> None:
        async with serving(Journal(), limits=Limits(linger_seconds=0.05)) as server:
            peer = await Peer.connect(server.port)
            await peer.settled()
            await server.stop(0)
            assert 0 == server.statistics().connections
            await peer.abort()

    asyncio.run(run())


async def _having_said(port: int, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect; *data* is there when the server takes the connection, however slow the machine is."""
    sock = socket.create_connection((LOOPBACK, port))
    sock.sendall(data)
    return await asyncio.open_connection(sock=sock)


async def _throw(port: int, data: bytes) -> bytes:
    """Send *data*, end, and give what comes back."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        writer.write(data)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), PATIENCE)
    except OSError:
        return b""
    finally:
        await close(writer)


def _traffic() -> bytes:
    """Give what a client really sends."""
    frames: list[Frame] = [SettingsFrame(0), WindowUpdateFrame(0, 1000)]
    for number in (1, 3, 5):
        frames += [_headers(number), DataFrame(number, message(b"some data")), PingFrame(0, opaque_data=bytes(8))]
    frames += [DataFrame(1, flags=["END_STREAM"]), RstStreamFrame(3, error_code=2), WindowUpdateFrame(5, 10)]
    return b"".join(frame.serialize() for frame in frames)


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_and_changed_traffic_harm_nobody(seed: int) -> None:
    """Other connections go on, and nothing is left behind; only the library's own errors occur."""

    async def run() -> None:
        source = random.Random(seed)
        traffic = _traffic()
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        journal = Journal()
        async with serving(journal) as server:
            good = await Peer.connect(server.port)
            for _ in range(60):
                changed = bytearray(traffic)
                for _ in range(source.randrange(1, 6)):
                    changed[source.randrange(len(changed))] = source.randrange(256)
                await asyncio.gather(
                    _throw(server.port, PREFACE + source.randbytes(source.randrange(200))),
                    _throw(server.port, PREFACE + bytes(changed)),
                    _throw(server.port, PREFACE + traffic[: source.randrange(len(traffic))]),
                )
            stream = good.open()
            good.send(stream, b"still here", end=True)
            await good.flush()
            await good.over(stream)
            assert 0 == good.status(stream)
            await good.close()
        assert [] == failures

    asyncio.run(run())


def test_no_tls_where_tls_is_wanted(server_tls: ssl.SSLContext) -> None:
    """Plain bytes do not become a connection where TLS is wanted."""

    async def run() -> None:
        async with serving(Journal(), tls=server_tls) as server:
            await _throw(server.port, PREFACE + _traffic())
            assert 0 == server.statistics().connections_total

    asyncio.run(run())
