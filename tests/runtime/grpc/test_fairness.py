"""One connection does not keep the others waiting."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from itertools import pairwise

import pytest
from h2.events import DataReceived, StreamEnded
from h2.settings import SettingCodes

from inferencepool.runtime.grpc import Limits
from inferencepool.runtime.grpc._connection import _TURN_STEPS, Connection
from inferencepool.runtime.grpc._exchanges import _EXPIRED_AT_ONCE, _MESSAGES_AT_ONCE
from inferencepool.runtime.grpc._writer import _TURN_EXCHANGES
from tests.runtime.grpc.peer import Peer, message, messages
from tests.runtime.grpc.serving import SINK, Journal, serving

COUNT = 1400


def _burst(peer: Peer, kind: str) -> None:
    """Prepare as much work as one read of the socket takes."""
    if kind == "rpcs":
        for _ in range(COUNT):
            peer.send(peer.open(SINK), b"a", end=True)
    else:
        stream = peer.open(SINK)
        for _ in range(COUNT // 70):
            peer.h2.send_data(stream, message(b"a") * 70)


def _bring(connection: Connection, data: bytes) -> None:
    """Let *data* arrive at once."""
    while data:
        buffer = connection.get_buffer(-1)
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        connection.buffer_updated(size)
        data = data[size:]


@pytest.mark.parametrize("kind", ["rpcs", "messages"])
def test_a_burst_is_handled_in_turns(kind: str) -> None:
    """However much one read of a connection brings, another one is served after some frames or messages of it."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=Limits(idle_frames=10 * COUNT)) as server:
            (first,) = [await Peer.connect(server.port)]
            await first.settled()
            (connection,) = server._connections
            _burst(first, kind)
            data = first.h2.data_to_send()
            turns = []

            def others() -> None:
                done = sum(len(call.messages) for call in journal.calls)
                turns.append(done)
                if done < COUNT:
                    asyncio.get_running_loop().call_soon(others)

            # As a fast network brings it.
            asyncio.get_running_loop().call_soon(others)
            _bring(connection, data)
            await journal.until(lambda: sum(len(call.messages) for call in journal.calls) == COUNT)
            await asyncio.sleep(0)
            steps = [after - before for before, after in zip([0, *turns], turns, strict=False)]
            assert max(steps) <= _TURN_STEPS * _MESSAGES_AT_ONCE
            await first.close()

    asyncio.run(run())


@pytest.mark.parametrize("together", [1, 10], ids=["a frame each", "one frame"])
def test_a_message_that_unpacks_to_a_large_one_ends_the_turn(together: int) -> None:
    """Several of them in one read are unpacked in as many turns, with others in between."""
    packed = gzip.compress(bytes(1 << 20))
    bomb = b"\x01" + len(packed).to_bytes(4, "big") + packed

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            await peer.settled()
            (connection,) = server._connections
            stream = peer.open(SINK, ("grpc-encoding", "gzip"))
            for _ in range(10 // together):
                peer.h2.send_data(stream, together * bomb)
            counts = []

            def others() -> None:
                counts.append(sum(len(call.messages) for call in journal.calls))
                if counts[-1] < 10:
                    asyncio.get_running_loop().call_soon(others)

            asyncio.get_running_loop().call_soon(others)
            _bring(connection, peer.h2.data_to_send())
            await journal.until(lambda: sum(len(call.messages) for call in journal.calls) == 10)
            await asyncio.sleep(0)
            steps = [after - before for before, after in zip([0, *counts], counts, strict=False)]
            assert max(steps) == 1
            await peer.close()

    asyncio.run(run())


async def _steps(count: Callable[[], int], until: int) -> list[int]:
    """Give by how much *count* grew in each round of the event loop, until it is at *until*."""
    seen = [count()]
    async with asyncio.timeout(60):
        while seen[-1] < until:
            await asyncio.sleep(0)
            seen.append(count())
    return [after - before for before, after in pairwise(seen)]


async def _crowd(journal: Journal, port: int, **settings: int) -> Peer:
    """Open many RPCs on one connection."""
    peer = await Peer.connect(port, settings={getattr(SettingCodes, name): value for name, value in settings.items()})
    for _ in range(COUNT):
        peer.open(SINK)
    await peer.flush()
    await journal.until(lambda: len(journal.calls) == COUNT)
    await peer.settled()
    return peer


def test_answers_that_may_leave_at_once_leave_in_turns() -> None:
    """One frame of settings opens the windows of all RPCs: others get their turn before all of them have written."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=Limits(idle_frames=10 * COUNT)) as server:
            peer = await _crowd(journal, server.port, INITIAL_WINDOW_SIZE=0)
            for call in journal.calls:
                call.stream.send(b"a")
                call.stream.end()
            assert COUNT * 6 == server.statistics().queued_bytes
            peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
            await peer.flush()
            steps = await _steps(lambda: sum(bool(call.closures) for call in journal.calls), COUNT)
            # The turn of a connection that reads ends with one of writing.
            assert max(steps) <= 2 * _TURN_EXCHANGES
            await peer.until(lambda: COUNT == sum(isinstance(event, StreamEnded) for event in peer.events))
            await peer.close()

    asyncio.run(run())


def test_rpcs_that_come_too_late_end_in_turns() -> None:
    """Many RPCs whose message does not come are ended some at a time."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=Limits(idle_frames=10 * COUNT, message_seconds=0.5)) as server:
            peer = await _crowd(journal, server.port)
            steps = await _steps(lambda: server.statistics().limits["message_seconds"], COUNT)
            assert max(steps) <= _EXPIRED_AT_ONCE
            await peer.close()

    asyncio.run(run())


def test_the_end_of_a_server_waits_for_no_turn() -> None:
    """What can be sent is sent before the connection is closed, in however many RPCs."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=Limits(idle_frames=10 * COUNT)) as server:
            peer = await _crowd(journal, server.port)
            for call in journal.calls:
                call.stream.send(b"last")
            await server.stop(0)
            await peer.until_end()
            data = {event.stream_id: event.data for event in peer.events if isinstance(event, DataReceived)}
            ends = {event.stream_id for event in peer.events if isinstance(event, StreamEnded)}
            assert {1 + 2 * number: message(b"last") for number in range(COUNT)} == data
            assert data.keys() == ends
            await peer.close()

    asyncio.run(run())


def test_what_follows_a_burst_keeps_its_order() -> None:
    """Messages of one RPC arrive in order and once, however many turns they take."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            stream = peer.open()
            sent = [b"%d" % number for number in range(20_000)]
            for start in range(0, len(sent), 1000):
                peer.send(stream, *sent[start : start + 1000])
                await peer.flush()
                await peer.until(lambda: peer.h2.local_flow_control_window(stream) > 20_000)
            peer.h2.end_stream(stream)
            await peer.flush()
            await peer.over(stream)
            assert sent == messages(peer.data(stream))
            await peer.close()

    asyncio.run(run())
