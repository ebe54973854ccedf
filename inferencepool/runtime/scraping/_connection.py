"""One connection to a model server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol, cast, final

from inferencepool.runtime.scraping._answer import Answer
from inferencepool.runtime.scraping._response import Response

__all__ = ["Asker", "Connection"]


class Asker(Protocol):
    """**Protocol:** hears what becomes of the requests of a connection."""

    def answered(self, answer: Answer, began: float, /) -> None:
        """Hear of a response, and when the work on its last part began."""
        ...

    def spent(self, began: float, /) -> None:
        """Hear when the work on a part of a response began that is done; the connection may be closed for it."""
        ...

    def failed(self, reason: str, /, *, unused: bool, reset: bool = False) -> None:
        """Hear that there will be none: whether the connection ended before a byte of it came, and by a reset."""
        ...


@final
class Connection(asyncio.BufferedProtocol):
    """
    A connection that is kept alive, with one request at a time.

    It belongs to an event loop, whose thread guards it. No more is read of a response than it may have; whatever is
    wrong with one closes the connection.

    Attributes:
        usable: Whether another request may be sent.
    """

    def __init__(self, asker: Asker, buffer: memoryview, limit: int, clock: Callable[[], float]) -> None:
        """
        Tell *asker* about responses.

        Args:
            asker: Hears of them.
            buffer: What arrives is read into it; all connections of one event loop may share it.
            limit: Most bytes of a body.
            clock: Measures how long work takes, in seconds.
        """
        self.usable = False
        self._asker = asker
        self._buffer = buffer
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._response = Response(limit)
        self._awaits_response = False

    @property
    def received(self) -> int:
        """Bytes of the response that is awaited."""
        return self._response.received

    def ask(self, request: bytes) -> None:
        """Send a request, given as its bytes."""
        assert self._transport is not None  # noqa: S101 - nobody asks before there is a connection
        self._awaits_response = True
        self._transport.write(request)

    def close(self) -> None:
        """Close at once; the asker hears nothing any more."""
        self.usable = self._awaits_response = False
        self._response.let_go()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be connected."""
        # Other loops' transports, such as uvloop's, are of no class of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self.usable = True

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - one buffer for all
        """Give the buffer to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take over what was read."""
        if not self._awaits_response:
            # Nothing was asked for, so what follows cannot be trusted.
            self.close()
            return
        began, response = self._clock(), self._response
        response.feed(self._buffer[:nbytes])
        if response.is_whole:
            self._finish(began)
            return
        self._asker.spent(began)
        # None where that closed the connection.
        if response.problem:
            self._fail(response.problem)

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear that the connection is closed."""
        self.usable = False
        if not self._awaits_response:
            return
        response = self._response
        if exc is None:
            response.end()
        if response.is_whole:
            self._finish(self._clock())
            return
        if isinstance(exc, ssl.SSLError):
            self._fail(f"TLS: {exc.reason or exc}")
            return
        is_reset = isinstance(exc, ConnectionResetError)
        how = "reset" if is_reset else "closed"
        when = f"after {response.received} bytes of the response" if response.received else "without a response"
        self._fail(f"the connection was {how} {when}", unused=not response.received, reset=is_reset)

    def _finish(self, began: float) -> None:
        keeps_alive, answer = self._response.keeps_alive, self._response.answer()
        self._awaits_response = False
        if not keeps_alive:
            self.close()
        self._asker.answered(answer, began)

    def _fail(self, reason: str, *, unused: bool = False, reset: bool = False) -> None:
        self.close()
        self._asker.failed(reason, unused=unused, reset=reset)
