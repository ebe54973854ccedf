"""
Model servers that do nothing but give their page: ``python -m benchmarks.scraping.server COUNT [idle|small|22kB]``.

It prints the port of each. A page is written once and sent again and again, so that one process serves a hundred.
"""

from __future__ import annotations

import asyncio
import re
import sys
from itertools import cycle

from benchmarks.scraping.pages import vllm_pages

_SMALL = re.compile(rb"num_requests_(?:running|waiting)|kv_cache_usage_perc|cache_config_info|lora_requests_info")
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


def _cut(page: bytes, size: int) -> bytes:
    """Leave out histograms until a page is not longer than *size*."""
    lines = page.splitlines(keepends=True)
    buckets = [index for index, line in enumerate(lines) if b"_bucket{" in line]
    while sum(map(len, lines)) > size:
        lines[buckets.pop()] = b""
    return b"".join(lines)


async def _serve(count: int, kind: str) -> None:
    pages = vllm_pages(16, idle=kind == "idle")
    if kind == "small":
        # The metrics that are read, and nothing else.
        pages = [b"".join(line for line in page.splitlines(keepends=True) if _SMALL.search(line)) for page in pages]
    elif kind == "22kB":
        pages = [_cut(page, 22_000) for page in pages]
    responses = [_HEAD % len(page) + page for page in pages]
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda: _Server(responses), "127.0.0.1", 0) for _ in range(count)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2] if sys.argv[2:] else ""))
