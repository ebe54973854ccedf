"""One endpoint that is scraped."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import Callable, Generator
from typing import Final, TypeAlias, final

import attrs

from inferencepool.adapters.exposition import Engine, PageReader
from inferencepool.errors import InvalidMetricsError
from inferencepool.model import Endpoint, EndpointMetrics, join_host_port
from inferencepool.registry import EndpointRegistry
from inferencepool.runtime.scraping._allowance import Allowance
from inferencepool.runtime.scraping._answer import Answer, ScrapeError, inflated, page_of
from inferencepool.runtime.scraping._connection import Connection
from inferencepool.runtime.scraping._options import ScrapingOptions
from inferencepool.runtime.scraping._turns import Turns

__all__ = ["Site", "Target"]

_Steps: TypeAlias = Generator[None, None, None]

_PATH: Final = "/metrics"
# What a connection ends with where nobody listens (any more): then the endpoint is not slow, but gone.
_GONE: Final = frozenset({errno.ECONNREFUSED, errno.ECONNRESET})


@attrs.frozen(eq=False)
class Site:
    """
    What all targets of a scraper share.

    Attributes:
        registry: Where metrics go.
        options: How servers are scraped.
        context: TLS; None for plain connections.
        buffer: What arrives is read into it.
        turns: Where pages wait that take longer to read.
        clock: Measures how long work takes, in seconds.
        finished: Is told when a scrape is over.
    """

    registry: EndpointRegistry
    options: ScrapingOptions
    context: ssl.SSLContext | None
    buffer: memoryview
    turns: Turns
    clock: Callable[[], float]
    finished: Callable[[Target], object]


@final
class Target:
    """
    One endpoint: its connection, its page reader, and what became of its scrapes.

    It belongs to an event loop, whose thread guards it. One scrape at a time; `begin` starts one, and the site's
    `finished` hears of its end, whatever it is, unless `close` came first.

    Attributes:
        endpoint: The endpoint.
        due: When the next scrape begins, or the one under way was to begin, in seconds of the event loop.
        began: When the last scrape began, in seconds of the event loop.
        fresh_since: When the last scrape that gave metrics began, or the endpoint was first known, in seconds of the
            event loop.
        succeeded: When the last scrape that gave metrics began, by the registry's clock; None while none did.
        scraping: Whether a scrape is under way.
        scrapes: How many began.
        fetch_errors: How many got no page.
        read_errors: How many got a page without metrics.
        failures: How many failed in a row.
        calm: How many in a row found nothing waiting and nothing running.
        reason: Why the last one failed; empty when it did not.
        told: Whether the log was told that its metrics are stale.
        cost: Seconds of work that the last scrape took.
        allowance: What work its pages may take.
        postponed: How many scrapes began later because of that.
        told_cost: Whether the log was told of it.
        lost: Whether the last scrape found a connection refused or reset, or was overdue.
        closed: Whether it is scraped no longer.
        reader: What its pages told.
    """

    def __init__(self, endpoint: Endpoint, site: Site, now: float) -> None:
        """Be ready to scrape *endpoint*, which is known since *now*, in seconds of the event loop."""
        self.endpoint = endpoint
        self.due = self.began = self.fresh_since = now
        self.succeeded: float | None = None
        self.scraping = self.told = False
        self.scrapes = self.fetch_errors = self.read_errors = self.failures = self.calm = 0
        self.reason = ""
        self._site = site
        options = site.options
        self._port, self._request = self._address_page()
        self.cost = 0.0
        self.allowance = Allowance(options.most_share, now)
        self.postponed = 0
        self.told_cost = self.lost = False
        self.closed = False
        self.reader = PageReader(self._engine)
        self._steps: _Steps | None = None
        self._observed_at = self._took = 0.0
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._reused = False

    def replace(self, endpoint: Endpoint) -> None:
        """Take over other labels of the same endpoint."""
        self.endpoint = endpoint
        if self._engine is not self.reader.engine:
            self.reader = PageReader(self._engine, self.reader.metrics)
            port, self._request = self._address_page()
            if port != self._port:
                self._port = port
                self._disconnect()
                if self.scraping:
                    self._fail("its labels name another engine, whose page is at another port")

    def _address_page(self) -> tuple[int, bytes]:
        """Tell at which port the page is, and how it is asked for."""
        options, engine, endpoint = self._site.options, self._engine, self.endpoint
        port = options.port or engine.port or endpoint.port
        path = options.path or engine.path or _PATH
        return port, _request_of(join_host_port(endpoint.address, port), path, gzip=options.gzip)

    def begin(self, now: float) -> None:
        """Begin a scrape at *now*, in seconds of the event loop."""
        self.scraping, self.began, self.cost = True, now, 0.0
        self.scrapes += 1
        # What is in flight by now is what the page may show: see `EndpointMetrics.observed_at`.
        self._observed_at = self._site.registry.clock()
        connection = self._connection
        self._reused = connection is not None and connection.usable
        if connection is not None and self._reused:
            connection.ask(self._request)
        else:
            self._connect()

    def miss(self) -> None:
        """
        Take note that the scrape under way is overdue, which is as bad as a connection that is refused.

        A server that hangs would get requests until its metrics are too old. One whose pages rarely come fast is only
        slow, and an endpoint that never had a page may be starting: these are left to the age of their metrics.
        """
        if self._steps is None and self.succeeded is not None and self._took < self._site.options.overdue / 2:
            self._lose()

    def expire(self) -> None:
        """End a scrape that takes too long."""
        connection, timeout = self._connection, self._site.options.timeout
        if self._connecting is not None:
            what = "no connection"
        elif self._steps is not None:
            what = "the page was not read"
        elif connection is not None and connection.received:
            what = f"the response was not whole, with {connection.received} bytes,"
        else:
            what = "no response"
        self._disconnect()
        self._fail(f"{what} within {timeout:g} s")

    def close(self) -> None:
        """End everything; nobody hears of it."""
        self.closed = True
        self.scraping = False
        self._disconnect()

    def answered(self, answer: Answer, began: float, /) -> None:
        """Hear of a response, and when the work on its last part began. Most pages are read at once."""
        try:
            page = page_of(answer)
            if page is not None and self.reader.follow(page, self._observed_at):
                self._conclude(began)
                return
        except (ScrapeError, InvalidMetricsError) as error:
            self._conclude(began, error)
            return
        steps = self._steps = self._read(answer.body, page)
        # The page waits, and not the target: after a timeout there may be another one before it is this one's turn.
        if self._advance(began) and not self._site.turns.add(_PageReading(self, steps), len(answer.body)):
            self._steps = None
            self._fail("too many long pages wait to be read")

    def step(self, steps: _Steps) -> bool:
        """Read a slice of the page that *steps* read; False where nothing is left to read, or it was given up."""
        return steps is self._steps and self._advance(self._site.clock())

    def _advance(self, began: float) -> bool:
        """Do a step, as part of the work that *began* then; False where none is left."""
        if self._steps is None:
            return False
        try:
            next(self._steps)
        except StopIteration:
            self._conclude(began)
        except (ScrapeError, InvalidMetricsError) as error:
            self._conclude(began, error)
        else:
            self.spent(began)
        return self._steps is not None

    def _read(self, body: bytes, page: bytes | None) -> _Steps:
        """Read *page*, or, where there is none yet, what *body* holds."""
        reader = self.reader
        if page is None:
            page = yield from inflated(body, self._site.options.max_page_size)
            if reader.follow(page, self._observed_at):
                return
        yield from reader.learn(page, self._observed_at)

    def _conclude(self, began: float, problem: Exception | None = None) -> None:
        """End the scrape with what was read, or with the *problem* of it, if the work has not become too much."""
        self._steps = None
        self.spent(began)
        if not self.scraping:
            return
        if problem is None:
            self._take_over(self.reader.metrics)
        elif isinstance(problem, ScrapeError):
            self._fail(str(problem))
        else:
            self.read_errors += 1
            self._finish(str(problem))

    def spent(self, began: float, /) -> None:
        """Hear of work that *began* then and is done; a scrape that takes too much is ended."""
        seconds = self._site.clock() - began
        self.cost += seconds
        self.allowance.charge(seconds)
        most = self._site.options.most_cost
        if self.scraping and self.cost > most:
            self._disconnect()
            self._fail(f"the page takes more than {most:g} s of work")

    def _take_over(self, metrics: EndpointMetrics) -> None:
        is_idle = not metrics.waiting_queue_size and not metrics.running_requests
        self.calm = self.calm + 1 if is_idle else 0
        self.succeeded, self.fresh_since, self.lost = self._observed_at, self.began, False
        self._took = self._site.registry.clock() - self._observed_at
        self._site.registry.observe_metrics(self.endpoint, metrics, ignore_unknown=True)
        self._finish("")

    def failed(self, reason: str, /, *, unused: bool, reset: bool = False) -> None:
        """Hear that there is no response."""
        if unused and self._reused:
            # Servers close connections that were idle for long, maybe in the moment in which one is used again.
            self._reused = False
            self._connect()
        else:
            self._fail(reason, gone=reset)

    @property
    def _engine(self) -> Engine:
        return self._site.options.engines.engine_of(self.endpoint.labels)

    def _connect(self) -> None:
        self._connecting = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        site, options = self._site, self._site.options
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self, site.buffer, options.max_page_size, site.clock),
                self.endpoint.address,
                self._port,
                ssl=site.context,
                server_hostname=(options.tls.server_name or self.endpoint.address) if site.context else None,
            )
        except OSError as error:
            self._connecting = None
            self._fail(_reason_of(error), gone=error.errno in _GONE)
            return
        self._connecting = None
        self._connection = connection
        connection.ask(self._request)

    def _disconnect(self) -> None:
        self._steps = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _fail(self, reason: str, *, gone: bool = False) -> None:
        self.fetch_errors += 1
        if gone:
            self._lose()
        self._finish(reason)

    def _lose(self) -> None:
        self.lost = True
        self._site.registry.lose(self.endpoint)

    def _finish(self, reason: str) -> None:
        self.scraping = False
        self.reason = reason
        self.failures = self.failures + 1 if reason else 0
        if not self.closed:
            self._site.finished(self)


@attrs.frozen(eq=False)
class _PageReading:
    """A page of a target, while it is read."""

    target: Target
    steps: _Steps

    def step(self) -> bool:
        return self.target.step(self.steps)


def _request_of(address: str, path: str, *, gzip: bool) -> bytes:
    lines = (
        f"GET {path} HTTP/1.1",
        f"host: {address}",
        "accept: text/plain;version=0.0.4,*/*;q=0.1",
        f"accept-encoding: {'gzip' if gzip else 'identity'}",
        "user-agent: inferencepool",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


def _reason_of(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    # asyncio says that connecting failed, and not why.
    return f"no connection: {os.strerror(error.errno) if error.errno else error}"
