"""How long a connection is waited for: its first settings, the rest of its headers, its next RPC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from inferencepool.runtime.grpc._http2 import Http2
from inferencepool.runtime.grpc._limits import Limits

__all__ = ["Patience"]


class Patience:
    """
    The clocks of one connection. The event loop's thread guards it.

    Args:
        limits: How long each of them runs.
        http2: The connection's state.
        on_silence: Called when the peer has not spoken HTTP/2 in time.
        on_flood: Called when a list of headers does not end in time.
        on_idle: Called when there has been no RPC for too long.
        loop: The event loop.
    """

    def __init__(
        self,
        limits: Limits,
        http2: Http2,
        *,
        on_silence: Callable[[], None],
        on_flood: Callable[[], None],
        on_idle: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._limits = limits
        self._http2 = http2
        self._on_silence = on_silence
        self._on_flood = on_flood
        self._on_idle = on_idle
        self._loop = loop
        # The last stream that was open when the clock for headers was started.
        self._header_after = 0
        self._busy = False
        self._idle_since = loop.time()
        self._handshake_timer: asyncio.TimerHandle | None = None
        self._header_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Wait for the peer's settings, and for its first RPC."""
        limits = self._limits
        self._handshake_timer = self._loop.call_later(limits.handshake_seconds, self._on_silence)
        if limits.idle_seconds is not None:
            self._idle_timer = self._loop.call_later(limits.idle_seconds, self._check_idle, limits.idle_seconds)

    def settle(self) -> None:
        """Learn that the peer's settings came."""
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
            self._handshake_timer = None

    def mark_busy(self, busy: bool) -> None:
        """Learn whether there are RPCs."""
        self._busy = busy
        if not busy and self._idle_timer is not None:
            self._idle_since = self._loop.time()

    def watch_headers(self) -> bool:
        """Start or stop the clock for a list of headers that is not whole; True where it is too large already."""
        http2 = self._http2
        is_unfinished = http2.has_unfinished_headers()
        timer = self._header_timer
        if timer is None and not is_unfinished:
            return False
        if timer is not None and (not is_unfinished or self._header_after != http2.highest_inbound_stream_id):
            timer.cancel()
            self._header_timer = timer = None
        if is_unfinished and http2.has_oversized_headers():
            return True
        if is_unfinished and timer is None:
            self._header_after = http2.highest_inbound_stream_id
            self._header_timer = self._loop.call_later(self._limits.header_seconds, self._on_flood)
        return False

    def end(self) -> None:
        """Stop all clocks, and refer to nobody any more."""
        for timer in (self._handshake_timer, self._header_timer, self._idle_timer):
            if timer is not None:
                timer.cancel()
        del self._on_silence, self._on_flood, self._on_idle

    def _check_idle(self, limit: float) -> None:
        left = limit if self._busy else self._idle_since + limit - self._loop.time()
        if left > 0:
            self._idle_timer = self._loop.call_later(left, self._check_idle, limit)
        else:
            self._on_idle()
