"""A claim of a parser is found however its path is spelt: nobody gets around a rule for bodies by the spelling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
import uvicorn
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route as StarletteRoute

from inferencepool.adapters.bodies import BodyParsers, _registry, request_path
from inferencepool.errors import InvalidRequestError
from tests.patience import PATIENCE

CHAT = "/v1/chat/completions"
FOUND = b"CHAT"


def _claim_of(path: str) -> str:
    return BodyParsers().find(request_path({":path": path}))[1].claim


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/%63ompletions",
        "/v1/chat/%63%6F%6d%70letions",
        "/v1/chat%2Fcompletions",
        "/v1/chat%2fcompletions",
        "/v1/chat%5ccompletions",
        "/v1/chat\\completions",
        "//v1/chat//completions",
        "/v1/./chat/%2e/completions",
        "/v1/chat/completions/",
        "/v1/chat/completions//",
        "/v1/chat/completions/.",
        "/v1/chat/completions;a=b",
        "/v1/chat;x/completions%3By",
        "http://host/v1/chat/%63ompletions",
        "HTTPS://host:1/v1/chat/completions/?a",
        "/v1/chat/completions?a=/../b#c",
        "/%ff\u00f6/v1/chat/completions",
        "/a%3Fb/v1/chat/completions",
        "/a%23b/v1/chat/completions",
        "/" + "%41" * 200 + "/v1/chat/completions",
    ],
)
def test_spellings_of_a_claim(path: str) -> None:
    """What a server may take for the path of a conversation is read as one."""
    assert "chat/completions" == _claim_of(path)


@pytest.mark.parametrize(
    "path",
    [
        "/V1/Chat/Completions",
        "/v1/chat/%2563ompletions",
        "/v1/chat/%zzcompletions",
        "/v1/chat/completions%",
        "/v1/chat/completions%20",
        "/v1/chat/completions%ff",
        "/v1/chat/completions%3Fx",
        "/v1/chat/completions%23x",
    ],
)
def test_other_paths(path: str) -> None:
    """What no server takes for the path of a conversation is not read as one: case counts, and one decoding."""
    assert not _claim_of(path)


@pytest.mark.parametrize(
    ("path", "shown", "found"),
    [
        ("/v1/x/../chat/completions", "/v1/x/../chat/completions", "segment '..'"),
        ("/v1/chat/completions/%2e./?key=secret", "/v1/chat/completions/%2e./", "segment '..'"),
        ("/v1/chat/completions/a%2f..", "/v1/chat/completions/a%2f..", "segment '..'"),
        ("/v1/chat/completions/x/..;a", "/v1/chat/completions/x/..;a", "segment '..'"),
        ("/v1/chat/completions#x", "/v1/chat/completions#x", "'#'"),
        ("/v1/chat/completions%00", "/v1/chat/completions%00", "control character"),
        ("/v1/chat/completions%0a", "/v1/chat/completions%0a", "control character"),
        ("/v1/chat/completions\0", r"/v1/chat/completions\x00", "control character"),
        ("/" + "x" * 300 + "%7f", "/" + "x" * 255 + "...", "control character"),
    ],
)
def test_paths_without_a_safe_reading(path: str, shown: str, found: str) -> None:
    """Where servers differ, the request is refused with what is wrong with its path, and without its query."""
    for _ in range(2):
        with pytest.raises(InvalidRequestError) as caught:
            BodyParsers().parse({":path": path}, b"{}")
        assert f"request: path: {shown} has a {found}, allowed is none" == str(caught.value)
        assert 400 == caught.value.http_status


def test_normalised_paths_are_remembered_up_to_a_number() -> None:
    """Clients that send ever new spellings, or long ones, fill no memory."""
    for index in range(2_000):
        request_path({":path": f"/%41/{index}"})
    before = _registry._remember_normalised.cache_info()
    request_path({":path": "/%41" * 1_000})

    assert (512, 512) == (before.maxsize, before.currsize)
    assert before == _registry._remember_normalised.cache_info()


_PIECES = st.sampled_from(
    [*"/.;%#\\?:ab", "v1", "chat", "completions", "%63", "%2f", "%2e", "%5c", "%3b", "%3f", "%23", "%0a", "%25", "ö"]
)


@given(prefix=st.lists(_PIECES, max_size=12).map("".join))
def test_a_claim_at_the_end_is_never_lost(prefix: str) -> None:
    """Whatever stands before it, a path that ends with a claim, as it is or decoded, is read by it or refused."""
    try:
        claim = _claim_of(f"/{prefix}/v1/chat/completions")
    except InvalidRequestError:
        return
    if "?" not in prefix:
        assert "chat/completions" == claim


class _Servers:
    """A conversation at `CHAT`, served by what model servers are made of; *ports* has where."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self._uvicorns: list[uvicorn.Server] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = Starlette(routes=[StarletteRoute(CHAT, _chat_starlette, methods=["POST"])])
        for http in ("httptools", "h11"):
            config = uvicorn.Config(application, port=0, http=http, lifespan="off", log_config=None)
            server = uvicorn.Server(config)
            self._uvicorns.append(server)
            self._tasks.append(asyncio.create_task(server._serve()))  # `serve` would take the signals
            while not server.started:  # noqa: ASYNC110 - it offers nothing to wait for
                await asyncio.sleep(0.005)
            self.ports.append(server.servers[0].sockets[0].getsockname()[1])
        plain = web.Application()
        plain.router.add_post(CHAT, _chat_aiohttp)
        self._runner = web.AppRunner(plain, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.ports.append(self._runner.addresses[0][1])

    async def stop(self) -> None:
        for server in self._uvicorns:
            server.should_exit = True
        await asyncio.gather(*self._tasks)
        assert self._runner is not None
        await self._runner.cleanup()

    async def who_finds(self, path: str) -> list[bool]:
        return [await _finds(port, path) for port in self.ports]


async def _chat_starlette(_: Request) -> PlainTextResponse:
    return PlainTextResponse(FOUND)


async def _chat_aiohttp(_: web.Request) -> web.Response:
    return web.Response(body=FOUND)


async def _finds(port: int, path: str) -> bool:
    """Send *path* as it is."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
    return answer.endswith(FOUND)


@pytest.fixture(name="servers", scope="module")
def _servers() -> Iterator[Callable[[str], list[bool]]]:
    servers = _Servers()
    with asyncio.Runner() as runner:
        runner.run(servers.start())
        yield lambda path: runner.run(servers.who_finds(path))
        runner.run(servers.stop())


def test_servers_decode_once(servers: Callable[[str], list[bool]]) -> None:
    """These are the readings that the rule is made for; where a server changes its own, this tells."""
    assert [True, True, True] == servers(CHAT)
    assert [True, True, True] == servers("/v1/chat/%63ompletions")
    assert [True, True, False] == servers("/v1/chat%2Fcompletions")
    assert [True, False, True] == servers("http://h/v1/chat/completions")
    assert [True, False, True] == servers("/v1/chat/completions#x")
    assert [True, True, False] == servers("/v1/chat/completions%0a")
    for path in (
        "/v1/chat/%2563ompletions",
        "/V1/chat/completions",
        "/v1/chat/completions%00",
        "/v1//chat/completions",
    ):
        assert [False, False, False] == servers(path)


_SPELLINGS = st.tuples(
    st.sampled_from(["/", "//", "/./", "http://h/", "/x/../", "\\", "/%2e/"]),
    st.sampled_from(["v1", "%76%31", "V1"]),
    st.sampled_from(["/", "//", "%2F", "%2f", "%5C", "/%2e/", "/a/../", ";/"]),
    st.sampled_from(["chat", "%63hat", "%2563hat", "chat;x"]),
    st.sampled_from(["/", "//", "%2F", "\\", "/./", "/%2E%2E/"]),
    st.sampled_from(["completions", "%63ompletion%73", "Completions"]),
    st.sampled_from(["", "", "/", "//", "%2f", ";a=b", "?x", "#x", "%00", "%0a", "%0d", "%20", "/.", "/x/..", "%"]),
).map("".join)


@given(path=_SPELLINGS)
def test_what_a_server_finds_the_rule_finds(servers: Callable[[str], list[bool]], path: str) -> None:
    """A conversation that reaches uvicorn with Starlette, or aiohttp, was read as one, or was refused before."""
    if any(servers(path)):
        try:
            claim = _claim_of(path)
        except InvalidRequestError:
            return
        assert "chat/completions" == claim
