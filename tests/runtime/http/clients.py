"""A page server that runs, and clients that say exactly what they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import attrs

from inferencepool.runtime.http import Page, PageHandler, PageLimits, PageRequest, PageServer
from tests.patience import PATIENCE

LOOPBACK = "127.0.0.1"


def echo(request: PageRequest) -> Page:
    """Tell what was asked for."""
    return Page(f"{request.path} {dict(request.query)}".encode())


@asynccontextmanager
async def serving(
    pages: Mapping[str, PageHandler] | None = None, limits: PageLimits | None = None
) -> AsyncIterator[PageServer]:
    """Serve *pages*, by default one that echoes."""
    server = PageServer(pages if pages is not None else {"/": echo}, address=LOOPBACK, limits=limits)
    async with asyncio.timeout(PATIENCE):
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


@attrs.define
class Client:
    """A connection whose other end says what it likes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        """Send *data*."""
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, path: str = "/", method: str = "GET", *headers: str) -> tuple[str, dict[str, str], bytes]:
        """Ask for a page, and give status line, headers and body."""
        lines = [f"{method} {path} HTTP/1.1", "Host: test", *headers]
        await self.say("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        return await self.hear(bodiless=method == "HEAD")

    async def hear(self, *, bodiless: bool = False) -> tuple[str, dict[str, str], bytes]:
        """Read one response."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.rstrip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = 0 if bodiless else int(headers["content-length"])
        return status, headers, await self.reader.readexactly(length)

    async def rest(self) -> bytes:
        """Read until the server hangs up."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""


@asynccontextmanager
async def client_of(server: PageServer) -> AsyncIterator[Client]:
    """Connect to *server*."""
    reader, writer = await asyncio.open_connection(LOOPBACK, server.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
