"""Drain, stop, and what peers do at the end."""

from __future__ import annotations

import asyncio
import ssl
from math import inf, nan

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

from inferencepool.errors import ConfigurationError
from inferencepool.runtime.grpc import Closure, GrpcServer, Limits, Reason, Status
from tests.runtime.grpc.peer import Peer, messages
from tests.runtime.grpc.serving import LOOPBACK, SINK, Journal, ended, serving

LAST_ID = 2**31 - 1


def test_rpcs_in_flight_finish_within_the_grace() -> None:
    """Stopping asks clients to leave, and serves what is open."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            stream = peer.open()
            peer.send(stream, b"before")
            await peer.flush()
            await peer.until(lambda: bool(peer.data(stream)))
            stopping = asyncio.ensure_future(server.stop(60))
            await peer.until(lambda: bool(peer.gone()))
            assert [ErrorCodes.NO_ERROR] == peer.gone()
            assert (LAST_ID).to_bytes(4, "big") in peer.reads[-1]
            assert server.is_stopping
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(LOOPBACK, server.port)

            peer.send(stream, b"after", end=True)
            await peer.flush()
            await peer.over(stream)
            assert [b"before", b"after"] == messages(peer.data(stream))
            assert 0 == peer.status(stream)
            assert [ended()] == await journal.closed()
            await peer.until_end()
            await peer.close()
            await stopping

    asyncio.run(run())


def test_rpcs_that_do_not_finish_end_with_status_ok() -> None:
    """To Envoy this means that the exchange goes on without the processor."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peers = [await Peer.connect(server.port) for _ in range(3)]
            for peer in peers:
                peer.send(peer.open(), b"x")
                peer.open(SINK)
                await peer.flush()
                await peer.until(lambda: bool(peer.data(1)))  # noqa: B023 - used at once
                peer.events.clear()
            await journal.until(lambda: len(journal.calls) == 6)
            stopping = asyncio.ensure_future(server.stop(0.01))
            for peer in peers:
                await peer.until_end()
                assert [0, 0] == [peer.status(1), peer.status(3)]
                assert [ErrorCodes.NO_ERROR] * 2 == peer.gone()
                await peer.close()
            await stopping
            assert [Closure(Reason.STOPPED)] * 6 == await journal.closed(6)

    asyncio.run(run())


def test_stop_ends_rpcs_whose_client_takes_nothing() -> None:
    """Stopping does not wait for clients that do not read."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=Limits(linger_seconds=0.05)) as server:
            peer = await Peer.connect(server.port, settings={SettingCodes.INITIAL_WINDOW_SIZE: LAST_ID})
            peer.opens_windows = False
            peer.h2.increment_flow_control_window(LAST_ID - 65_535)
            blocked = await Peer.connect(server.port, settings={SettingCodes.INITIAL_WINDOW_SIZE: 0})
            for number, client in enumerate((peer, blocked), 1):
                client.open(SINK)
                await client.flush()
                await journal.until(lambda: len(journal.calls) == number)  # noqa: B023 - used at once
            await peer.settled()
            for call in journal.calls:
                call.stream.send(bytes(30_000_000))
            journal.calls[1].stream.end(Status.ABORTED)
            await asyncio.sleep(0)
            await server.stop(0)
            assert [Closure(Reason.STOPPED)] * 2 == await journal.closed(2)
            await peer.abort()
            await blocked.abort()

    asyncio.run(run())


def test_goaway_of_the_client_lets_rpcs_finish() -> None:
    """A client that says goodbye gets its answers, and then the connection ends."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            stream = peer.open()
            peer.send(stream, b"x")
            await peer.frames([GoAwayFrame(0)])
            peer.send(stream, b"y", end=True)
            await peer.flush()
            await peer.over(stream)
            assert [b"x", b"y"] == messages(peer.data(stream))
            await peer.until_end()
            assert [ErrorCodes.NO_ERROR] == peer.gone()
            await peer.close()

            idle = await Peer.connect(server.port)
            await idle.frames([GoAwayFrame(0)])
            await idle.until_end()
            await idle.close()
            assert [ended()] == await journal.closed()

    asyncio.run(run())


def test_lost_connection_ends_its_rpcs() -> None:
    """Every call learns that the connection is gone."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            peer.open(SINK, grpc_timeout="1H")
            peer.open(SINK)
            await peer.flush()
            await journal.until(lambda: len(journal.calls) == 2)
            await peer.abort()
            assert [Closure(Reason.LOST)] * 2 == await journal.closed(2)
            journal.calls[0].stream.send(b"ignored")
            journal.calls[0].stream.end()

    asyncio.run(run())


def test_stop_over_tls_ends_when_the_client_has_read_all(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """TLS cannot be closed on one side, so the end waits for the answer to a PING, among whatever else still comes."""

    async def run() -> None:
        client_tls.set_alpn_protocols(["h2"])
        journal = Journal()
        async with serving(journal, tls=server_tls, limits=Limits(linger_seconds=3600)) as server:
            peer = await Peer.connect(server.port, tls=client_tls)
            stream = peer.open(SINK)
            await peer.flush()
            await journal.until(lambda: bool(journal.calls))
            await peer.settled()
            stopping = asyncio.ensure_future(server.stop(0))
            peer.send(stream, bytes(1000))
            await peer.flush()
            await peer.until_end()
            assert 0 == peer.status(stream)
            await stopping
            await peer.close()

    asyncio.run(run())


def test_stop_twice_at_once_and_again() -> None:
    """The shorter grace counts, and stopping again does nothing."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            peer.open(SINK)
            await peer.flush()
            await journal.until(lambda: bool(journal.calls))
            long = asyncio.ensure_future(server.stop(60))
            await asyncio.sleep(0)
            short = asyncio.ensure_future(server.stop(0))
            await peer.until_end()
            await peer.close()
            await asyncio.gather(long, short)
            await server.stop(60)
            with pytest.raises(ConfigurationError, match="was stopped"):
                await server.start(LOOPBACK, 0)

    asyncio.run(run())


def test_stop_of_a_server_that_was_never_started() -> None:
    """There is nothing to wait for."""

    async def run() -> None:
        server = GrpcServer({})
        assert () == server.addresses
        with pytest.raises(ConfigurationError, match="was not started"):
            _ = server.port
        assert not server.is_stopping
        await server.stop(1)

    asyncio.run(run())


@pytest.mark.parametrize("grace", [-1, inf, nan, True, "1"])
def test_grace_is_checked(grace: float) -> None:
    """A grace that is no time is refused."""

    async def run() -> None:
        with pytest.raises(ConfigurationError, match="grace"):
            await GrpcServer({}).stop(grace)

    asyncio.run(run())


def test_path_of_a_method_is_checked() -> None:
    """A path without a slash would never be called."""
    with pytest.raises(ConfigurationError, match=r"'test\.Service/Echo'"):
        GrpcServer({"test.Service/Echo": Journal().keep(lambda *_: None)})  # type: ignore[arg-type]  # never called


def test_several_addresses() -> None:
    """A server may listen on several ports."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            await server.start(LOOPBACK, 0)
            ports = [port for _, port in server.addresses]
            assert server.port == ports[0]
            assert 2 == len(set(ports))
            for port in ports:
                peer = await Peer.connect(port)
                stream = peer.open(end=True)
                await peer.flush()
                await peer.over(stream)
                assert 0 == peer.status(stream)
                await peer.close()

    asyncio.run(run())


def test_ipv6() -> None:
    """Addresses of IPv6 work."""

    async def run() -> None:
        async with serving(Journal(), host="::1") as server:
            assert "::1" == server.addresses[0][0]
            peer = await Peer.connect(server.port, host="::1")
            stream = peer.open(end=True)
            await peer.flush()
            await peer.over(stream)
            assert 0 == peer.status(stream)
            await peer.close()

    try:
        asyncio.run(run())
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


def test_errors_are_logged_when_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    """Without `on_error`, exceptions of calls are logged."""

    async def run() -> None:
        def no_call(_: object) -> None:
            message = "no call"
            raise LookupError(message)

        server = GrpcServer({"/x/None": no_call})  # type: ignore[dict-item]  # wrong on purpose
        await server.start(LOOPBACK, 0)
        peer = await Peer.connect(server.port)
        stream = peer.open("/x/None", end=True)
        await peer.flush()
        await peer.over(stream)
        await peer.close()
        await server.stop(0)

    asyncio.run(run())
    assert [LookupError] == [record.exc_info[0] for record in caplog.records if record.exc_info]
