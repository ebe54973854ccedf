"""
Model servers that do nothing but give their page: ``python -m benchmarks.scraping.server COUNT [idle]``.

It prints the port of each. A page is written once and sent again and again, so that one process serves a hundred.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import cycle

from benchmarks.scraping.pages import vllm_pages

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\ncontent-length: %d\r\n\r\n"


class _Server(asyncio.Protocol):
    """Answers whatever arrives with the next page."""

    def __init__(self, responses: list[bytes]) -> None:
        self._next = cycle(responses).__next__
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - a request is a request
        assert self._transport is not None
        self._transport.write(self._next())


async def _serve(count: int, *, idle: bool) -> None:
    responses = [_HEAD % len(page) + page for page in vllm_pages(16, idle=idle)]
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda: _Server(responses), "127.0.0.1", 0) for _ in range(count)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), idle="idle" in sys.argv[2:]))
