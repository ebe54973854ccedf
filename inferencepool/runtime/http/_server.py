"""The server: its addresses, its clients, and who makes which page."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NoReturn, final

from inferencepool.errors import ConfigurationError, MissingExtraError
from inferencepool.runtime._listening import CONNECTION_LIMITS, Acceptor, Guest, Guests, LimitTally, listen
from inferencepool.runtime.http._limits import PageLimits
from inferencepool.runtime.http._page import Page, PageHandler, PageRequest
from inferencepool.runtime.logs import log_event

if TYPE_CHECKING:
    from inferencepool.runtime.http._conversation import Conversation

__all__ = ["PageServer"]

_LOG = logging.getLogger(__name__)
_TOO_MANY = Page.text(503, "too many pages are asked for at once", ("retry-after", "1"))
_NO_PAGE = Page.text(404, "there is no such page")


@final
class PageServer:
    """
    Serves pages about a program, over HTTP/1.1 without TLS.

    It answers ``GET`` and ``HEAD``, refuses everything else, and keeps to `PageLimits` whatever clients do. It belongs
    to one event loop, whose thread guards it; pages are made in one other thread, so that a large one keeps no request
    waiting. Give it to an `EndpointPickerServer` as one of its parts, or call `start` and `stop`.
    """

    def __init__(
        self,
        pages: Mapping[str, PageHandler],
        *,
        address: str = "",
        port: int = 0,
        limits: PageLimits | None = None,
    ) -> None:
        """
        Serve *pages*.

        Args:
            pages: What makes a page, by its path. One that ends with a slash stands for all below it as well, and
                whoever leaves out the slash is sent there.
            address: Name or address to listen on; empty for all addresses of this machine.
            port: Port to listen on; 0 for any that is free.
            limits: What clients may use.

        Raises:
            ConfigurationError: A path does not begin with a slash.
        """
        for path in pages:
            if not path.startswith("/"):
                message = f"page server: pages: {path!r} is not a path, such as '/metrics'"
                raise ConfigurationError(message)
        self._pages = dict(pages)
        self._address = address
        self._port = port
        self._limits = limits if limits is not None else PageLimits()
        self._tally = LimitTally("pages", (*CONNECTION_LIMITS, "pages"))
        self._listener: asyncio.Server | None = None
        self._acceptor: Acceptor | None = None
        self._waiting = 0
        self._clients: set[asyncio.Task[None]] = set()
        self._maker: ThreadPoolExecutor | None = None

    @property
    def port(self) -> int:
        """
        The port that was bound.

        Raises:
            ConfigurationError: The server is not started.
        """
        if self._listener is None:
            message = "page server: port: the server is not started"
            raise ConfigurationError(message)
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    @property
    def limits_acted(self) -> Mapping[str, int]:
        """How often each limit acted, by its name."""
        return dict(self._tally.counts)

    async def run(self) -> NoReturn:
        """
        Serve until cancelled.

        Raises:
            MissingExtraError: h11 is not installed.
            OSError: The address cannot be bound.
        """
        await self.start()
        try:
            while True:
                await asyncio.Event().wait()
        finally:
            await self.stop()

    async def start(self) -> None:
        """
        Listen.

        Raises:
            MissingExtraError: h11 is not installed.
            OSError: The address cannot be bound.
        """
        try:
            from inferencepool.runtime.http._conversation import Conversation  # noqa: PLC0415 - an extra
        except ImportError:
            message = 'serving pages needs h11: pip install "inferencepool[epp]"'
            raise MissingExtraError(message) from None

        loop = asyncio.get_running_loop()

        def make(guest: Guest) -> asyncio.BaseProtocol:
            async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self._converse(Conversation(reader, writer, self._limits, guest, self._make), guest)

            return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), converse, loop=loop)

        start = partial(loop.create_server, asyncio.Protocol, self._address or None, start_serving=False)
        self._listener = await listen(lambda port: start(port=port), self._port)
        limits = self._limits
        guests = Guests(limits.of_connections(), self._tally)
        self._acceptor = Acceptor(
            self._listener, guests, make, tls=None, seconds=limits.idle_seconds, tally=self._tally
        )
        self._acceptor.start()
        self._maker = ThreadPoolExecutor(1, "pages")
        log_event(
            _LOG,
            logging.INFO,
            "serving pages",
            address=self._address or "*",
            port=self.port,
            pages=list(self._pages),
        )

    async def stop(self) -> None:
        """Close the listener and hang up on all clients; no effect when it is not started."""
        acceptor, self._acceptor = self._acceptor, None
        maker, self._maker = self._maker, None
        self._listener = None
        if acceptor is None or maker is None:
            return
        acceptor.close()
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        maker.shutdown(wait=False, cancel_futures=True)

    async def _converse(self, conversation: Conversation, guest: Guest) -> None:
        """Serve one client."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine of asyncio runs in a task
        self._clients.add(task)
        guest.on_close = partial(self._hang_up, task)
        # Only `stop` and its guest cancel it. To asyncio a callback that ends that way is an error.
        with contextlib.suppress(asyncio.CancelledError):
            await conversation.run()
        self._clients.discard(task)
        guest.leave()

    def _hang_up(self, client: asyncio.Task[None]) -> None:
        self._clients.discard(client)
        client.cancel()

    async def _make(self, request: PageRequest) -> Page:
        handler = self._handler_for(request.path)
        if handler is None:
            below = f"{request.path}/"
            return Page.text(308, f"see {below}", ("location", below)) if below in self._pages else _NO_PAGE
        if self._waiting >= self._limits.pages:
            self._tally.acted("pages")
            return _TOO_MANY
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._maker, handler, request)
        except Exception:  # noqa: BLE001 - whatever it is, it concerns this page alone
            _LOG.exception("page failed", extra={"fields": {"path": request.path}})
            return Page.text(500, "the page could not be made; the log tells why")
        finally:
            self._waiting -= 1

    def _handler_for(self, path: str) -> PageHandler | None:
        if path in self._pages:
            return self._pages[path]
        above = [page for page in self._pages if page.endswith("/") and path.startswith(page)]
        return self._pages[max(above, key=len)] if above else None
