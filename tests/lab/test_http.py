"""What the HTTP servers of the laboratory have in common, byte by byte."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import final

import pytest

from inferencepool.lab._http import HttpConnection, HttpRequest
from tests.patience import PATIENCE

MAX_BODY = 1000


@final
class Echo(HttpConnection):
    """Answers with what was asked, in one piece, or in chunks, or not at all."""

    def __init__(self, ended: list[str]) -> None:
        super().__init__(max_body=MAX_BODY)
        self._ended = ended

    async def answer(self, request: HttpRequest) -> None:
        """Answer, and note that it is over."""
        try:
            if request.body is None:
                await self.reply(request, 413, {}, b"too long")
            elif request.target == "/chunks":
                await self.send_head(200, {})
                for part in (b"one", b"two"):
                    await self.send(part)
                await self.end_message()
            elif request.target == "/wait":
                await asyncio.Event().wait()
            elif request.target == "/fail":
                message = "on purpose"
                raise RuntimeError(message)
            else:
                await self.reply(request, 200, {"x-length": str(len(request.body))}, request.body)
        finally:
            self._ended.append(request.target)


def converse(
    scenario: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> list[str]:
    """Run *scenario* with a connection; give the targets whose answers are over."""
    ended: list[str] = []

    async def everything() -> None:
        listener = await asyncio.get_running_loop().create_server(lambda: Echo(ended), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        async with asyncio.timeout(PATIENCE):
            await scenario(reader, writer)
            writer.close()
            await writer.wait_closed()
        listener.close()

    asyncio.run(everything())
    return ended


def test_requests_follow_each_other() -> None:
    """Requests that come at once are answered in turn, with bodies in chunks or counted, and without any for HEAD."""

    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi")
        writer.write(b"POST /b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n")
        writer.write(b"HEAD /c HTTP/1.1\r\nhost: x\r\n\r\nGET /chunks HTTP/1.1\r\nhost: x\r\n\r\n")
        for length, body in ((b"2", b"hi"), (b"3", b"yes"), (b"0", b"")):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"\r\nx-length: " + length + b"\r\n" in head
            assert body == await reader.readexactly(len(body))
        await reader.readuntil(b"\r\n\r\n")
        assert b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n" == await reader.readuntil(b"0\r\n\r\n")

    assert ["/a", "/b", "/c", "/chunks"] == converse(scenario)


def test_body_that_is_too_long() -> None:
    """It is refused before it is whole, and a client that goes on sending gets to read why."""

    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n" + b"x" * (MAX_BODY + 1))
        answer = await reader.readuntil(b"too long")
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"\r\nconnection: close\r\n" in answer.lower()
        writer.write(b"x" * (1_000_000 - MAX_BODY - 1))
        await writer.drain()
        assert b"" == await reader.read()

    assert ["/"] == converse(scenario)


def test_client_that_hangs_up() -> None:
    """The answer that is under way ends."""

    async def scenario(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
        await writer.drain()

    assert ["/wait"] == converse(scenario)


def test_answer_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """The client is told that something failed, and the log tells what."""

    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET /fail HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 500 ")

    with caplog.at_level(logging.ERROR):
        converse(scenario)
    assert "on purpose" in caplog.text


@pytest.mark.parametrize("sent", [b"\x16\x03\x01 no HTTP\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_nonsense(sent: bytes) -> None:
    """What is no HTTP is answered with 400, and asks for nothing."""

    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")

    assert [] == converse(scenario)
