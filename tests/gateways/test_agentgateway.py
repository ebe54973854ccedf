"""The stand-in for agentgateway is as strict as the real one, and what `serve` says reaches its clients."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from inferencepool.gateway import HostPort
from tests.gateway.envoy import dead_address
from tests.gateways.agentgateway import AgentGateway
from tests.gateways.conftest import Hall
from tests.gateways.front import DESTINATION
from tests.gateways.pickers import Told, picker_that

_Run = Callable[[Awaitable[Any]], Any]
_CHAT = {"model": "llama-3", "messages": [{"role": "user", "content": "hello"}]}


async def _send(url: str, method: str = "POST", **headers: str) -> tuple[int, dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    document = _CHAT if method == "POST" else None
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, f"{url}/v1/chat/completions", json=document, headers=named) as response,
    ):
        return response.status, {name.lower(): value for name, value in response.headers.items()}, await response.read()


async def _through(
    hall: Hall, behaves: Callable[[Told], Awaitable[None]], method: str = "POST", **options: Any
) -> tuple[int, dict[str, str], bytes]:
    async with picker_that(behaves) as picker, AgentGateway(picker, hall.addresses, **options) as gateway:
        return await _send(gateway.url, method)


class TestEndings:
    """What the end of the picker's stream does."""

    @pytest.mark.parametrize("method", ["POST", "GET"])
    @pytest.mark.parametrize("fails_open", [False, True])
    def test_end_after_the_request_fails_it_though_it_was_answered(
        self, hall: Hall, run: _Run, method: str, *, fails_open: bool
    ) -> None:
        """The model server has worked for nothing, whatever the failure mode."""

        async def behaves(told: Told) -> None:
            await told.send_to(hall.addresses[0], await told.request())

        before = hall.servers[0].arrived
        status, _, answer = run(_through(hall, behaves, method, fails_open=fails_open))
        assert (500, b"ext_proc failed: no more response messages") == (status, answer)
        assert before + 1 == hall.servers[0].arrived

    def test_end_during_the_response_cuts_it_off_without_a_sign(self, hall: Hall, run: _Run) -> None:
        """The client takes the part that it got for the whole."""

        async def behaves(told: Told) -> None:
            await told.send_to(hall.addresses[0], await told.request())
            while (message := await told.hear()).WhichOneof("kind") != "response_headers":
                pass
            assert {"envoy.lb"} == {each.key for each in message.metadata_context.filter_metadata}
            await told.say(response_headers={})
            message = await told.hear()
            await told.hand_back("response_body", message.response_body.body[:20])

        status, headers, answer = run(_through(hall, behaves))
        assert (200, 20) == (status, len(answer))
        assert "content-length" not in headers


class TestDestinations:
    @pytest.mark.parametrize(
        ("named", "passthrough", "expected"),
        [
            ("{0},{1}", False, 503),
            ("{0},{1}", True, 503),
            ("127.0.0.1:1", False, 503),
            ("localhost:80", True, 503),
        ],
    )
    def test_what_is_no_single_address_of_the_pool(
        self, hall: Hall, run: _Run, named: str, expected: int, *, passthrough: bool
    ) -> None:
        """A list of fallbacks is not understood, and an address of nobody is not dialed."""

        async def behaves(told: Told) -> None:
            await told.send_to(named.format(*hall.addresses), await told.request())

        assert expected == run(_through(hall, behaves, passthrough=passthrough))[0]

    def test_refusal_arrives_as_it_was_said(self, hall: Hall, run: _Run) -> None:
        """Status, text and headers."""

        async def behaves(told: Told) -> None:
            await told.request()
            await told.refuse(429, b"too many", x_reason="full")

        status, headers, answer = run(_through(hall, behaves))
        assert (429, "full", b"too many") == (status, headers["x-reason"], answer)


class TestFailOpen:
    @pytest.mark.parametrize(("method", "expected"), [("GET", 200), ("POST", 500)])
    def test_only_without_a_body(self, hall: Hall, run: _Run, method: str, expected: int) -> None:
        """A body is on its way to the picker before its absence is known."""

        async def scenario() -> int:
            with dead_address() as dead:
                async with AgentGateway(dead, hall.addresses, fails_open=True) as gateway:
                    return (await _send(gateway.url, method))[0]

        assert expected == run(scenario())

    def test_client_may_then_choose_the_server(self, hall: Hall, run: _Run) -> None:
        """Its own header is read in place of the picker's."""

        async def scenario() -> list[str]:
            with dead_address() as dead:
                async with AgentGateway(dead, hall.addresses, fails_open=True) as gateway:
                    chosen = {DESTINATION.replace("-", "_"): hall.addresses[1]}
                    return [(await _send(gateway.url, "GET", **chosen))[1]["x-served-by"] for _ in range(4)]

        assert {hall.addresses[1]} == set(run(scenario()))


class TestServe:
    """The command `serve` behind it."""

    def test_refusals_arrive(self, hall: Hall, run: _Run) -> None:
        """A body that is no request gets 400, and a pool without endpoints 503 with the reason."""

        async def malformed() -> int:
            async with (
                hall.serve() as picker,
                AgentGateway(picker.address, hall.addresses) as gateway,
                aiohttp.ClientSession() as http,
                http.post(f"{gateway.url}/v1/completions", data=b"{") as response,
            ):
                return response.status

        async def nowhere() -> tuple[int, str]:
            async with hall.serve(empty=True) as picker, AgentGateway(picker.address, hall.addresses) as gateway:
                status, headers, _ = await _send(gateway.url)
                return status, headers["x-llm-d-request-dropped-reason"]

        assert 400 == run(malformed())
        assert (503, "rejected-no-endpoints") == run(nowhere())

    @pytest.mark.parametrize(("fallbacks", "expected"), [("0", 200), ("1", 503)])
    def test_lists_are_for_proxies_that_read_them(self, hall: Hall, run: _Run, fallbacks: str, expected: int) -> None:
        """With fallbacks every request fails, so there are none unless they are asked for."""

        async def scenario() -> int:
            async with (
                hall.serve("--fallbacks", fallbacks) as picker,
                AgentGateway(picker.address, hall.addresses) as gateway,
            ):
                return (await _send(gateway.url))[0]

        assert expected == run(scenario())

    def test_end_after_the_request_is_an_option_that_it_cannot_live_with(self, hall: Hall, run: _Run) -> None:
        """`--response-phase end` fails every request, and the default none."""

        async def scenario(*arguments: str) -> tuple[int, HostPort]:
            async with hall.serve(*arguments) as picker, AgentGateway(picker.address, hall.addresses) as gateway:
                status, _, answer = await _send(gateway.url)
                assert status != 200 or json.loads(answer)["path"] == "/v1/chat/completions"
                return status, picker.address

        assert 500 == run(scenario("--response-phase", "end"))[0]
        assert 200 == run(scenario())[0]
