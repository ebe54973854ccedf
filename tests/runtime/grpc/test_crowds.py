"""Many connections that have nothing to say, or too much."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import socket
import ssl
import subprocess
import sys
import weakref
from asyncio.sslproto import SSLProtocol
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import pytest

from inferencepool.runtime.grpc import Limits, Reason
from tests.patience import PATIENCE
from tests.runtime.grpc.peer import Peer, close
from tests.runtime.grpc.serving import ECHO, LOOPBACK, SINK, Journal, serving

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"


async def _served(port: int, tls: ssl.SSLContext | None = None) -> Peer:
    """Connect and have one RPC served."""
    peer = await Peer.connect(port, tls=tls)
    stream = peer.open(ECHO)
    peer.send(stream, b"x", end=True)
    await peer.flush()
    await peer.over(stream)
    assert 0 == peer.status(stream)
    return peer


@pytest.mark.parametrize("start", [b"", b"PRI * HT", b"\x16\x03\x01"])
@pytest.mark.parametrize("secure", [False, True])
def test_silent_connections_lock_nobody_out(
    secure: bool, start: bytes, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """As many as the server takes, of which none says what it should, and one that does is served all the same."""
    client_tls.set_alpn_protocols(["h2"])
    tls = (server_tls, client_tls) if secure else (None, None)

    async def run() -> None:
        limits = Limits(connections=20, handshakes=5)
        async with AsyncExitStack() as stack, serving(Journal(), limits=limits, tls=tls[0]) as server:
            good = await _served(server.port, tls[1])
            for _ in range(50):
                _, writer = await asyncio.open_connection(LOOPBACK, server.port)
                stack.push_async_callback(close, writer)
                writer.write(start)
            late = await _served(server.port, tls[1])
            stream = good.open(ECHO)
            good.send(stream, b"still here", end=True)
            await good.flush()
            await good.over(stream)
            assert len(server._guests) <= 20
            acted = server.statistics().limits
            if not secure or start != b"PRI * HT":
                assert acted["connections"] + acted["handshakes"] > 0
            await good.close()
            await late.close()

    asyncio.run(run())


@pytest.mark.parametrize("stops", [False, True])
def test_a_connection_with_many_rpcs_breaks(stops: bool) -> None:
    """They are let go of in turns, what they say meanwhile goes nowhere, and an ending server waits for all of them."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            for _ in range(300):
                peer.open(SINK)
            await peer.flush()
            await journal.until(lambda: len(journal.calls) == 300)
            await peer.abort()
            left = [300]
            stopping: asyncio.Future[None] | None = None
            async with asyncio.timeout(PATIENCE):
                while left[-1]:
                    await asyncio.sleep(0)
                    left.append(sum(not call.closures for call in journal.calls))
                    if 0 < left[-1] < 300:
                        assert left[-1] == server.statistics().streams
                        assert 1 == server.statistics().connections
                        for call in journal.calls:
                            call.stream.send(b"x")
                        journal.calls[-1].stream.end()
                        if stops and stopping is None:
                            stopping = asyncio.ensure_future(server.stop(0))
                    assert stopping is None or not stopping.done() or not left[-1]
            assert max(before - after for before, after in pairwise(left)) <= 64
            assert {Reason.LOST} == {call.closures[0].reason for call in journal.calls}
            if stopping is not None:
                await stopping

    asyncio.run(run())


def test_idle_connections_give_way() -> None:
    """The one that has had no RPC for the longest time is told goodbye; one with an RPC stays."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=Limits(connections=2)) as server:
            busy = await Peer.connect(server.port)
            busy.open(SINK)
            await busy.flush()
            await journal.until(lambda: bool(journal.calls))
            idle = await _served(server.port)
            new = await _served(server.port)
            await idle.until_end()
            assert [0] == idle.gone()
            assert [] == busy.gone()
            assert 1 == server.statistics().limits["connections"]
            for peer in (busy, idle, new):
                await peer.close()

    asyncio.run(run())


def test_one_peer_does_not_take_all_places() -> None:
    """Beyond its limit it is refused where its connections have RPCs; another address is served."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=Limits(connections_per_peer=2), host="0.0.0.0") as server:  # noqa: S104 - has 127.0.0.2
            peers = [await Peer.connect(server.port) for _ in range(2)]
            for number, peer in enumerate(peers, 1):
                peer.open(SINK)
                await peer.flush()
                await journal.until(lambda: len(journal.calls) == number)  # noqa: B023 - at once
            third = await Peer.connect(server.port)
            await third.until_end()
            assert 1 == server.statistics().limits["connections_per_peer"]

            reader, writer = await asyncio.open_connection(LOOPBACK, server.port, local_addr=("127.0.0.2", 0))
            other = Peer(reader, writer)
            other.h2.initiate_connection()
            await other.flush()
            await other.settled()
            for peer in (*peers, third, other):
                await peer.close()

    asyncio.run(run())


_AT_THE_LIMIT = """
import asyncio, os, resource
from inferencepool.runtime.grpc import GrpcServer, Limits
from inferencepool.runtime.logs import start_logging
from tests.runtime.grpc.peer import Peer
from tests.runtime.grpc.serving import ECHO, Echo, Journal

async def main():
    journal = Journal()
    server = GrpcServer({ECHO: journal.keep(Echo)}, limits=Limits(linger_seconds=0.05))
    await server.start("127.0.0.1", 0)
    peer = await Peer.connect(server.port)
    stream = peer.open(ECHO)
    await peer.flush()
    await peer.settled()
    # Work that must go on, and no descriptor for anybody else.
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, used + 20))
    print(server.port, flush=True)
    await asyncio.to_thread(input)
    peer.send(stream, b"x", end=True)
    await peer.flush()
    await peer.over(stream)
    print("served", peer.status(stream), server.statistics().limits["descriptors"], flush=True)
    await peer.close()
    await asyncio.to_thread(input)
    late = await Peer.connect(server.port)
    await late.settled()
    print("late", flush=True)
    await late.close()
    await server.stop(0)

end = start_logging()
asyncio.run(main())
end()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts descriptors as Linux shows them")
def test_no_descriptors_left() -> None:
    """Work goes on, one line tells of it, and connections are taken again when there are descriptors."""
    with subprocess.Popen(
        [sys.executable, "-c", _AT_THE_LIMIT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        port = int(process.stdout.readline())
        crowd = [socket.create_connection((LOOPBACK, port)) for _ in range(60)]
        for each in crowd:
            each.sendall(b"PRI * HTTP/2.0\r\n\r\n")
        # Long enough for thousands of lines, if each attempt made one.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.stdin.write("\n")
        served = process.stdout.readline()
        found = re.fullmatch(r"served 0 (\d+)\n", served)
        assert found, served
        assert 1 <= int(found[1]) <= 20
        for each in crowd:
            each.close()
        process.stdin.write("\n")
        assert "late\n" == process.stdout.readline()
        process.stdin.close()
        lines = process.stderr.read().splitlines()
        assert 0 == process.wait(PATIENCE)
    assert 1 == sum("limit=descriptors" in line for line in lines), lines[:5]
    assert all("limit reached" in line for line in lines), lines[:5]


def test_handshakes_that_are_given_up_leave_nothing(server_tls: ssl.SSLContext) -> None:
    """What TLS made for them, 256 KiB each, goes with them: no circle keeps it until somebody collects garbage."""

    def protocols() -> int:
        return sum(issubclass(type(each), SSLProtocol) for each in gc.get_objects())

    async def run() -> None:
        async with AsyncExitStack() as stack, serving(Journal(), limits=Limits(handshakes=2), tls=server_tls) as server:
            before = protocols()
            for _ in range(10):
                _, writer = await asyncio.open_connection(LOOPBACK, server.port)
                stack.push_async_callback(close, writer)
                writer.write(b"\x16\x03\x01")
            async with asyncio.timeout(PATIENCE):
                while server.statistics().limits["handshakes"] < 8:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.001)
            for _ in range(10):
                await asyncio.sleep(0)
            assert protocols() - before <= 2

    gc.collect()
    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01"])
def test_handshakes_that_take_too_long_are_told(
    start: bytes, server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether the peer never begins or never ends one, it is closed, counted, and named in the log."""

    async def run() -> None:
        async with serving(Journal(), limits=Limits(handshake_seconds=0.05), tls=server_tls) as server:
            reader, writer = await asyncio.open_connection(LOOPBACK, server.port)
            writer.write(start)
            assert b"" == await asyncio.wait_for(reader.read(), 60)
            assert 1 == server.statistics().limits["handshake_seconds"]
            assert 0 == len(server._guests)
            await close(writer)

    asyncio.run(run())
    assert ["limit reached"] == [record.getMessage() for record in caplog.records]


def test_handshakes_that_fail_are_no_limit(server_tls: ssl.SSLContext) -> None:
    """A peer that goes, or that cannot speak, has reached none."""

    async def run() -> None:
        async with serving(Journal(), tls=server_tls) as server:
            for start in (b"\x16\x03\x01", b"\x16\x03\x01\x00\x05hello"):
                _, writer = await asyncio.open_connection(LOOPBACK, server.port)
                writer.write(start)
                await close(writer)
            async with asyncio.timeout(PATIENCE):
                while server._guests or server._acceptors[0].arrivals:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.001)
            assert 0 == sum(server.statistics().limits.values())

    asyncio.run(run())


@pytest.mark.skipif(not THOROUGH, reason="takes thousands of descriptors")
@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01"])
def test_memory_of_silent_tls_connections(start: bytes, server_tls: ssl.SSLContext) -> None:
    """Two thousand of them take less than 100 MiB."""

    def resident() -> int:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no path
            return int(file.read().split()[1]) * 4096

    async def run() -> None:
        limits = Limits(connections=5000, connections_per_peer=None)
        async with serving(Journal(), limits=limits, tls=server_tls) as server:
            before = resident()
            crowd = []
            for _ in range(2000):
                each = socket.socket()
                each.setblocking(False)
                await asyncio.get_running_loop().sock_connect(each, (LOOPBACK, server.port))
                await asyncio.get_running_loop().sock_sendall(each, start)
                crowd.append(each)
            await asyncio.sleep(0.5)
            assert resident() - before < 100 << 20
            for each in crowd:
                each.close()

    asyncio.run(run())


def test_a_connection_that_is_gone_needs_no_collector() -> None:
    """Nothing of it is left for the collector, which a crowd of such connections would keep busy for long."""

    async def run() -> None:
        async with serving(Journal()) as server:
            peer = await Peer.connect(server.port)
            await peer.settled()
            (connection,) = server._connections
            parts = (connection, connection._http2, connection._exchanges)
            gone: list[weakref.ref[Any]] = [*map(weakref.ref, parts)]
            del parts
            del connection
            gc.disable()
            try:
                await peer.close()
                async with asyncio.timeout(PATIENCE):
                    while any(each() for each in gone):  # noqa: ASYNC110 - nobody tells
                        await asyncio.sleep(0.001)
            finally:
                gc.enable()

    asyncio.run(run())
