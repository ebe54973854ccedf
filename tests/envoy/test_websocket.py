"""Connections that go on in another protocol, such as those of realtime APIs: their bodies never end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RemoteSettingsChanged, ResponseReceived
from h2.settings import SettingCodes

from tests.envoy.stage import KINDS, Client, RunningPicker, Stage, on_stage
from tests.gateway.pools import connection_manager

REALTIME = "/v1/realtime?model=llama-3"


@asynccontextmanager
async def _realtime() -> AsyncIterator[str]:
    """Run a server that says everything again, and greets before; without an upgrade it refuses with 426."""

    async def talk(request: web.Request) -> web.StreamResponse:
        if request.headers.get("upgrade", "").lower() != "websocket":
            return web.Response(status=426)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("hello")
        async for message in socket:
            await (socket.send_str if message.type is aiohttp.WSMsgType.TEXT else socket.send_bytes)(message.data)
        return socket

    application = web.Application()
    application.add_routes([web.get("/v1/realtime", talk)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.001)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _talk(client: Client, picker: RunningPicker, request_id: str) -> None:
    """Talk for a while; the picker must know all the time that the endpoint is busy, and when it is no more."""
    async with client.http.ws_connect(client.url + REALTIME, headers={"x-request-id": request_id}) as socket:
        assert "hello" == await socket.receive_str()
        for size in (1, 1000, 200_000):
            await socket.send_str("x" * size)
            assert "x" * size == await socket.receive_str()
            await socket.send_bytes(bytes(size))
            assert bytes(size) == await socket.receive_bytes()
        assert 1 == picker.picker.statistics().in_flight
        assert request_id not in picker.exchanges
    exchange = await picker.exchange(request_id)
    assert (101, None) == (exchange.status, exchange.error)
    assert exchange.complete
    await picker.until_idle()


class TestRendered:
    """The configuration as `envoy-config` prints it."""

    @pytest.mark.parametrize("usage", [False, True])
    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @on_stage
    async def test_both_sides_talk(self, stage: Stage, cluster: str, body_mode: str, *, usage: bool) -> None:
        """Messages of any size pass in both directions, and the load counts until the connection ends."""
        async with _realtime() as address:
            picker = await stage.start_picker([address], usage=usage)
            client = await stage.start_envoy(
                picker.address, addresses=[address], cluster=cluster, body_mode=body_mode, usage=usage
            )
            await _talk(client, picker, "talk")
            assert address == (await picker.exchange("talk")).destination
            async with client.open(REALTIME) as refused:
                assert 426 == refused.status

    @on_stage
    async def test_pool_that_fails_open(self, stage: Stage) -> None:
        """With the picker and without it."""
        async with _realtime() as address:
            picker = await stage.start_picker([address])
            client = await stage.start_envoy(picker.address, addresses=[address], mode="FailOpen")
            await _talk(client, picker, "talk")
            await picker.server.stop(0)
            async with client.http.ws_connect(client.url + REALTIME) as socket:
                assert "hello" == await socket.receive_str()

    @on_stage
    async def test_without_upgrades(self, stage: Stage) -> None:
        """Where none are wanted the client is told so, and no server is asked."""
        async with _realtime() as address:
            picker = await stage.start_picker([address])
            client = await stage.start_envoy(picker.address, addresses=[address], upgrades=())
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.http.ws_connect(client.url + REALTIME)
            assert 403 == refused.value.status
            assert {} == picker.exchanges

    @pytest.mark.parametrize("body_mode", ["full-duplex", "buffered", "none"])
    @on_stage
    async def test_extended_connect(self, stage: Stage, body_mode: str) -> None:
        """Over HTTP/2 a client asks for a WebSocket by an extended CONNECT."""
        async with _realtime() as address:
            picker = await stage.start_picker([address])
            client = await stage.start_envoy(picker.address, addresses=[address], body_mode=body_mode)
            assert b"hello" in await _greeting_over_http2(client.url)
            await picker.until_idle()
            assert [address] == [each.destination for (each,) in picker.exchanges.values()]


class TestSameFilters:
    """Gateways that let such requests pass the same filters as all others: the picker must not wait for a body."""

    @pytest.mark.parametrize("usage", [False, True])
    @pytest.mark.parametrize("body_mode", ["full-duplex", "none"])
    @on_stage
    async def test_both_sides_talk(self, stage: Stage, body_mode: str, *, usage: bool) -> None:
        """The picker decides at the headers, and hands on what comes."""

        def prepare(document: dict[str, Any]) -> None:
            connection_manager(document)["upgrade_configs"] = [{"upgrade_type": "websocket"}]

        async with _realtime() as address:
            picker = await stage.start_picker([address], usage=usage)
            client = await stage.start_envoy(
                picker.address, addresses=[address], body_mode=body_mode, usage=usage, prepare=prepare
            )
            await _talk(client, picker, "talk")


async def _greeting_over_http2(url: str) -> bytes:
    """Ask for a WebSocket over HTTP/2, and give the first bytes that come in it."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        return await _greeting(reader, writer, f"{host}:{port}")
    finally:
        writer.close()
        await writer.wait_closed()


async def _greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str) -> bytes:
    connection = H2Connection(H2Configuration(header_encoding="utf-8", validate_outbound_headers=False))
    connection.initiate_connection()
    events: list[Event] = []

    async def hear(kind: type[Event]) -> Any:
        while not (found := [event for event in events if isinstance(event, kind)]):
            writer.write(connection.data_to_send())
            data = await reader.read(65_536)
            assert data, events
            events.extend(connection.receive_data(data))
        return found[0]

    settings = await hear(RemoteSettingsChanged)
    assert 1 == settings.changed_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL].new_value
    pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", authority)]
    # Envoy makes no key for a server of HTTP/1.1, which wants one.
    socket = [("sec-websocket-version", "13"), ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")]
    connection.send_headers(1, [*pseudo, (":path", REALTIME), *socket])
    response = await hear(ResponseReceived)
    assert (":status", "200") in response.headers, response
    received = await hear(DataReceived)
    return bytes(received.data)
