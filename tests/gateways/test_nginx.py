"""The stand-in for NGINX Gateway Fabric is as strict as the real one, and what `serve` says is lost on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.gateway.envoy import dead_address
from tests.gateways.conftest import Hall
from tests.gateways.nginx import NginxGatewayFabric
from tests.gateways.pickers import Told, picker_that

_Run = Callable[[Awaitable[Any]], Any]
_BODY = b'{"model": "llama-3", "prompt": "\xc3\xa9 hello"}'


async def _send(url: str, body: bytes | None = _BODY, method: str = "POST") -> tuple[int, dict[str, str], Any]:
    headers = {"content-type": "application/json"}
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, f"{url}/v1/completions", data=body, headers=headers) as response,
    ):
        told = await (response.json() if response.status == 200 else response.text())
        return response.status, {name.lower(): value for name, value in response.headers.items()}, told


async def _through(
    hall: Hall, behaves: Callable[[Told], Awaitable[None]], body: bytes | None = _BODY, **options: Any
) -> tuple[int, dict[str, str], Any]:
    async with picker_that(behaves) as picker, NginxGatewayFabric(picker, hall.addresses, **options) as gateway:
        return await _send(gateway.url, body)


def test_what_the_picker_hears(hall: Hall, run: _Run) -> None:
    """Headers in capitals and without path and method, the body in one message, and the end; nothing of a response."""
    streams: list[Told] = []

    async def behaves(told: Told) -> None:
        streams.append(told)
        body = await told.request()
        assert None is await told.hear()
        await told.send_to(hall.addresses[1], body, x_extra="1")

    status, headers, told = run(_through(hall, behaves))
    assert (200, hall.addresses[1]) == (status, headers["x-served-by"])
    (stream,) = streams
    first, second = stream.heard
    names = {header.key.decode() for header in first.request_headers.headers.headers}
    assert {"Content-Type", "Content-Length", "X-Epp-Host", "X-Epp-Port"} <= names
    assert not any(name.startswith(":") for name in names)
    assert not first.HasField("protocol_config")
    assert not first.request_headers.end_of_stream
    assert (_BODY, True) == (second.request_body.body, second.request_body.end_of_stream)
    # Of what the picker says the destination counts alone.
    assert "x-extra" not in told["headers"]


@pytest.mark.parametrize(("fails_open", "expected"), [(False, 500), (True, 200)])
class TestFailures:
    """What becomes of a request that the picker does not send anywhere."""

    def test_refusal(self, hall: Hall, run: _Run, expected: int, *, fails_open: bool) -> None:
        """Its status and text are lost, or it is served after all."""

        async def behaves(told: Told) -> None:
            await told.request()
            await told.refuse(429, b"too many", x_reason="full")

        status, headers, told = run(_through(hall, behaves, fails_open=fails_open))
        assert expected == status
        assert "x-reason" not in headers
        assert "too many" not in told

    def test_picker_that_hangs(self, hall: Hall, run: _Run, expected: int, *, fails_open: bool) -> None:
        """It is given up after a while, which no other gateway does."""

        async def behaves(told: Told) -> None:
            await told.request()
            await asyncio.Event().wait()

        status, _, _ = run(_through(hall, behaves, fails_open=fails_open, fetch_timeout=0.2))
        assert expected == status

    def test_stream_that_is_not_ended(self, hall: Hall, run: _Run, expected: int, *, fails_open: bool) -> None:
        """The destination alone is not enough: the end of the stream is waited for."""

        async def behaves(told: Told) -> None:
            await told.send_to(hall.addresses[0], await told.request())
            await asyncio.Event().wait()

        status, _, _ = run(_through(hall, behaves, fails_open=fails_open, fetch_timeout=0.2))
        assert expected == status

    def test_picker_that_is_away(self, hall: Hall, run: _Run, expected: int, *, fails_open: bool) -> None:
        """The pool's failure mode decides, with a body and without."""

        async def scenario() -> set[int]:
            with dead_address() as dead:
                async with NginxGatewayFabric(dead, hall.addresses, fails_open=fails_open) as gateway:
                    return {(await _send(gateway.url, body))[0] for body in (_BODY, None)}

        assert {expected} == run(scenario())

    @pytest.mark.parametrize("body", [None, b"x" * 20_000])
    def test_what_it_does_not_ask_about(
        self, hall: Hall, run: _Run, expected: int, body: bytes | None, *, fails_open: bool
    ) -> None:
        """A request without a body, and one whose body nginx has written to a file."""
        answered: list[Told] = []

        async def behaves(told: Told) -> None:
            await told.request()
            answered.append(told)

        assert expected == run(_through(hall, behaves, body, fails_open=fails_open))[0]
        assert [] == answered

    def test_serve_without_endpoints(self, hall: Hall, run: _Run, expected: int, *, fails_open: bool) -> None:
        """The 503 of the picker is a bare 500 to the client, or is served."""

        async def scenario() -> int:
            async with (
                hall.serve(empty=True) as picker,
                NginxGatewayFabric(picker.address, hall.addresses, fails_open=fails_open) as gateway,
            ):
                return (await _send(gateway.url))[0]

        assert expected == run(scenario())


def test_list_of_fallbacks_is_no_address(hall: Hall, run: _Run) -> None:
    """Nginx takes all of it for one address, whatever the failure mode."""

    async def behaves(told: Told) -> None:
        await told.send_to(",".join(hall.addresses), await told.request())

    for fails_open in (False, True):
        assert 500 == run(_through(hall, behaves, fails_open=fails_open))[0]
