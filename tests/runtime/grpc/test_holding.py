"""What clients make the server hold is bounded for all of them together."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

from inferencepool.runtime.grpc import Call, Closure, Limits, Reason, Status, Stream
from tests.patience import PATIENCE
from tests.runtime.grpc.peer import Peer, message
from tests.runtime.grpc.serving import SINK, Journal, Kept, serving

KEEP = "/test.Service/Keep"
MIB = 1 << 20
# Two of them fit the window of a stream.
HALF = MIB // 2 - 5


class _Keeper(Kept):
    """Holds every message, and says so; ends where that is too much."""

    def message(self, data: bytes) -> None:
        super().message(data)
        if not self.stream.hold(sum(map(len, self.messages))):
            self.messages.clear()
            self.stream.hold(0)
            self.stream.end(Status.UNAVAILABLE, "no room")


def _pour(peer: Peer, stream: int, data: bytes) -> None:
    """Prepare *data* in frames as large as they may be."""
    for start in range(0, len(data), 16_384):
        peer.h2.send_data(stream, data[start : start + 16_384])


async def _until(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds, which tells nobody."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.001)


def _limits(**more: Any) -> Limits:
    return Limits(message_bytes=MIB, partial_bytes=2 * MIB, server_bytes=4 * MIB, **more)


def test_what_calls_hold_counts() -> None:
    """Whoever would go beyond the bound of a connection is told no; what it lets go is free again."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, {KEEP: journal.keep(_Keeper)}, limits=_limits()) as server:
            peer = await Peer.connect(server.port)
            await peer.settled()
            for number in range(3):
                _pour(peer, peer.open(KEEP), message(bytes(100)) if number == 2 else message(bytes(HALF)) * 2)
                await peer.flush()
            await peer.over(5)
            assert Status.UNAVAILABLE == peer.status(5)
            assert 4 * HALF == server.statistics().partial_bytes
            assert 1 == server.statistics().limits["partial_bytes"]
            await peer.close()
            await journal.closed(3)
            assert 0 == server.statistics().partial_bytes

    asyncio.run(run())


def test_compressed_messages_hold_no_more_than_there_is_room_for() -> None:
    """A few bytes of gzip on any number of streams and connections hold no more than the server may hold."""

    async def run() -> None:
        journal = Journal()
        packed = message(gzip.compress(bytes(MIB)), 1)
        async with serving(journal, {KEEP: journal.keep(_Keeper)}, limits=_limits()) as server:
            peers = [await Peer.connect(server.port) for _ in range(4)]
            most = 0
            for peer in peers:
                for _ in range(4):
                    stream = peer.open(KEEP, grpc_encoding="gzip")
                    peer.h2.send_data(stream, packed)
                    await peer.flush()
                    calls = len(journal.calls)
                    await journal.until(lambda: len(journal.calls) > calls - 1)  # noqa: B023 - at once
                    most = max(most, server.statistics().partial_bytes)
            await journal.until(lambda: len(journal.calls) == 16)
            for peer in peers:
                await peer.until(lambda: sum(peer.status(stream) is not None for stream in (1, 3, 5, 7)) >= 2)  # noqa: B023 - at once
            assert max(most, server.statistics().partial_bytes) <= 4 * MIB
            for peer in peers:
                statuses = {peer.status(stream) for stream in (1, 3, 5, 7)} - {None}
                assert statuses <= {Status.RESOURCE_EXHAUSTED, Status.UNAVAILABLE}
                await peer.close()

    asyncio.run(run())


def test_messages_in_part_are_bounded_for_all_connections() -> None:
    """A connection that keeps to its own bound is refused where all together hold too much."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=_limits()) as server:
            peers = [await Peer.connect(server.port) for _ in range(5)]
            for number, peer in enumerate(peers, 1):
                await peer.settled()
                _pour(peer, peer.open(SINK), message(bytes(MIB - 5))[:-1])
                await peer.flush()
                if number < 5:
                    await _until(lambda: server.statistics().partial_bytes == number * (MIB - 1))  # noqa: B023 - at once
            for peer in peers[4:]:
                await peer.over(1)
                assert Status.RESOURCE_EXHAUSTED == peer.status(1)
            statistics = server.statistics()
            assert statistics.partial_bytes <= 4 * MIB
            assert statistics.limits["server_bytes"] >= 1
            for peer in peers:
                await peer.close()

    asyncio.run(run())


def test_answers_that_wait_count_for_the_server() -> None:
    """Clients that do not read make the server hold a part of what it may, and no more."""

    async def run() -> None:
        journal = Journal()
        limits = _limits(queued_bytes=3 * MIB, connection_queued_bytes=3 * MIB)
        async with serving(journal, limits=limits) as server:
            peers = [await Peer.connect(server.port) for _ in range(2)]
            for number, peer in enumerate(peers, 1):
                peer.opens_windows = False
                peer.open(SINK)
                await peer.flush()
                await peer.settled()
                await journal.until(lambda: len(journal.calls) == number)  # noqa: B023 - at once
            for call in journal.calls:
                call.stream.send(bytes(7 * MIB // 4))
            await journal.closed(1)
            assert [[Closure(Reason.OVERFLOW)], []] == [call.closures for call in journal.calls]
            assert server.statistics().queued_bytes <= 3 * MIB
            assert 1 == server.statistics().limits["server_bytes"]
            for peer in peers:
                await peer.abort()

    asyncio.run(run())


def test_large_headers_count() -> None:
    """Lists of headers that are large and nothing else hold no more than the server may hold."""

    async def run() -> None:
        journal = Journal()
        limits = Limits(message_bytes=1000, partial_bytes=60_000, server_bytes=60_000)
        async with serving(journal, limits=limits) as server:
            peer = await Peer.connect(server.port)
            await peer.settled()
            # Beyond what fits into one frame there would be CONTINUATION.
            streams = [peer.open(SINK, ("x", "a" * 15_000)) for _ in range(6)]
            await peer.flush()
            await peer.over(streams[-1])
            assert Status.RESOURCE_EXHAUSTED == peer.status(streams[-1])
            assert server.statistics().partial_bytes <= 60_000
            await peer.close()

    asyncio.run(run())


def test_an_rpc_that_never_says_anything() -> None:
    """Headers without a message, and a message without an end, are over after a time; silence between is none."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=Limits(message_seconds=0.05)) as server:
            peer = await Peer.connect(server.port)
            headers_only, in_part, between = peer.open(SINK), peer.open(SINK), peer.open(SINK)
            peer.h2.send_data(in_part, message(b"whole") + message(b"part")[:-1])
            peer.send(between, b"whole")
            await peer.flush()
            await peer.over(headers_only)
            await peer.over(in_part)
            assert [Status.DEADLINE_EXCEEDED] * 2 == [peer.status(headers_only), peer.status(in_part)]
            assert 2 == server.statistics().limits["message_seconds"]
            assert 1 == server.statistics().streams
            assert 0 == server.statistics().partial_bytes
            peer.h2.end_stream(between)
            await peer.flush()
            await journal.until(lambda: "half_closed" in journal.calls[2].events)
            await peer.close()

    asyncio.run(run())


def test_rpcs_of_all_connections_are_bounded() -> None:
    """One RPC too many for the server is refused, so that it can be tried elsewhere."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=Limits(server_streams=2)) as server:
            peers = [await Peer.connect(server.port) for _ in range(3)]
            for number, peer in enumerate(peers, 1):
                stream = peer.open(SINK)
                await peer.flush()
                if number < 3:
                    await journal.until(lambda: len(journal.calls) == number)  # noqa: B023 - at once
            await peers[2].over(stream)
            assert 7 == peers[2].reset(stream)
            assert 1 == server.statistics().limits["server_streams"] == server.statistics().streams_refused
            for peer in peers:
                await peer.close()

    asyncio.run(run())


def test_no_call_is_told_after_the_end() -> None:
    """Holding after the end counts nothing."""

    class Late(Kept):
        def closed(self, closure: Closure) -> None:
            super().closed(closure)
            assert self.stream.hold(1000)

    def make(stream: Stream) -> Call:
        call = Late(journal, stream)
        journal.calls.append(call)
        return call

    journal = Journal()

    async def run() -> None:
        async with serving(journal, {KEEP: make}) as server:
            peer = await Peer.connect(server.port)
            peer.open(KEEP)
            await peer.flush()
            await peer.until(lambda: server.statistics().streams == 1)
            await peer.close()

    asyncio.run(run())
