"""One connection: h11 reads and writes HTTP, asyncio moves the bytes. Imported only where h11 is known to exist."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import final
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

from inferencepool.runtime._listening import Guest
from inferencepool.runtime.http._limits import PageLimits
from inferencepool.runtime.http._page import Page, PageRequest

__all__ = ["Conversation"]

_CHUNK = 65_536
_METHODS = (b"GET", b"HEAD")
# A client may still be sending when it is refused; closing at once would take the answer away from it.
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 1 << 20


class _RefusedError(Exception):
    """Raised when a client asked for no page; nothing more is read of it."""

    def __init__(self, status: int, text: str, *headers: tuple[str, str], head_only: bool = False) -> None:
        super().__init__(text)
        self.page = Page.text(status, text, *headers)
        self.head_only = head_only


@final
class Conversation:
    """One client, from its first request to its last. Its event loop guards it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limits: PageLimits,
        guest: Guest,
        answer: Callable[[PageRequest], Awaitable[Page]],
    ) -> None:
        """Answer requests with *answer*, which must not raise; tell *guest* when there is something to do."""
        self._is_idle = True
        self._reader = reader
        self._writer = writer
        self._limits = limits
        self._guest = guest
        self._answer = answer
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)

    async def run(self) -> None:
        """Converse until one side has had enough; when cancelled, hang up."""
        try:
            # A client that is gone, or does not read, is no error of this side.
            with contextlib.suppress(OSError, TimeoutError):
                while await self._exchange():
                    self._connection.start_next_cycle()
                async with asyncio.timeout(self._limits.send_seconds):
                    self._writer.close()
                    await self._writer.wait_closed()
        finally:
            self._writer.transport.abort()

    async def _exchange(self) -> bool:
        """Answer one request; tell whether another one may follow."""
        try:
            request = await self._receive()
            if request is None:
                return False
            page = await self._answer(self._to_page_request(request))
        except _RefusedError as refusal:
            await self._send(refusal.page, head_only=refusal.head_only, close=True)
            await self._linger()
            return False
        await self._send(page, head_only=request.method == b"HEAD")
        return self._connection.our_state is h11.DONE

    async def _receive(self) -> h11.Request | None:
        """Wait for a request, and give its head; None when there comes none."""
        try:
            event = await self._next_event()
            ends = isinstance(event, h11.Request) and isinstance(self._connection.next_event(), h11.EndOfMessage)
        except h11.RemoteProtocolError as error:
            raise _RefusedError(error.error_status_hint, str(error)) from error
        if not isinstance(event, h11.Request):
            return None
        if event.method not in _METHODS:
            raise _RefusedError(405, "pages can only be read", ("allow", "GET, HEAD"))
        if not ends:
            raise _RefusedError(413, "a request for a page has no body", head_only=event.method == b"HEAD")
        return event

    async def _next_event(self) -> object:
        """Wait for what the client says next, and give that; something else when it said nothing for too long."""
        connection = self._connection
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event
        if not self._is_idle:
            self._is_idle = True
            self._guest.rest()
        try:
            async with asyncio.timeout(self._limits.idle_seconds):
                data = await self._reader.read(_CHUNK)
        except TimeoutError:
            return event
        self._is_idle = False
        self._guest.work()
        connection.receive_data(data)
        try:
            async with asyncio.timeout(self._limits.head_seconds):
                while (event := connection.next_event()) is h11.NEED_DATA:
                    connection.receive_data(await self._reader.read(_CHUNK))
        except TimeoutError:
            raise _RefusedError(408, "the request did not arrive in time") from None
        return event

    def _to_page_request(self, request: h11.Request) -> PageRequest:
        """Read what is asked for."""
        try:
            target = urlsplit(request.target.decode("ascii"))
        except ValueError as error:
            raise _RefusedError(400, str(error)) from error
        return PageRequest(
            path=unquote(target.path),
            query=dict(parse_qsl(target.query, keep_blank_values=True)),
            headers={name.decode("ascii"): value.decode("latin-1") for name, value in request.headers},
            local_address=self._writer.get_extra_info("sockname")[0],
        )

    async def _send(self, page: Page, *, head_only: bool = False, close: bool = False) -> None:
        headers = [
            ("date", formatdate(usegmt=True)),
            ("content-type", page.content_type),
            ("content-length", str(len(page.body))),
            *page.headers,
        ]
        if close:
            headers.append(("connection", "close"))
        reason = HTTPStatus(page.status).phrase.encode()
        events: list[h11.Event] = [h11.Response(status_code=page.status, headers=headers, reason=reason)]
        if not head_only:
            events.append(h11.Data(data=page.body))
        sent = (self._connection.send(event) or b"" for event in (*events, h11.EndOfMessage()))
        # In one piece: `writelines` of some versions of Python never makes `drain` wait.
        self._writer.write(b"".join(sent))
        async with asyncio.timeout(self._limits.send_seconds):
            await self._writer.drain()

    async def _linger(self) -> None:
        """Take in for a moment what the client still sends, so that it gets to read why it was refused."""
        self._writer.write_eof()
        left = _LINGER_BYTES
        async with asyncio.timeout(_LINGER_SECONDS):
            while left > 0 and (data := await self._reader.read(_CHUNK)):
                left -= len(data)
