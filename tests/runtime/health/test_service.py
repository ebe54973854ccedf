"""The health service as clients of grpcio see it, on both servers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from threading import Thread
from typing import Any

import grpc.aio  # type: ignore[import-untyped]  # grpcio ships no types
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # it ships no types

from inferencepool.runtime.extproc import EXT_PROC_SERVICE
from inferencepool.runtime.grpc import Closure, GrpcServer, Reason, Status
from inferencepool.runtime.health import LIVENESS, READINESS, Health, ServingStatus, health_routes
from inferencepool.runtime.tls import CertificateReloader, server_context
from tests.patience import PATIENCE
from tests.runtime.aio.both_servers import OPTIONS, SERVERS, serving
from tests.runtime.tls.authority import Authority, write

SERVING, NOT_SERVING = ServingStatus.SERVING, ServingStatus.NOT_SERVING
EOF = grpc.aio.EOF


def ask(name: str) -> Any:
    """Make a request."""
    return health_pb2.HealthCheckRequest(service=name)


def talk(server: str, health: Health, conversation: Callable[[Any, Any], Awaitable[None]]) -> None:
    """Serve *health* and run *conversation* with a channel and a stub."""

    async def run() -> None:
        async with serving(server, health_routes(health)) as channel:
            await asyncio.wait_for(conversation(channel, health_pb2_grpc.HealthStub(channel)), PATIENCE)

    asyncio.run(run())


@pytest.mark.parametrize("server", SERVERS)
def test_check_follows_the_conditions(server: str) -> None:
    """All names of an endpoint picker, before, while and after it is ready."""
    health = Health()

    async def conversation(_channel: Any, stub: Any) -> None:
        async def statuses() -> list[int]:
            names = ["", READINESS, EXT_PROC_SERVICE, LIVENESS]
            return [(await stub.Check(ask(name))).status for name in names]

        assert await statuses() == [NOT_SERVING, NOT_SERVING, NOT_SERVING, SERVING]
        health.set("synced")
        assert await statuses() == [SERVING, SERVING, SERVING, SERVING]
        health.drain()
        assert await statuses() == [NOT_SERVING, NOT_SERVING, NOT_SERVING, SERVING]

    talk(server, health, conversation)


@pytest.mark.parametrize("server", SERVERS)
def test_check_of_an_unknown_name_is_not_found(server: str) -> None:
    """The text shows the name, but not all of a long one."""

    async def conversation(_channel: Any, stub: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(ask("ä" * 500))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        assert caught.value.details() == "unknown service '" + "\\xe4" * 100 + "'"

    talk(server, Health(), conversation)


@pytest.mark.parametrize("server", SERVERS)
def test_list_gives_every_name(server: str) -> None:
    """Those of the picker and those that were added."""

    async def conversation(_channel: Any, stub: Any) -> None:
        response = await stub.List(health_pb2.HealthListRequest())
        assert {name: each.status for name, each in response.statuses.items()} == {
            "": NOT_SERVING,
            READINESS: NOT_SERVING,
            EXT_PROC_SERVICE: NOT_SERVING,
            "inference-extension": NOT_SERVING,
            LIVENESS: SERVING,
        }

    talk(server, Health(services=["inference-extension"]), conversation)


@pytest.mark.parametrize("server", SERVERS)
def test_watch_tells_the_present_and_every_change(server: str) -> None:
    """Conditions are set by another thread; the end comes with the server's."""
    health = Health(["synced", "leader"])

    def change() -> None:
        health.set("synced")
        health.set("leader")
        health.set("leader")
        health.set("synced", False)
        health.set("synced")
        health.drain()

    async def conversation(_channel: Any, stub: Any) -> None:
        watch = stub.Watch(ask(EXT_PROC_SERVICE))
        assert (await watch.read()).status == NOT_SERVING
        thread = Thread(target=change)
        thread.start()
        expected = [SERVING, NOT_SERVING, SERVING, NOT_SERVING]
        assert [(await watch.read()).status for _ in expected] == expected
        thread.join()
        health.close()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "the server shuts down"

    talk(server, health, conversation)


@pytest.mark.parametrize("server", SERVERS)
def test_watch_of_an_unknown_name_goes_on(server: str) -> None:
    """It tells SERVICE_UNKNOWN and stays; with any name allowed, it follows readiness."""

    async def stays_unknown(_channel: Any, stub: Any) -> None:
        watch = stub.Watch(ask("inference-extension"))
        assert (await watch.read()).status == ServingStatus.SERVICE_UNKNOWN
        health.set("synced")
        health.close()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE

    async def follows(_channel: Any, stub: Any) -> None:
        watch = stub.Watch(ask("inference-extension"))
        assert (await watch.read()).status == NOT_SERVING
        health.set("synced")
        assert (await watch.read()).status == SERVING

    health = Health()
    talk(server, health, stays_unknown)
    health = Health(any_name=True)
    talk(server, health, follows)


@pytest.mark.parametrize("server", SERVERS)
def test_watchers_that_leave_are_forgotten(server: str) -> None:
    """Nothing of them stays behind."""
    health = Health()

    async def conversation(_channel: Any, stub: Any) -> None:
        watches = [stub.Watch(ask("")) for _ in range(10)]
        for watch in watches:
            await watch.read()
        assert len(health._watches) == 10
        for watch in watches:
            watch.cancel()
        while health._watches:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)
        health.set("synced")
        assert (await stub.Check(ask(""))).status == SERVING

    talk(server, health, conversation)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("method", ["Check", "Watch", "List"])
@pytest.mark.parametrize(
    ("messages", "code"),
    [([], grpc.StatusCode.UNIMPLEMENTED), ([b"\x0a\x05abc"], grpc.StatusCode.INTERNAL)],
)
def test_what_is_no_request_ends_the_call(
    server: str, method: str, messages: list[bytes], code: grpc.StatusCode
) -> None:
    """No request, and bytes that are none."""

    async def conversation(channel: Any, _stub: Any) -> None:
        call = channel.stream_unary(f"/grpc.health.v1.Health/{method}")(iter(messages))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() == code

    talk(server, Health(), conversation)


@pytest.mark.parametrize("server", SERVERS)
def test_a_second_request_ends_a_watch(server: str) -> None:
    """Watch takes one request."""

    async def conversation(channel: Any, _stub: Any) -> None:
        call = channel.stream_stream("/grpc.health.v1.Health/Watch")()
        await call.write(b"")
        assert await call.read() == b"\x08\x02"
        await call.write(b"")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    talk(server, Health(), conversation)


def test_a_watch_whose_event_loop_is_closed_disturbs_nobody() -> None:
    """Whoever sets a condition then does not get an error for it."""

    class Sink:
        headers: dict[str, str]

        def send(self, *messages: bytes) -> None:
            sent.extend(messages)

        def hold(self, size: int) -> bool:
            raise AssertionError(size)

        def fail(self, error: Exception) -> None:
            raise error

        def end(self, status: Status = Status.OK, text: str = "") -> None:
            raise AssertionError(status, text)

    sent: list[bytes] = []
    health = Health()

    async def run() -> Any:
        sink = Sink()
        sink.headers = {}
        call = health_routes(health)["/grpc.health.v1.Health/Watch"](sink)
        call.message(b"")
        await asyncio.sleep(0)
        return call

    call = asyncio.run(run())
    health.set("synced")
    health.close()
    call.closed(Closure(Reason.LOST))
    assert sent == [b"\x08\x02"]


def test_tls_and_a_change_of_its_certificate_under_an_open_watch(tmp_path: Any) -> None:
    """A new channel sees the new certificate, and the open one goes on."""
    one, two = Authority(), Authority()
    reloader = CertificateReloader(write(tmp_path, one.issue("one")))
    health = Health()

    def channel(authority: Authority, port: int) -> Any:
        credentials = grpc.ssl_channel_credentials(authority.pem)
        return grpc.aio.secure_channel(f"localhost:{port}", credentials, options=OPTIONS)

    async def run() -> None:
        server = GrpcServer(health_routes(health))
        await server.start("127.0.0.1", 0, tls=reloader.context)
        async with channel(one, server.port) as first, channel(two, server.port) as second:
            watch = health_pb2_grpc.HealthStub(first).Watch(ask(""))
            assert (await watch.read()).status == NOT_SERVING
            write(tmp_path, two.issue("two"))
            assert reloader.check()
            stub = health_pb2_grpc.HealthStub(second)
            assert (await stub.Check(ask(""))).status == NOT_SERVING
            health.set("synced")
            assert (await watch.read()).status == SERVING
        await server.stop(0)

    asyncio.run(asyncio.wait_for(run(), PATIENCE))


def test_self_signed_tls_with_a_client_that_trusts_it() -> None:
    """As a client of grpcio, which has another TLS library, sees it."""
    health = Health([])

    async def run() -> None:
        server = GrpcServer(health_routes(health))
        await server.start("127.0.0.1", 0, tls=server_context())
        shown = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", server.port))
        credentials = grpc.ssl_channel_credentials(shown.encode())
        async with grpc.aio.secure_channel(f"127.0.0.1:{server.port}", credentials, options=OPTIONS) as channel:
            assert (await health_pb2_grpc.HealthStub(channel).Check(ask(""))).status == SERVING
        await server.stop(0)

    asyncio.run(asyncio.wait_for(run(), PATIENCE))
