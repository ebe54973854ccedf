"""Responses pass chunk by chunk, and what a request reserved is released when it is over, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from inferencepool.adapters.bodies import Usage
from tests.envoy.scripted import Script
from tests.envoy.stage import CHAT, KINDS, Client, Stage, chat, full_duplex_responses, on_stage, until
from tests.gateway.envoy import dead_address

CHUNKS = 20
_USAGE = Usage(prompt_tokens=5, output_tokens=7, total_tokens=12)
# What the picker does about responses, and what Envoy shows it of them.
PHASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "off": ({"response_phase": "end"}, {}),
    "headers and trailers": ({}, {}),
    "usage": ({"usage": True}, {"usage": True}),
}


@asynccontextmanager
async def _streaming(
    stage: Stage, client: Client, *, chunk: bytes = b"data: first\n\n", request_id: str = ""
) -> AsyncIterator[tuple[Script, Any]]:
    """Give a response of which one chunk has arrived."""
    script = stage.scripted.script()
    sent = {**script.headers, "x-pin": stage.scripted.address, **({"x-request-id": request_id} if request_id else {})}
    script.send(chunk)
    async with client.open(CHAT, chat(stream=True), sent) as response:
        assert 200 == response.status
        assert chunk == await response.content.readexactly(len(chunk))
        yield script, response


async def _pass_in_step(stage: Stage, client: Client, request_id: str) -> None:
    """Send no chunk before the one before it has arrived."""
    async with _streaming(stage, client, request_id=request_id) as (script, response):
        for number in range(CHUNKS):
            chunk = b"data: %d %s\n\n" % (number, b"x" * number * 100)
            script.send(chunk)
            assert chunk == await response.content.readexactly(len(chunk))
        script.send(b'data: {"usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}}\n\n')
        script.send(b"data: [DONE]\n\n")
        script.end()
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


class TestInStep:
    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @pytest.mark.parametrize("phase", PHASES)
    @on_stage
    async def test_chunk_by_chunk(self, stage: Stage, cluster: str, body_mode: str, phase: str) -> None:
        """No chunk waits for another one."""
        of_picker, of_envoy = PHASES[phase]
        picker = await stage.picker(**of_picker)
        client = await stage.behind(picker, cluster=cluster, body_mode=body_mode, **of_envoy)
        name = f"{phase}-{cluster}-{body_mode}"
        await asyncio.gather(*(_pass_in_step(stage, client, f"{name}-{number}") for number in range(8)))
        for number in range(8):
            exchange = await picker.exchange(f"{name}-{number}")
            assert exchange.complete is (phase != "off")
            # A body that was not read tells no kind of usage.
            reads = phase == "usage" and body_mode != "none"
            assert exchange.usage == (_USAGE if reads else None)
        assert [] == picker.errors

    @pytest.mark.parametrize("phase", ["auto", "keep", "end", ""])
    @on_stage
    async def test_behind_a_gateway_with_responses_in_full_duplex(self, stage: Stage, phase: str) -> None:
        """Such a gateway, which is not configured by us, gets every chunk back, or goes on alone if wanted."""
        picker = await stage.picker(**({"response_phase": phase} if phase else {}))
        client = await stage.behind(picker, prepare=full_duplex_responses)
        await asyncio.gather(*(_pass_in_step(stage, client, f"duplex-{phase}-{number}") for number in range(8)))
        for number in range(8):
            assert (await picker.exchange(f"duplex-{phase}-{number}")).complete is (phase in {"keep", ""})

    @on_stage
    async def test_long_response(self, stage: Stage) -> None:
        """A megabyte at a time, 20 of them, also through a picker that reads them."""
        for of_picker, of_envoy in PHASES.values():
            picker = await stage.picker(**of_picker)
            client = await stage.behind(picker, **of_envoy)
            async with _streaming(stage, client) as (script, response):
                for number in range(20):
                    chunk = bytes([number]) * 1_000_000
                    script.send(chunk)
                    assert chunk == await response.content.readexactly(len(chunk))
                script.end()
                assert b"" == await response.read()


class TestReservations:
    """What a request reserved counts while it runs, and no longer."""

    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @pytest.mark.parametrize("usage", [False, True])
    @on_stage
    async def test_while_responses_run(self, stage: Stage, cluster: str, body_mode: str, usage: bool) -> None:
        """Up to the end of each response, and not after it."""
        picker = await stage.picker(usage=usage)
        client = await stage.behind(picker, cluster=cluster, body_mode=body_mode, usage=usage)
        for number in (1, 2, 3):
            assert 0 == picker.picker.statistics().in_flight
            async with _streaming(stage, client) as (script, response):
                assert 1 == picker.picker.statistics().in_flight
                async with _streaming(stage, client) as (other, other_response):
                    assert 2 == picker.picker.statistics().in_flight
                    other.end()
                    await other_response.read()
                    await until(lambda: picker.picker.statistics().in_flight == 1, picker.picker.statistics)
                script.send(b"x" * number)
                script.end()
                await response.read()
            await picker.until_idle()

    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @on_stage
    async def test_complete_at_once(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """Responses that are whole before the picker has answered their headers."""
        picker = await stage.picker()
        client = await stage.behind(picker, cluster=cluster, body_mode=body_mode)
        pin = {"x-pin": stage.addresses[0]}
        for path, body in ((CHAT, chat()), (CHAT, chat(stream=True)), ("/v1/models", None), ("/health", None)):
            assert 200 == (await client.send(path, body, pin)).status
            await picker.until_idle()

    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @on_stage
    async def test_client_leaves(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """In mid-response, and before there is one; the model server is told as well."""
        picker = await stage.picker()
        client = await stage.behind(picker, cluster=cluster, body_mode=body_mode)
        async with _streaming(stage, client) as (script, response):
            response.close()
        await script.gone.wait()
        await picker.until_idle()

        script = stage.scripted.script()
        waiting = asyncio.ensure_future(
            client.send(
                CHAT,
                chat(),
                {**script.headers, "x-pin": stage.scripted.address, "x-request-id": f"left-{cluster}-{body_mode}"},
            )
        )
        await script.arrived.wait()
        assert 1 == picker.picker.statistics().in_flight
        waiting.cancel()
        await script.gone.wait()
        await picker.until_idle()
        assert 0 == (await picker.exchange(f"left-{cluster}-{body_mode}")).status

    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @on_stage
    async def test_model_server_breaks_off(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """In mid-response, which the client sees, and before there is one, which is 503."""
        picker = await stage.picker()
        client = await stage.behind(picker, cluster=cluster, body_mode=body_mode, retries=0)
        async with _streaming(stage, client) as (script, response):
            script.reset()
            await picker.until_idle()
            if body_mode == "none":  # Envoy takes a second to close; once for each kind of cluster is enough
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()

        script = stage.scripted.script()
        script.reset()
        reply = await client.send(CHAT, chat(), {**script.headers, "x-pin": stage.scripted.address})
        assert 503 == reply.status
        exchange = await picker.exchange(reply.request_id)
        assert (503, stage.scripted.address) == (exchange.status, exchange.destination)
        await picker.until_idle()

    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @on_stage
    async def test_nobody_listens_or_picker_refuses(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """An endpoint that refuses connections, and a picker that refuses the request."""
        with dead_address() as dead:
            picker = await stage.start_picker([str(dead)])
            client = await stage.start_envoy(
                picker.address, addresses=[str(dead)], cluster=cluster, body_mode=body_mode
            )
            for body in (chat(), None):
                assert 503 == (await client.send(CHAT, body)).status
                await picker.until_idle()
                refused = await client.send(CHAT, body, {"x-whim": "remove"})
                assert 429 == refused.status
                assert (await picker.exchange(refused.request_id)).refused
                await picker.until_idle()

    @on_stage
    async def test_no_response_phase(self, stage: Stage) -> None:
        """Where the end is not seen, they are taken back some time after, whether or not another request comes."""
        picker = await stage.picker(response_phase="end", hold=0.1)
        client = await stage.behind(picker)
        for _ in range(5):
            assert 200 == (await client.send(CHAT, chat(), {"x-pin": stage.addresses[0]})).status
        await picker.until_idle()
