"""A hostile pod: its metrics pages are as long as they may be, and as dear to read as it can make them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from itertools import cycle
from random import Random

import attrs

__all__ = ["PAGES", "PAGE_SIZE", "Pages"]

PAGE_SIZE = 1 << 20
_VARIANTS = 8
# So busy that nothing is sent to it: what it is judged by are its pages.
_HEAD = (
    'vllm:num_requests_waiting{model_name="llama"} 100000.0\n'
    'vllm:num_requests_running{model_name="llama"} 1000.0\n'
    'vllm:kv_cache_usage_perc{model_name="llama"} 1.0\n'
)
_ADAPTERS = 10_000


def _loras(variant: int) -> Iterator[str]:
    """Write 10,000 LoRA series; the times of all but the latest are others in each page."""
    for number in range(_ADAPTERS):
        running = f'max_lora="4",running_lora_adapters="{number:04}",waiting_lora_adapters=""'
        seconds = 1_771_234_500 + (number + variant) % 97 if number else 1_900_000_000
        yield f"vllm:lora_requests_info{{{running}}} {seconds}\n"


def _labels(variant: int) -> Iterator[str]:
    """Write series of a metric that is read, with labels that no page had before."""
    rng = Random(variant)
    while True:
        yield f'vllm:num_requests_waiting{{model_name="m{rng.getrandbits(40):x}",engine="{rng.getrandbits(40)}"}} 1.0\n'


def _escapes(variant: int) -> Iterator[str]:
    """Write values of labels that consist of escapes."""
    while True:
        names = r"\\\n\"" * 2000
        yield f'vllm:lora_requests_info{{max_lora="4",running_lora_adapters="{variant}{names}"}} 1.5\n'


PAGES: dict[str, Callable[[int], Iterator[str]]] = {"loras": _loras, "labels": _labels, "escapes": _escapes}


@attrs.frozen
class Pages:
    """
    A pod that gives pages of one kind, each other than the one before.

    Attributes:
        kind: A key of `PAGES`.
    """

    kind: str

    def pages(self) -> list[bytes]:
        """Write some pages of at most `PAGE_SIZE`."""
        return [_page(PAGES[self.kind](variant)) for variant in range(_VARIANTS)]


def _page(lines: Iterator[str]) -> bytes:
    page, size = [_HEAD], len(_HEAD)
    for line in lines:
        size += len(line)
        if size > PAGE_SIZE:
            break
        page.append(line)
    return "".join(page).encode()


class _Pod(asyncio.Protocol):
    """Gives good pages until it is told to begin; answers everything else with an empty object."""

    begun = False

    def __init__(self, pages: Iterator[bytes]) -> None:
        self._pages = pages
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if data.startswith(b"GET /metrics"):
            self._answer(next(self._pages) if _Pod.begun else _HEAD.encode())
        elif data.startswith((b"GET", b"POST")):
            self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        assert self._transport is not None
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


async def _serve(kind: str) -> None:
    """Serve until standard input ends; each line on it begins the attack or ends it."""
    pages = cycle(Pages(kind).pages())
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Pod(pages), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        _Pod.begun = line.strip() == "begin"


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
