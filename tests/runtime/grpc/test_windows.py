"""Flow control, in both directions."""

from __future__ import annotations

import asyncio

from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import WindowUpdateFrame

from inferencepool.runtime.grpc import Closure, Limits, Reason
from tests.runtime.grpc.peer import Peer, message, messages
from tests.runtime.grpc.serving import SINK, Journal, Kept, ended, serving

MIB = 1024 * 1024


async def _sink(journal: Journal, peer: Peer) -> tuple[int, Kept]:
    stream = peer.open(SINK)
    before = len(journal.calls)
    await peer.flush()
    await journal.until(lambda: len(journal.calls) > before)
    await peer.settled()
    return stream, journal.calls[before]


def test_answer_waits_for_the_window_of_its_stream() -> None:
    """What exceeds the window waits for WINDOW_UPDATE or a setting."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port, settings={SettingCodes.INITIAL_WINDOW_SIZE: 100})
            peer.opens_windows = False
            stream, call = await _sink(journal, peer)
            call.stream.send(bytes(195), b"next")
            call.stream.end()
            await peer.until(lambda: len(peer.data(stream)) == 100)
            assert 109 == server.statistics().queued_bytes

            peer.h2.increment_flow_control_window(50, stream)
            await peer.flush()
            await peer.until(lambda: len(peer.data(stream)) == 150)
            assert not call.closures

            # A setting that opens the window of every stream.
            peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
            await peer.flush()
            await peer.over(stream)
            assert [bytes(195), b"next"] == messages(peer.data(stream))
            assert [ended()] == await journal.closed()
            await peer.close()

    asyncio.run(run())


def test_answers_wait_for_the_window_of_the_connection_in_turn() -> None:
    """RPCs that wait for the connection go on in their order."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port, settings={SettingCodes.INITIAL_WINDOW_SIZE: MIB})
            peer.opens_windows = False
            sinks = [await _sink(journal, peer) for _ in range(3)]
            for _, call in sinks:
                call.stream.send(bytes(50_000 - 5))
                call.stream.end()
            await peer.until(lambda: sum(len(peer.data(stream)) for stream, _ in sinks) == 65_535)
            assert [50_000, 15_535, 0] == [len(peer.data(stream)) for stream, _ in sinks]

            # The window of a stream alone changes nothing.
            peer.h2.increment_flow_control_window(1, sinks[1][0])
            peer.h2.ping(b"12345678")
            await peer.flush()
            peer.reads.clear()
            await peer.until(lambda: bool(peer.reads))
            assert 150_000 - 65_535 == server.statistics().queued_bytes

            for increment in (1, 10, 100_000):
                peer.h2.increment_flow_control_window(increment)
                await peer.flush()
            await peer.until(lambda: all(peer.ended(stream) for stream, _ in sinks))
            await peer.close()

    asyncio.run(run())


def test_window_that_shrinks_below_zero() -> None:
    """A setting may take back what was given."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            peer.opens_windows = False
            stream, call = await _sink(journal, peer)
            call.stream.send(bytes(1000))
            await peer.until(lambda: len(peer.data(stream)) == 1005)
            peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 500})
            await peer.flush()
            await peer.settled()
            peer.events.clear()
            await peer.flush()
            call.stream.send(b"later")
            call.stream.end()
            peer.h2.increment_flow_control_window(600, stream)
            await peer.flush()
            await peer.over(stream)
            assert message(b"later") == peer.data(stream)
            await peer.close()

    asyncio.run(run())


def test_overflow_of_one_rpc_resets_it() -> None:
    """Too many answers that wait reset the RPC."""

    async def run() -> None:
        journal = Journal()
        limits = Limits(queued_bytes=100_000, connection_queued_bytes=100_000)
        async with serving(journal, limits=limits) as server:
            peer = await Peer.connect(server.port)
            peer.opens_windows = False
            stream, call = await _sink(journal, peer)
            call.stream.send(bytes(160_000))
            assert 160_005 - 65_535 == server.statistics().queued_bytes
            call.stream.send(bytes(10_000))
            assert [] == call.closures
            call.stream.send(b"ignored")
            call.stream.end()
            await peer.over(stream)

            assert ErrorCodes.ENHANCE_YOUR_CALM == peer.reset(stream)
            assert [Closure(Reason.OVERFLOW)] == await journal.closed()
            assert 0 == server.statistics().queued_bytes
            await peer.close()

    asyncio.run(run())


def test_what_the_client_takes_is_not_queued() -> None:
    """A handler may send more than may be queued, if the windows are open."""

    async def run() -> None:
        journal = Journal()
        limits = Limits(queued_bytes=100_000, connection_queued_bytes=100_000)
        async with serving(journal, limits=limits) as server:
            peer = await Peer.connect(server.port, settings={SettingCodes.INITIAL_WINDOW_SIZE: MIB})
            peer.h2.increment_flow_control_window(MIB)
            stream, call = await _sink(journal, peer)
            for _ in range(6):
                call.stream.send(bytes(100_000))
            call.stream.end()
            await peer.over(stream)
            assert [bytes(100_000)] * 6 == messages(peer.data(stream))
            await peer.close()

    asyncio.run(run())


def test_windows_of_the_server_are_opened_again() -> None:
    """A client may send more than the windows hold."""

    async def run() -> None:
        journal = Journal()
        limits = Limits(stream_window=16_384, connection_window=65_535)
        async with serving(journal, limits=limits) as server:
            peer = await Peer.connect(server.port)
            stream, call = await _sink(journal, peer)
            data = message(bytes(range(256)) * 2000)
            sent = 0
            while sent < len(data):
                room = min(peer.h2.local_flow_control_window(stream), 16_384, len(data) - sent)
                if room:
                    peer.h2.send_data(stream, data[sent : sent + room])
                    sent += room
                    await peer.flush()
                else:
                    assert await peer.read()
            await journal.until(lambda: bool(call.messages))
            assert [data[5:]] == call.messages
            await peer.close()

    asyncio.run(run())


def test_large_messages_both_ways() -> None:
    """20 MiB come and go."""

    async def run() -> None:
        journal = Journal()
        limits = Limits(message_bytes=32 * MIB)
        async with serving(journal, limits=limits) as server:
            peer = await Peer.connect(server.port, settings={SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1})
            peer.h2.increment_flow_control_window(2**31 - 1 - 65_535)
            peer.opens_windows = False
            stream = peer.open()
            await peer.flush()
            await peer.settled()
            data = message(b"0123456789abcdef" * (20 * MIB // 16))
            sent = 0
            while sent < len(data):
                room = min(peer.h2.local_flow_control_window(stream), 16_384, len(data) - sent)
                if room:
                    peer.h2.send_data(stream, data[sent : sent + room])
                    sent += room
                    await peer.flush()
                else:
                    assert await peer.read()
            peer.h2.end_stream(stream)
            await peer.flush()
            await peer.over(stream)
            assert data == peer.data(stream)
            await peer.close()

    asyncio.run(run())


def test_client_that_does_not_read_stops_the_reading() -> None:
    """The socket is full: what the client sends waits on its side, and goes on when it reads."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port, settings={SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1})
            peer.h2.increment_flow_control_window(2**31 - 1 - 65_535)
            stream, call = await _sink(journal, peer)
            for _ in range(10):
                call.stream.send(bytes(4 * MIB))
            await asyncio.sleep(0)
            # Beyond what sockets hold, it waits as messages and not as bytes of the connection.
            await journal.until(lambda: True)
            assert server.statistics().queued_bytes > 10 * MIB
            peer.send(stream, b"while full")
            await peer.flush()
            call.stream.send(b"last")
            call.stream.end()
            await peer.over(stream)
            assert [4 * MIB] * 10 + [4] == [len(item) for item in messages(peer.data(stream))]
            assert [ended()] == await journal.closed()
            await peer.close()

    asyncio.run(run())


def test_stream_whose_window_overflows_is_reset() -> None:
    """A window beyond 2^31 - 1 breaks its stream only."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            stream, _ = await _sink(journal, peer)
            await peer.frames([WindowUpdateFrame(stream, 2**31 - 1)])
            assert [Closure(Reason.BROKEN, code=ErrorCodes.FLOW_CONTROL_ERROR)] == await journal.closed()
            await peer.over(stream)
            assert ErrorCodes.FLOW_CONTROL_ERROR == peer.reset(stream)
            await peer.close()

    asyncio.run(run())
