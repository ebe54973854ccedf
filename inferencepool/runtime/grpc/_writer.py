"""What one connection sends: answers as far as the peer's windows and the socket allow, many in one write."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any

from inferencepool.runtime.grpc._closure import Closure, Reason
from inferencepool.runtime.grpc._ending import ANSWER_HEADERS
from inferencepool.runtime.grpc._exchange import Exchange
from inferencepool.runtime.grpc._flood import FrameBudget
from inferencepool.runtime.grpc._framing import PREFIX_SIZE
from inferencepool.runtime.grpc._http2 import ErrorCodes, H2Stream, Http2
from inferencepool.runtime.grpc._limits import Limits
from inferencepool.runtime.grpc._unread import Unread

__all__ = ["Writer"]

# Bytes that are made before they are written, and that one RPC may send before it is the next one's turn.
_TURN = 1024 * 1024
# Sent bytes that allow the peer one frame without work: clients open their windows again in steps of this or more.
_BYTES_PER_FRAME = 4096
# What may be sent in one step before it is another connection's turn: exchanges, and seconds.
_TURN_EXCHANGES = 64
_TURN_SECONDS = 0.002
# Most steps send less than this, and need not look at the clock.
_EXCHANGES_PER_LOOK = 4
# Where Linux tells how many bytes a peer has acknowledged, in `struct tcp_info`.
_ACKNOWLEDGED = struct.Struct("120xQ")

_OVERFLOW = Closure(Reason.OVERFLOW)


class Writer:
    """
    What one connection sends. The event loop's thread guards it.

    Everything that is sent while the connection reads leaves in one write when it has read; the rest leaves when the
    event loop comes round. Exchanges that cannot send wait without cost: for their own window in one place, for that
    of the connection in another.

    Attributes:
        queued: Bytes of all exchanges that wait.
        close: Called when an exchange is over; set by whoever has them.

    Args:
        http2: The connection's state.
        transport: Where bytes go.
        limits: How much may wait.
        unread: Told which exchanges wait, and which go on.
        budget: Earns frames for what is sent.
        loop: The event loop.
    """

    def __init__(
        self,
        http2: Http2,
        transport: asyncio.Transport,
        limits: Limits,
        unread: Unread,
        budget: FrameBudget,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.queued = 0
        self.close: Callable[[Exchange, Closure], None]
        self._http2 = http2
        self._transport = transport
        self._limits = limits
        self._holdings = unread.holdings
        self._unread = unread
        self._budget = budget
        self._loop = loop
        # Of a plain dictionary, to take the first entry again and again takes ever longer.
        self._marked: OrderedDict[int, Exchange] = OrderedDict()
        self._blocked: dict[int, Exchange] = {}
        self._starved: OrderedDict[int, Exchange] = OrderedDict()
        self._is_held = False
        self._is_paused = False
        self._is_scheduled = False
        self._is_shut = False
        # What the peer had taken, as far as can be seen, and when it was seen to take more; while the socket is full.
        self._taken = (0, 0)
        self._taken_at = 0.0

    def mark(self, exchange: Exchange) -> None:
        """Write what waits in *exchange*: when the connection has read, or else soon."""
        self._marked[exchange.id] = exchange
        if not self._is_held:
            self._schedule()

    def write_at_once(self, exchange: Exchange, message: bytes) -> bool:
        """
        Write *message* of *exchange*, in which nothing waits; False where it has to wait.

        Chunks of responses mostly come one by one, and the peer takes them as they come. What `flush` would do for one
        of them comes to the same, as long as the connection's window has room for everybody.
        """
        http2 = self._http2
        size = PREFIX_SIZE + len(message)
        if (
            not self._is_held
            or self._is_paused
            or size > http2.max_outbound_frame_size
            or size + self.queued > http2.outbound_flow_control_window
            or http2.output_size >= _TURN
        ):
            return False
        stream = http2.live_stream(exchange.id)
        if stream is None or size > stream.outbound_flow_control_window:
            return False
        http2.write_message(stream, message)
        if size >= _BYTES_PER_FRAME:
            self._budget.earn(size // _BYTES_PER_FRAME)
        return True

    def account(self, exchange: Exchange, size: int) -> None:
        """Take note that *size* more bytes of *exchange* wait; have it, or others, reset if they are too many."""
        if not exchange.queued:
            self._unread.wait(exchange, self._loop)
        exchange.queued += size
        self.queued += size
        self._holdings.queued += size
        if size <= 0:
            self._unread.forget(exchange)
            return
        if not self._has_too_much(exchange):
            return
        # What the peer can take is not queued: it only was not written yet.
        before = exchange.queued + 1
        while exchange.queued < before and self._has_too_much(exchange) and not (self._is_paused or self._is_shut):
            before = exchange.queued
            self._flush(exchange)
            self.write()
        if not exchange.queued:
            return
        if self._has_too_much_here(exchange) or not self._unread.make_room():
            exchange.overflow()

    def expire(self, exchange: Exchange) -> bool:
        """Have *exchange* reset, of which nothing was sent for long; False where the peer reads, if slowly."""
        if self._is_paused:
            taken, now = self._look(), self._loop.time()
            if taken != self._taken:
                self._taken, self._taken_at = taken, now
            if now - self._taken_at < self._limits.queued_seconds:
                return False
            # A peer that does not read cannot be told.
            self._transport.abort()
        exchange.overflow()
        return True

    @property
    def is_paused(self) -> bool:
        """Whether the socket takes no more for now."""
        return self._is_paused

    def collect(self) -> None:
        """Collect what is sent until `flush`."""
        self._is_held = True

    def flush(self) -> None:
        """Send what can be sent now, as far as one turn goes; the rest soon."""
        self._is_held = False
        http2 = self._http2
        steps, end = 0, inf
        while not self._is_paused and not self._is_shut:
            if self._marked:
                # Those marked first come first; one with more to send goes to the end.
                _, exchange = self._marked.popitem(last=False)
            elif self._starved and http2.outbound_flow_control_window > 0:
                _, exchange = self._starved.popitem(last=False)
            else:
                break
            if not exchange.is_closed:
                self._flush(exchange)
            steps += 1
            is_much = http2.output_size >= _TURN
            if is_much:
                self.write()
            if is_much or steps % _EXCHANGES_PER_LOOK == 0:
                now = self._loop.time()
                if steps >= _TURN_EXCHANGES or now >= end:
                    self._schedule()
                    break
                end = min(end, now + _TURN_SECONDS)
        if not self._is_paused:
            self.write()

    def write(self) -> None:
        """Hand the socket what was made."""
        if self._http2.output_size:
            self._transport.write(self._http2.take_output())

    def pause(self) -> None:
        """Wait until the socket takes more."""
        self._is_paused = True
        self._taken, self._taken_at = self._look(), self._loop.time()

    def resume(self) -> None:
        """Go on, the socket takes more."""
        self._is_paused = False
        self.flush()

    def finish(self) -> None:
        """Send at once all that can be sent, whether or not the socket takes more."""
        self._is_paused = False
        http2 = self._http2
        while not self._is_paused and (self._marked or (self._starved and http2.outbound_flow_control_window > 0)):
            self.flush()

    def shut(self) -> None:
        """Send no more but what was made."""
        self._is_shut, self._is_held = True, False
        self.write()

    def unblock(self, stream_id: int) -> None:
        """Try again: the peer opened the window of a stream."""
        exchange = self._blocked.pop(stream_id, None)
        if exchange is not None:
            self._marked[stream_id] = exchange

    def unblock_all(self) -> None:
        """Try again: the peer changed the windows of all streams."""
        self._marked.update(self._blocked)
        self._blocked.clear()

    def forget(self, exchange: Exchange) -> None:
        """Let go of an exchange that is over."""
        for waiting in (self._marked, self._blocked, self._starved):
            waiting.pop(exchange.id, None)

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._flush_scheduled)

    def _flush_scheduled(self) -> None:
        self._is_scheduled = False
        self.flush()

    def _look(self) -> tuple[int, int]:
        """Give what changes when the peer takes something from a full socket."""
        transport = self._transport
        return transport.get_write_buffer_size(), _acknowledged(transport.get_extra_info("socket"))

    def _has_too_much(self, exchange: Exchange) -> bool:
        return exchange.queued > 0 and (self._has_too_much_here(exchange) or self._unread.is_too_much)

    def _has_too_much_here(self, exchange: Exchange) -> bool:
        limits = self._limits
        return exchange.queued > limits.queued_bytes or self.queued > limits.connection_queued_bytes

    def _flush(self, exchange: Exchange) -> None:
        stream = self._http2.live_stream(exchange.id)
        if stream is None:
            # The peer has reset it; the event that tells so is still to be handled.
            return
        if exchange.overflowed:
            self._http2.reset(exchange.id, ErrorCodes.ENHANCE_YOUR_CALM)
            self.close(exchange, _OVERFLOW)
            return
        if exchange.queued:
            self._send(exchange, stream)
        if exchange.end_with is not None and not exchange.queued:
            self._end(exchange, stream)

    def _send(self, exchange: Exchange, stream: H2Stream) -> None:
        http2 = self._http2
        if not exchange.answered:
            exchange.answered = True
            http2.write_headers(stream, ANSWER_HEADERS)
        room = min(http2.room(stream), _TURN)
        if room:
            data = exchange.take(room)
            size = len(data)
            http2.write_data(stream, data)
            exchange.queued -= size
            self.queued -= size
            self._holdings.queued -= size
            if size >= _BYTES_PER_FRAME:
                self._budget.earn(size // _BYTES_PER_FRAME)
        if not exchange.queued:
            self._unread.forget(exchange)
            return
        if room:
            self._unread.go_on(exchange, self._loop)
        if stream.outbound_flow_control_window <= 0:
            self._blocked[exchange.id] = exchange
        elif http2.outbound_flow_control_window <= 0:
            self._starved[exchange.id] = exchange
        else:
            self._marked[exchange.id] = exchange

    def _end(self, exchange: Exchange, stream: H2Stream) -> None:
        how = exchange.end_with
        if how is not None:
            headers = how.trailers if exchange.answered else how.alone
            self._http2.write_trailers(stream, headers)
            if not stream.closed:
                # The client has not ended its side: it need not send the rest (RFC 9113, section 8.1).
                self._http2.reset_stream(exchange.id, ErrorCodes.NO_ERROR)
            self.close(exchange, how.closure)


def _acknowledged(connection: Any) -> int:
    """Give how many bytes the peer has acknowledged on *connection*; 0 where the system does not tell."""
    if sys.platform == "linux" and connection is not None:
        with suppress(OSError, struct.error):
            found = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
            return int(_ACKNOWLEDGED.unpack(found)[0])
    return 0
