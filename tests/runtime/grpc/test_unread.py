"""Clients that do not take their answers lose them, and nobody else does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from inferencepool.runtime.grpc import Closure, Limits, Reason
from tests.runtime.grpc.peer import Peer, message
from tests.runtime.grpc.serving import SINK, Journal, Kept, serving

MIB = 1 << 20
WIDE = 2**31 - 1
LIMITS = Limits(
    message_bytes=MIB,
    partial_bytes=2 * MIB,
    server_bytes=8 * MIB,
    queued_bytes=3 * MIB,
    connection_queued_bytes=3 * MIB,
    queued_seconds=1000,
    message_seconds=1e6,
)


class _Leaping(asyncio.SelectorEventLoop):
    """A loop whose time leaps when a test wants it to."""

    leapt = 0.0

    def time(self) -> float:
        return super().time() + self.leapt


async def _leap(seconds: float) -> None:
    """Let what is due happen, then *seconds* pass, and what is due by then happen."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _Leaping)
    for leap in (0.0, seconds):
        loop.leapt += leap
        for _ in range(5):
            await asyncio.sleep(0)


def _run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=_Leaping) as runner:
        runner.run(scenario())


async def _sink(journal: Journal, port: int, *, window: int = 65_535) -> tuple[Peer, Kept]:
    """Open an RPC on a connection of its own, whose windows the client does not open again."""
    peer = await Peer.connect(port, settings={SettingCodes.INITIAL_WINDOW_SIZE: window})
    peer.opens_windows = False
    before = len(journal.calls)
    if window > 65_535:
        peer.h2.increment_flow_control_window(window - 65_535)
    peer.open(SINK)
    await peer.flush()
    await journal.until(lambda: len(journal.calls) > before)
    await peer.settled()
    return peer, journal.calls[before]


def test_a_client_that_takes_nothing_loses_the_rpc() -> None:
    """Answers wait for a time, and no longer, whether or not more of them come."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=LIMITS) as server:
            peer, call = await _sink(journal, server.port)
            call.stream.send(bytes(MIB))
            await _leap(600)
            call.stream.send(bytes(MIB))
            assert 2 * MIB + 10 - 65_535 == server.statistics().queued_bytes
            await _leap(500)
            assert 0 == server.statistics().queued_bytes
            await peer.over(1)
            assert ErrorCodes.ENHANCE_YOUR_CALM == peer.reset(1)
            assert [Closure(Reason.OVERFLOW)] == await journal.closed()
            assert 1 == server.statistics().limits["queued_seconds"]
            await peer.close()

    _run(run)


def test_a_client_that_takes_little_keeps_the_rpc() -> None:
    """A byte in each span of time is enough, for as long as it takes."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=LIMITS) as server:
            peer, call = await _sink(journal, server.port)
            peer.h2.increment_flow_control_window(MIB)
            call.stream.send(bytes(MIB))
            await peer.until(lambda: len(peer.data(1)) == 65_535)
            for taken in range(65_536, 65_546):
                await _leap(900)
                peer.h2.increment_flow_control_window(1, 1)
                await peer.flush()
                await peer.until(lambda: len(peer.data(1)) == taken)  # noqa: B023 - at once
            assert [] == call.closures
            assert 0 == server.statistics().limits["queued_seconds"]
            await peer.close()

    _run(run)


def test_what_is_taken_in_time_leaves_nothing_to_wait_for() -> None:
    """An RPC whose answers were all taken may be silent for as long as it likes."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=LIMITS) as server:
            peer, call = await _sink(journal, server.port)
            call.stream.send(bytes(65_535))
            peer.h2.increment_flow_control_window(MIB)
            peer.h2.increment_flow_control_window(MIB, 1)
            await peer.flush()
            await peer.until(lambda: len(peer.data(1)) == 65_540)
            await _leap(5000)
            assert [] == call.closures
            await peer.close()

    _run(run)


def test_a_client_that_does_not_read_its_socket_loses_the_connection() -> None:
    """With windows as wide as can be it is no other; nobody could tell it anything."""

    async def run() -> None:
        journal = Journal()
        limits = Limits(queued_seconds=1000, message_seconds=1e6)
        async with serving(journal, limits=limits) as server:
            peer, call = await _sink(journal, server.port, window=WIDE)
            for _ in range(12):
                call.stream.send(bytes(4 * MIB))
            await asyncio.sleep(0)
            assert server.statistics().queued_bytes > MIB
            await _leap(900)
            assert [] == call.closures
            # Whether it took something at the beginning of a span is seen at its end.
            for _ in range(2):
                await _leap(1001)
            assert [Closure(Reason.LOST)] == await journal.closed()
            assert 0 == server.statistics().queued_bytes
            assert 1 == server.statistics().limits["queued_seconds"]
            await peer.abort()

    _run(run)


def test_a_client_that_reads_its_socket_slowly_keeps_the_connection() -> None:
    """Although it never empties it, and what waits behind it does not move."""

    async def run() -> None:
        journal = Journal()
        limits = Limits(queued_seconds=1000, message_seconds=1e6)
        async with serving(journal, limits=limits) as server:
            peer, call = await _sink(journal, server.port, window=WIDE)
            for _ in range(12):
                call.stream.send(bytes(4 * MIB))
            await asyncio.sleep(0)
            waits = server.statistics().queued_bytes
            (connection,) = server._connections
            for _ in range(6):
                seen = connection._writer._look()
                # The system tells a moment later that the peer has room again.
                async with asyncio.timeout(60):
                    while connection._writer._look() == seen:
                        assert await peer.read()
                        await asyncio.sleep(0)
                await _leap(900)
                assert [] == call.closures
            assert 0 < server.statistics().queued_bytes <= waits
            await peer.abort()
            await journal.closed()

    _run(run)


def test_clients_that_do_not_read_leave_room_for_requests() -> None:
    """However much they ask for, half of what may be held is for requests that are not whole."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=LIMITS) as server:
            hostile = [await _sink(journal, server.port) for _ in range(4)]
            for _, call in hostile:
                call.stream.send(bytes(2 * MIB))
            assert MIB < server.statistics().queued_bytes <= 4 * MIB
            assert server.statistics().limits["server_bytes"] >= 2

            held, others = 0, [await Peer.connect(server.port) for _ in range(4)]
            for peer in others:
                await peer.settled()
                stream, data = peer.open(SINK), message(bytes(MIB - 5))[:-1]
                for start in range(0, len(data), 16_384):
                    peer.h2.send_data(stream, data[start : start + 16_384])
                await peer.flush()
                held += len(data)
                async with asyncio.timeout(60):
                    while server.statistics().partial_bytes < held:  # noqa: ASYNC110 - nobody tells
                        await asyncio.sleep(0.001)
            for peer in (*others, *(peer for peer, _ in hostile)):
                await peer.abort()

    _run(run)


def test_who_has_taken_nothing_for_longest_goes_first() -> None:
    """Where there is no room for more answers, those go that nobody takes, and not those that move."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=LIMITS) as server:
            slow, moving = await _sink(journal, server.port)
            stuck, waiting = await _sink(journal, server.port)
            slow.h2.increment_flow_control_window(MIB)
            moving.stream.send(bytes(3 * MIB // 2))
            waiting.stream.send(bytes(3 * MIB // 2))
            slow.h2.increment_flow_control_window(1, 1)
            await slow.flush()
            await slow.until(lambda: len(slow.data(1)) == 65_536)

            third, newest = await _sink(journal, server.port)
            newest.stream.send(bytes(2 * MIB))
            await stuck.over(1)
            assert [[], [Closure(Reason.OVERFLOW)], []] == [each.closures for each in (moving, waiting, newest)]
            assert server.statistics().queued_bytes <= 4 * MIB
            for peer in (slow, stuck, third):
                await peer.close()

    _run(run)
