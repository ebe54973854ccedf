"""TLS and health between Envoy and the picker, and an end of the picker that nobody notices."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.envoy.serving import PLAIN, served, write_endpoints
from tests.envoy.stage import CHAT, KINDS, Client, Stage, chat, full_duplex_responses, on_stage
from tests.runtime.tls.authority import Authority, write

STREAMS = 12


async def _counter(client: Client, name: str) -> int:
    """Read a counter of the picker's cluster."""
    stats = await client.envoy.admin.stats("endpoint-picker")
    return sum(value for each, value in stats.items() if each.endswith(name))


async def _check_secure(client: Client) -> None:
    for size in (0, 2000, 5_000_000):
        assert 200 == (await client.send(CHAT, chat(size))).status
    assert 200 == (await client.send("/v1/models")).status
    assert await _counter(client, "ssl.handshake") >= 1
    assert await _counter(client, "health_check.success") >= 1
    assert 0 == await _counter(client, "health_check.failure")
    assert 1 == await _counter(client, "membership_healthy")


class TestTls:
    @pytest.mark.parametrize("own_port", [True, False])
    @on_stage
    async def test_self_signed(self, stage: Stage, own_port: bool, tmp_path: Path) -> None:
        """With nothing configured the picker speaks TLS, and its health is asked on either port."""
        file = tmp_path / "endpoints.json"
        write_endpoints(file, stage.addresses[:2])
        flags = () if own_port else ("--health-checking",)
        async with served("--endpoints-file", str(file), *flags) as picker:
            options: dict[str, Any] = {"epp_health_port": picker.health_port} if own_port else {}
            client = await stage.start_envoy(picker.address, epp_tls=True, epp_health_check="require", **options)
            await _check_secure(client)

    @on_stage
    async def test_authority(self, stage: Stage, tmp_path: Path) -> None:
        """A certificate is taken when the trusted authority signed it, and not when another one did."""
        file, trusted = tmp_path / "endpoints.json", tmp_path / "ca.pem"
        write_endpoints(file, stage.addresses[:2])
        authority = Authority()
        trusted.write_bytes(authority.pem)
        directory = write(tmp_path / "certificate", authority.issue("picker"))
        async with served("--endpoints-file", str(file), "--cert-path", str(directory)) as picker:
            options: dict[str, Any] = {"epp_tls": True, "epp_ca_file": str(trusted)}
            health: dict[str, Any] = {"epp_health_check": "require", "epp_health_port": picker.health_port}
            await _check_secure(await stage.start_envoy(picker.address, **options, **health))
            trusted.write_bytes(Authority().pem)
            stranger = await stage.start_envoy(picker.address, **options)
            assert 503 == (await stranger.send(CHAT, chat())).status
            assert await _counter(stranger, "ssl.fail_verify_error") >= 1

    @pytest.mark.parametrize("mode", ["FailClose", "FailOpen"])
    @on_stage
    async def test_picker_without_health(self, stage: Stage, mode: str) -> None:
        """Where health is required and nobody answers, the failure mode applies at once."""
        picker = await stage.start_picker(stage.addresses[:1])
        addresses = stage.addresses[:1]
        client = await stage.start_envoy(picker.address, addresses=addresses, mode=mode, epp_health_check="require")
        assert (503 if mode == "FailClose" else 200) == (await client.send(CHAT, chat())).status
        assert {} == picker.exchanges
        assert 0 == await _counter(client, "membership_healthy")


class TestOrderlyEnd:
    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @pytest.mark.parametrize("secure", [False, True])
    @on_stage
    async def test_responses_stay_whole(
        self, stage: Stage, cluster: str, body_mode: str, secure: bool, tmp_path: Path
    ) -> None:
        """The picker is told to stop, and exits, while responses are on their way: they go on without it."""
        file = tmp_path / "endpoints.json"
        write_endpoints(file, [stage.scripted.address])
        flags = () if secure else PLAIN
        async with AsyncExitStack() as open_responses:
            picker = await open_responses.enter_async_context(
                served("--endpoints-file", str(file), "--drain-timeout", "100ms", *flags)
            )
            client = await stage.start_envoy(picker.address, cluster=cluster, body_mode=body_mode, epp_tls=secure)
            running = []
            for number in range(STREAMS):
                script = stage.scripted.script()
                if number % 3:
                    # The others have not begun to answer.
                    script.send(b"first")
                request = client.open(CHAT, chat(stream=True), script.headers)
                running.append((script, stage.runner.get_loop().create_task(request.__aenter__()), number % 3))
            for script, _, _ in running:
                await script.arrived.wait()
            for _, task, begun in running:
                if begun:
                    assert b"first" == await (await task).content.readexactly(5)
            picker.send(signal.SIGTERM)
            assert STREAMS == (await picker.line("draining"))["streams"]
            assert STREAMS == (await picker.line("streams cut"))["streams"]
            assert 0 == await picker.end()
            for script, task, _ in running:
                for chunk in (b"second", b"third"):
                    script.send(chunk)
                script.end()
                response = await task
                assert (200, b"secondthird") == (response.status, await response.read())

    @pytest.mark.parametrize("mode", ["FailClose", "FailOpen"])
    @on_stage
    async def test_bodies_that_pass_through_break_off(self, stage: Stage, mode: str, tmp_path: Path) -> None:
        """
        With responses in full duplex, as other gateways ask for, nobody takes the end for that of the body.

        Responses that have not begun go on without the picker.
        """
        file = tmp_path / "endpoints.json"
        write_endpoints(file, [stage.scripted.address])
        async with served("--endpoints-file", str(file), "--drain-timeout", "100ms", *PLAIN) as picker:
            kind = "full-duplex" if mode == "FailClose" else "buffered"
            client = await stage.start_envoy(picker.address, mode=mode, body_mode=kind, prepare=full_duplex_responses)
            begun, waiting = stage.scripted.script(), stage.scripted.script()
            begun.send(b"first")
            async with client.open(CHAT, chat(stream=True), begun.headers) as response:
                assert b"first" == await response.content.readexactly(5)
                later = stage.runner.get_loop().create_task(client.send(CHAT, chat(), waiting.headers))
                await waiting.arrived.wait()
                picker.send(signal.SIGTERM)
                assert 2 == (await picker.line("streams cut"))["streams"]
                assert 0 == await picker.end()
                begun.send(b"second")
                begun.end()
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()
            waiting.send(b"whole")
            waiting.end()
            reply = await later
            assert (200, b"whole") == (reply.status, reply.body)

    @on_stage
    async def test_long_answers_are_waited_for(self, stage: Stage, tmp_path: Path) -> None:
        """Those whose bodies pass through it as well; it ends as soon as the last one has."""
        file = tmp_path / "endpoints.json"
        write_endpoints(file, [stage.scripted.address])
        async with served("--endpoints-file", str(file), "--drain-notice", "100ms", *PLAIN) as picker:
            client = await stage.start_envoy(picker.address, prepare=full_duplex_responses)
            script = stage.scripted.script()
            script.send(b"first")
            async with client.open(CHAT, chat(stream=True), script.headers) as response:
                assert b"first" == await response.content.readexactly(5)
                picker.send(signal.SIGTERM)
                await picker.line("clients sent away")
                script.send(b"second")
                assert b"second" == await response.content.readexactly(6)
                script.end()
                assert b"" == await response.read()
            assert 0 == await picker.end()

    @on_stage
    async def test_requests_are_served_until_it_is_gone(self, stage: Stage, tmp_path: Path) -> None:
        """While it drains, new requests are picked for, as gateways need a moment to notice."""
        file = tmp_path / "endpoints.json"
        write_endpoints(file, stage.addresses[:2])
        async with served("--endpoints-file", str(file), *PLAIN) as picker:
            client = await stage.start_envoy(picker.address)
            picker.send(signal.SIGTERM)
            await picker.line("draining")
            statuses = [(await client.send(CHAT, chat())).status for _ in range(50)]
            assert [200] * 50 == statuses
            assert 0 == await picker.end()
            assert 503 == (await client.send(CHAT, chat())).status
