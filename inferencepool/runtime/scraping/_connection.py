"""One connection to a model server: HTTP/1.1 requests out, responses in, parsed by ``httptools``."""

from __future__ import annotations

import asyncio
from typing import Protocol, final

import httptools

from inferencepool.runtime.scraping._answer import Answer

__all__ = ["Asker", "Connection"]

# What a response may have beside its body: headers, and the framing of chunks.
_OVERHEAD = 64 * 1024
_INFORMATIONAL = range(100, 200)


class Asker(Protocol):
    """**Protocol:** hears what becomes of the requests of a connection."""

    def answered(self, answer: Answer, /) -> None:
        """Hear of a response."""
        ...

    def failed(self, reason: str, /, *, unused: bool) -> None:
        """Hear that there will be none, and whether the connection ended before a byte of it came."""
        ...


@final
class Connection(asyncio.BufferedProtocol):
    """
    A connection that is kept alive, with one request at a time.

    It belongs to an event loop, whose thread guards it. No more is read of a response than it may have; whatever is
    wrong with one closes the connection.

    Attributes:
        usable: Whether another request may be sent.
        received: Bytes of the response so far.
    """

    def __init__(self, asker: Asker, buffer: memoryview, limit: int) -> None:
        """
        Tell *asker* about responses.

        Args:
            asker: Hears of them.
            buffer: What arrives is read into it; several connections of one event loop may share it.
            limit: Most bytes of a body.
        """
        self.usable = False
        self.received = 0
        self._asker = asker
        self._buffer = buffer
        self._limit = limit
        self._transport: asyncio.Transport | None = None
        self._asking = False
        self._begin()

    def ask(self, request: bytes) -> None:
        """Send a request, given as its bytes."""
        assert self._transport is not None  # noqa: S101 - nobody asks before there is a connection
        self._asking = True
        self.received = 0
        self._transport.write(request)

    def close(self) -> None:
        """Close at once; the asker hears nothing any more."""
        self.usable = self._asking = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be connected."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's types are wider than what it passes
        self._transport = transport
        self.usable = True

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - one buffer for all
        """Give the buffer to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take over what was read."""
        if not self._asking:
            # A response to nothing; what follows cannot be trusted.
            self.close()
            return
        self.received += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except httptools.HttpParserError as error:
            self._fail(f"it answers with something that is no HTTP/1 response: {error}")
        except httptools.HttpParserUpgrade:
            self._fail("it answers 101 Switching Protocols")
        else:
            self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear that the connection is closed."""
        self.usable = False
        if not self._asking:
            return
        if exc is None and self._in_body and self._until_end:
            self._finish()
            return
        how = "reset" if isinstance(exc, ConnectionResetError) else "closed"
        when = f"after {self.received} bytes of the response" if self.received else "without a response"
        self._fail(f"the connection was {how} {when}", unused=not self.received)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Be at the start of a response; one that follows another was not asked for."""
        if self._is_whole:
            self._kept_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take over a header; what follows a body is none."""
        if not self._in_body:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Find out how the body ends."""
        if not self._is_whole:
            self._in_body = True
            self._status = self._parser.get_status_code()
            self._kept_alive = self._parser.should_keep_alive()
            self._until_end = not self._headers.keys() & {b"content-length", b"transfer-encoding"}

    def on_body(self, body: bytes) -> None:
        """Take over a piece of the body."""
        if not self._is_whole:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Be at the end of a response."""
        if self._status in _INFORMATIONAL:
            self._headers, self._in_body = {}, False
        else:
            self._is_whole = True

    def _begin(self) -> None:
        """Await a response."""
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._status = 0
        self._in_body = self._kept_alive = self._until_end = self._is_whole = False

    def _look(self) -> None:
        """See whether the response is whole, or too long already."""
        if self._is_whole:
            self._finish()
        elif self.received > self._limit + _OVERHEAD or self._announced() > self._limit:
            self._fail(f"the page is longer than {self._limit} bytes")

    def _announced(self) -> int:
        # The parser has checked that it is a number.
        return int(self._headers.get(b"content-length", b"0")) if self._in_body else 0

    def _finish(self) -> None:
        answer = Answer(self._status, self._headers, b"".join(self._pieces))
        if self._kept_alive:
            self._asking = False
            self._begin()
        else:
            self.close()
        self._asker.answered(answer)

    def _fail(self, reason: str, *, unused: bool = False) -> None:
        self.close()
        self._asker.failed(reason, unused=unused)
