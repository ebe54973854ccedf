"""The gateway of the page "Embed in a gateway" keeps requests whole while endpoints are Ready and ill."""

from __future__ import annotations

import asyncio
import runpy
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import aiohttp
import attrs
import pytest
import uvicorn
from aiohttp import web
from starlette.applications import Starlette
from starlette.routing import Route

from inferencepool import Endpoint, EndpointPicker, EndpointRegistry
from inferencepool.model import EjectionReason
from tests.pages.blocks import ROOT, blocks_of
from tests.patience import PATIENCE

EXAMPLE = ROOT / "docs" / "examples" / "gateway.py"
PAGE = ROOT / "docs" / "how-to" / "embed-in-a-gateway.md"
BODY = b'{"model": "llama-3", "prompt": "Why is the sky blue?"}'
PATH = "/v1/completions?debug=1"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def well(request: web.Request) -> web.StreamResponse:
    """Stream the request's body back in two pieces."""
    body = await request.read()
    response = web.StreamResponse(headers={"x-path": request.path_qs})
    await response.prepare(request)
    await response.write(body[:10])
    await response.write(body[10:])
    return response


async def fails(_: web.Request) -> web.StreamResponse:
    """Answer 500."""
    return web.Response(status=500, text="engine is gone")


async def busy(_: web.Request) -> web.StreamResponse:
    """Answer 429."""
    return web.Response(status=429, headers={"retry-after": "7"}, text="full")


async def lacks(request: web.Request) -> web.StreamResponse:
    """Answer 404 to requests for one model, and serve others."""
    return web.Response(status=404, text="no such model") if b"llama-3" in await request.read() else await well(request)


async def hangs(_: web.Request) -> web.StreamResponse:
    """Say nothing."""
    await asyncio.sleep(PATIENCE)
    return web.Response()


async def resets(request: web.Request) -> web.StreamResponse:
    """Break the connection off instead of answering."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def breaks_off(request: web.Request) -> web.StreamResponse:
    """Break off after the first piece of the answer."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"The sky")
    assert request.transport is not None
    request.transport.close()
    return response


async def refuses(_: web.Request) -> web.StreamResponse:
    """Call every request wrong."""
    return web.Response(status=400, text="bad prompt")


@attrs.define
class Place:
    """What runs in a test: a gateway in front of model servers."""

    url: str
    registry: EndpointRegistry
    picker: EndpointPicker
    client: aiohttp.ClientSession
    asked: list[int] = attrs.field(factory=list)

    async def ask(self, body: bytes = BODY) -> tuple[int, bytes, Any]:
        """Send a request; give status, body and headers."""
        async with self.client.post(self.url + PATH, data=body) as answer:
            return answer.status, await answer.read(), answer.headers

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until it is so."""
        async with asyncio.timeout(PATIENCE):
            while not is_so():  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(0.002)

    def ejected(self) -> dict[int, str]:
        """Tell the reasons of ejections by the number of the server."""
        return {int(endpoint.pod_name[1:]): each.reason for endpoint, each in self.registry.health.ejections()}


def _closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def _start(handler: Handler, number: int, place: Place) -> tuple[int, web.AppRunner]:
    async def handle(request: web.Request) -> web.StreamResponse:
        place.asked.append(number)
        return await handler(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner.addresses[0][1], runner


Build = Callable[[EndpointPicker, aiohttp.ClientSession], Starlette]


def gateway(retries: int = 2) -> Build:
    """Build the gateway of the file, alone."""
    gateway_class = runpy.run_path(str(EXAMPLE))["Gateway"]
    return lambda picker, client: Starlette(routes=[Route("/{path:path}", gateway_class(picker, client, retries))])


def application() -> Build:
    """Build the application of the page, which has a client of its own."""
    names: dict[str, Any] = {}
    for block in blocks_of(PAGE.read_text(encoding="utf-8")):
        if block.language == "python":
            exec(block.code, names)  # noqa: S102 - the page is ours
    return lambda picker, _: names["application"](picker)


@asynccontextmanager
async def running(
    *handlers: Handler | None, build: Build | None = None, read_timeout: float = PATIENCE
) -> AsyncIterator[Place]:
    """Run the example in front of a server for each of *handlers*; None for one that is dead."""
    registry = EndpointRegistry()
    picker = EndpointPicker(registry, rng=Random(1))
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE, sock_read=read_timeout)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3)
    async with aiohttp.ClientSession() as client, aiohttp.ClientSession(timeout=timeout, connector=connector) as ours:
        built = (build or gateway())(picker, ours)
        server = uvicorn.Server(uvicorn.Config(built, port=0, log_config=None))
        serving = asyncio.create_task(server._serve())
        place = Place("", registry, picker, client)
        await place.until(lambda: server.started)
        place.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        runners, endpoints = [], []
        for number, handler in enumerate(handlers):
            port = _closed_port()
            if handler is not None:
                port, runner = await _start(handler, number, place)
                runners.append(runner)
            endpoints.append(Endpoint(namespace="default", pod_name=f"s{number}", address="127.0.0.1", port=port))
        registry.set_endpoints(endpoints)
        yield place
        await place.until(lambda: not picker.statistics().in_flight)
        server.should_exit = True
        await serving
        for runner in runners:
            await runner.cleanup()


def test_the_page_shows_the_file() -> None:
    """What the page shows is the file that these tests run, and both are short."""
    text = EXAMPLE.read_text(encoding="utf-8")

    assert f"```python\n{text}```" in PAGE.read_text(encoding="utf-8")
    assert len([line for line in text.splitlines() if line and not line.lstrip().startswith("#")]) <= 60


def test_streams_arrive_whole_from_all() -> None:
    """Where all are well, requests and answers arrive as they were sent, and all servers have a part."""

    async def run() -> None:
        async with running(well, well, well) as place:
            for _ in range(30):
                status, body, headers = await place.ask()
                assert (200, BODY, PATH) == (status, body, headers["x-path"])
            assert {0, 1, 2} == set(place.asked)
            assert {} == place.ejected()

    asyncio.run(run())


def test_the_application_of_the_page() -> None:
    """The application that the page ends with has a client as long as it runs, and retries as well."""

    async def run() -> None:
        async with running(fails, well, build=application()) as place:
            for _ in range(20):
                assert (200, BODY) == (await place.ask())[:2]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (None, EjectionReason.CONSECUTIVE_GATEWAY_FAILURE),
        (resets, EjectionReason.CONSECUTIVE_GATEWAY_FAILURE),
        (hangs, EjectionReason.CONSECUTIVE_GATEWAY_FAILURE),
        (fails, EjectionReason.CONSECUTIVE_5XX),
        (busy, EjectionReason.BUSY),
        (lacks, EjectionReason.MODEL_NOT_FOUND),
    ],
    ids=lambda value: getattr(value, "__name__", value and str(value)) or "dead",
)
def test_one_of_four_is_ill(handler: Handler | None, reason: EjectionReason) -> None:
    """Not one request fails while one of four servers is dead or ill, and it is ejected for the right reason."""

    async def run() -> None:
        async with running(handler, well, well, well, read_timeout=0.2 if handler is hangs else PATIENCE) as place:
            async with asyncio.timeout(PATIENCE):
                while not place.ejected():
                    assert [(200, BODY)] * 8 == [
                        answer[:2] for answer in await asyncio.gather(*(place.ask() for _ in range(8)))
                    ]
            assert {0: reason} == place.ejected()

    asyncio.run(run())


def test_four_of_five_are_ill_in_different_ways() -> None:
    """Not one request fails where a single server is well, as long as each may be asked; others serve other models."""

    async def run() -> None:
        async with running(None, fails, busy, lacks, well, build=gateway(retries=4)) as place:
            for _ in range(40):
                assert (200, BODY) == (await place.ask())[:2]
            other = BODY.replace(b"llama-3", b"llama-4")
            for _ in range(20):
                assert (200, other) == (await place.ask(other))[:2]
            assert EjectionReason.MODEL_NOT_FOUND == place.ejected()[3]
            assert place.asked[-20:].count(3)

    asyncio.run(run())


def test_retry_after_is_heeded() -> None:
    """A server that answers 429 is left alone for as long as it says."""

    async def run() -> None:
        async with running(busy, well) as place:
            while not place.ejected():
                assert 200 == (await place.ask())[0]
            [(_, ejection)] = place.registry.health.ejections()
            assert 7 <= ejection.until - ejection.since

    asyncio.run(run())


def test_the_last_answer_is_the_clients() -> None:
    """Where all are busy the client hears so from one of them, with its Retry-After."""

    async def run() -> None:
        async with running(busy, busy, busy) as place:
            status, body, headers = await place.ask()
            assert (429, b"full", "7") == (status, body, headers["retry-after"])
            assert 3 == len(set(place.asked))

    asyncio.run(run())


def test_nobody_answers() -> None:
    """Where all are dead, and where there are none, the client gets 503; nothing stays in flight."""

    async def run() -> None:
        async with running(None, None) as place:
            assert 503 == (await place.ask())[0]
        async with running() as place:
            assert 503 == (await place.ask())[0]

    asyncio.run(run())


def test_no_retry_after_the_first_byte() -> None:
    """An answer that breaks off reaches the client broken, no other server is asked, and the failure is counted."""

    async def run() -> None:
        async with running(breaks_off, breaks_off) as place:
            for count in range(1, 11):
                with pytest.raises(aiohttp.ClientPayloadError):
                    await place.ask()
                assert count == len(place.asked)

    asyncio.run(run())


def test_a_wrong_request_is_asked_once() -> None:
    """The client's mistake is answered by the first server, and ejects none."""

    async def run() -> None:
        async with running(refuses, refuses) as place:
            for count in range(1, 31):
                assert (400, b"bad prompt") == (await place.ask())[:2]
                assert count == len(place.asked)
            assert {} == place.ejected()

    asyncio.run(run())


@pytest.mark.parametrize("begins", [False, True])
def test_the_client_leaves(*, begins: bool) -> None:
    """A client that leaves, before or within the answer, ends the request at the server, and says nothing of it."""
    ended = []

    async def waits(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        try:
            if begins:
                await response.prepare(request)
                await response.write(b"The sky")
            await asyncio.sleep(PATIENCE)
        finally:
            ended.append(True)
        return response

    async def run() -> None:
        async with running(waits) as place:
            for count in range(1, 11):
                asking = asyncio.create_task(place.ask())
                await place.until(lambda wanted=count: wanted == len(place.asked))  # type: ignore[misc]  # of a default's type
                asking.cancel()
                await place.until(lambda wanted=count: wanted == len(ended))  # type: ignore[misc]  # of a default's type
            await place.until(lambda: not place.picker.statistics().in_flight)
            assert {} == place.ejected()

    asyncio.run(run())
