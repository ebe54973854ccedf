"""Odd, broken and interrupted requests get the right status, leave nothing behind, and disturb no others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from tests.envoy.stage import CHAT, KINDS, Client, RunningPicker, Stage, chat, endpoint_at, on_stage, until

HOST = b"host: test\r\ncontent-type: application/json\r\n"
READING = [kind for kind in KINDS if kind[1] != "none"]


@asynccontextmanager
async def _connection(client: Client) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Give a connection for bytes that no client library sends."""
    parts = urlsplit(client.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one response with a content-length."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


async def _check_serving(stage: Stage, picker: RunningPicker, client: Client) -> None:
    await picker.until_idle()
    assert 200 == (await client.send(CHAT, chat(), {"x-pin": stage.addresses[0]})).status


class TestBrokenRequests:
    @pytest.mark.parametrize(("cluster", "body_mode"), READING)
    @on_stage
    async def test_json(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """What is no JSON, nested without end or no UTF-8 is refused with 400."""
        picker = await stage.picker()
        client = await stage.behind(picker, cluster=cluster, body_mode=body_mode)
        broken = [
            b"{",
            b"\xff\xfe{}",
            b"[" * 500_000,
            b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
            b'{"model":"m","messages":[{"role":"user","content":"\xc3"}]}',
            b"\x00" * 300_000,
        ]
        replies = await asyncio.gather(*(client.send(CHAT, body) for body in broken))
        assert [400] * len(broken) == [reply.status for reply in replies]
        assert all(reply.body.startswith(b"inference error: BadRequest - ") for reply in replies)
        assert [] == picker.errors
        await _check_serving(stage, picker, client)

    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @on_stage
    async def test_headers_of_any_bytes(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """Values that are no UTF-8 reach the model server byte for byte, and those that the picker reads do no harm."""
        picker = await stage.picker()
        client = await stage.behind(picker, cluster=cluster, body_mode=body_mode)
        odd = bytes(range(0x80, 0x100)) + b"\t \xe9"
        pin = b"x-pin: " + stage.scripted.address.encode() + b"\r\n"
        read = (
            b"x-request-id",
            b"x-llm-d-inference-objective",
            b"x-llm-d-inference-fairness-id",
            b"x-odd",
            b"user-agent",
        )
        lines = b"".join(name + b": " + odd + b"\r\n" for name in read)
        async with _connection(client) as (reader, writer):
            for request in (
                b"GET /opaque HTTP/1.1\r\n" + HOST + pin + lines + b"\r\n",
                b"POST /opaque HTTP/1.1\r\n" + HOST + pin + lines + b"content-length: 2\r\n\r\n{}",
            ):
                writer.write(request)
                status, body = await _answer(reader)
                assert 200 == status
                arrived = {
                    name: value.encode("utf-8", "surrogateescape") for name, value in json.loads(body)["headers"]
                }
                assert dict.fromkeys(read, odd) == {name: arrived[name.decode()] for name in read}
        told = odd.decode("latin-1")
        await until(lambda: len(picker.exchanges.get(told, [])) >= 2, lambda: list(picker.exchanges))
        await _check_serving(stage, picker, client)

    @pytest.mark.parametrize("body_mode", ["full-duplex", "buffered"])
    @on_stage
    async def test_expecting_to_be_asked_for_the_body(self, stage: Stage, body_mode: str) -> None:
        """A client that waits for 100 is asked."""
        picker = await stage.picker()
        client = await stage.behind(picker, body_mode=body_mode)
        headers = {"x-pin": stage.addresses[0], "x-request-id": f"expecting-{body_mode}"}
        async with client.http.post(client.url + CHAT, data=chat(5000), headers=headers, expect100=True) as response:
            assert 200 == response.status
        await _check_serving(stage, picker, client)


class TestInterrupted:
    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @on_stage
    async def test_client_hangs_up_within_the_body(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """Nothing of it stays."""
        picker = await stage.picker()
        client = await stage.behind(picker, cluster=cluster, body_mode=body_mode)
        before = picker.server.statistics().streams_total
        for size in (1, 100_000, 2_000_000):
            async with _connection(client) as (_, writer):
                writer.write(b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"content-length: 4000000\r\n\r\n")
                writer.write(b"{" * size)
                await writer.drain()
                await until(lambda: picker.processor.statistics().sessions, picker.processor.statistics)
            await picker.until_idle()
        assert before + 3 == picker.server.statistics().streams_total
        assert 0 == picker.server.statistics().partial_bytes
        await _check_serving(stage, picker, client)

    @on_stage
    async def test_client_stalls_within_the_body(self, stage: Stage) -> None:
        """In full duplex, where Envoy does not count, the picker refuses it with 408."""
        picker = await stage.picker(request_timeout=1)
        client = await stage.behind(picker)
        async with _connection(client) as (reader, writer):
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"content-length: 4000000\r\n\r\n{")
            status, body = await _answer(reader)
        assert 408 == status
        assert body.startswith(b"inference error: RequestTimeout - no more of the request arrived for 1 s, ")
        await _check_serving(stage, picker, client)

    @pytest.mark.parametrize(("cluster", "body_mode"), READING)
    @on_stage
    async def test_endpoints_vanish(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """While a body comes in: 503. While a response is on its way: it goes on."""
        picker = await stage.start_picker()
        client = await stage.start_envoy(picker.address, cluster=cluster, body_mode=body_mode)
        script = stage.scripted.script()
        script.send(b"first")
        body = chat(10_000)
        head = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"content-length: %d\r\n\r\n" % len(body)
        pin = {**script.headers, "x-pin": stage.scripted.address}
        async with client.open(CHAT, chat(), pin) as response, _connection(client) as (reader, writer):
            assert b"first" == await response.content.readexactly(5)
            writer.write(head + body[:5000])
            await until(lambda: picker.processor.statistics().sessions == 2, picker.processor.statistics)
            picker.registry.set_endpoints([])
            writer.write(body[5000:])
            assert 503 == (await _answer(reader))[0]
            assert 503 == (await client.send(CHAT, body)).status
            script.send(b"last")
            script.end()
            assert b"last" == await response.read()
        await picker.until_idle()
        picker.registry.set_endpoints(map(endpoint_at, stage.addresses))
        picker.registry.publish()
        await _check_serving(stage, picker, client)
