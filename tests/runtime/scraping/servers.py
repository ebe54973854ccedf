"""Model servers that answer as told, on real sockets, and a registry that is scraped from them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import Any, Self, final

import attrs

from inferencepool.model import Endpoint, EndpointMetrics
from inferencepool.registry import EndpointRegistry, Staleness
from inferencepool.runtime.scraping import EndpointScrapes, MetricsScraper, ScrapingOptions
from tests.patience import PATIENCE

LOOPBACK = "127.0.0.1"

Play = Callable[["PageServer", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


def page_of(waiting: float = 0, running: float = 0, usage: float = 0) -> bytes:
    """A short page of vLLM."""
    return (
        f"# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting {waiting}\n"
        f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running {running}\n"
        f"# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc {usage}\n"
        '# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{block_size="16",num_gpu_blocks="100"} 1.0\n'
    ).encode()


def response_of(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """A response with a length; underscores in header names stand for hyphens."""
    fields = {"content-length": str(len(body)), **{name.replace("_", "-"): text for name, text in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


async def serve_pages(server: PageServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request with the server's page."""
    while await read_request(server, reader):
        writer.write(response_of(server.page))
        await writer.drain()


async def read_request(server: PageServer, reader: asyncio.StreamReader) -> bool:
    """Read a request; False where the client hung up."""
    try:
        request = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return False
    server.requests.append(request)
    return True


def answer_with(response: bytes, *, close: bool = False) -> Play:
    """Answer every request with *response*, and hang up if wanted."""

    async def play(server: PageServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(server, reader):
            writer.write(response)
            await writer.drain()
            if close:
                return

    return play


@final
class PageServer:
    """
    A server of which a test says what it does.

    Attributes:
        play: What it does with each connection.
        page: What it answers unless *play* does something else.
        requests: The requests so far.
        connections: How many connections there were.
        open: How many are open.
        sent: Bytes that were written, where *play* counts them.
    """

    def __init__(self, play: Play = serve_pages, tls: ssl.SSLContext | None = None) -> None:
        self.play = play
        self.page = page_of()
        self.requests: list[bytes] = []
        self.connections = self.open = self.sent = 0
        self.port = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def behave(self, page: bytes) -> None:
        """Hang up, and answer with *page* from now on."""
        self.play, self.page = serve_pages, page
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self.play(self, reader, writer)
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


def endpoint_of(name: str, port: int, labels: Mapping[str, str] | None = None, uid: str = "") -> Endpoint:
    """An endpoint on this machine that belongs to no pool."""
    return Endpoint(
        namespace="default",
        pod_name=name,
        address=LOOPBACK,
        port=port,
        rank=None,
        labels=labels or {},
        pod_uid=uid,
    )


@attrs.define
class Scraped:
    """A registry that is being scraped."""

    registry: EndpointRegistry
    scraper: MetricsScraper

    def metrics(self, name: str) -> EndpointMetrics:
        """The metrics of an endpoint, as they were reported."""
        snapshot = self.registry.publish()
        return snapshot.metrics[snapshot.fleet.by_id[f"default/{name}"]]

    def is_stale(self, name: str) -> bool:
        """Whether the registry takes the metrics of an endpoint for stale."""
        snapshot = self.registry.publish()
        return bool(snapshot.stale >> snapshot.fleet.by_id[f"default/{name}"] & 1)

    def scrapes(self, name: str) -> EndpointScrapes:
        """What became of the scrapes of an endpoint."""
        return next(
            scrapes for scrapes in self.scraper.statistics().endpoints if scrapes.endpoint.id == f"default/{name}"
        )

    async def next_page(self, name: str) -> EndpointMetrics:
        """Wait for metrics of a scrape that begins from now on."""
        now = self.registry.clock()
        await until(lambda: (self.metrics(name).observed_at or 0) > now)
        return self.metrics(name)


@asynccontextmanager
async def scraped(
    endpoints: Iterable[Endpoint],
    options: ScrapingOptions | None = None,
    *,
    threshold: float = PATIENCE,
    **arguments: Any,
) -> AsyncIterator[Scraped]:
    """
    Scrape *endpoints* of a registry in which metrics are stale after *threshold* seconds.

    By default no time is up before a test is.
    """
    registry = EndpointRegistry(staleness=Staleness(threshold))
    registry.set_endpoints(endpoints)
    options = options if options is not None else ScrapingOptions(interval=0.01, timeout=PATIENCE, overdue=inf)
    scraper = MetricsScraper(registry, options=options, **arguments)
    task = asyncio.create_task(scraper.run())
    # It knows its endpoints as soon as it has run for the first time.
    await asyncio.sleep(0)
    try:
        yield Scraped(registry, scraper)
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(condition: Callable[[], object]) -> None:
    """Wait until *condition* holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


def on_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test that is a coroutine, within the limit of patience."""

    async def run(*arguments: Any, **fixtures: Any) -> None:
        async with asyncio.timeout(PATIENCE):
            await test(*arguments, **fixtures)

    def wrapped(*arguments: Any, **fixtures: Any) -> None:
        asyncio.run(run(*arguments, **fixtures))

    wrapped.__wrapped__ = test  # type: ignore[attr-defined]  # pytest looks there for the arguments
    wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
    return wrapped
