"""What one connection sends: answers as far as the peer's windows and the socket allow, many in one write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from inferencepool.runtime.grpc._closure import Closure, Reason
from inferencepool.runtime.grpc._ending import ANSWER_HEADERS
from inferencepool.runtime.grpc._exchange import Exchange
from inferencepool.runtime.grpc._flood import FrameBudget
from inferencepool.runtime.grpc._framing import PREFIX_SIZE
from inferencepool.runtime.grpc._holdings import Holdings
from inferencepool.runtime.grpc._http2 import ErrorCodes, H2Stream, Http2
from inferencepool.runtime.grpc._limits import Limits

__all__ = ["Writer"]

# Bytes that are made before they are written, and that one RPC may send before it is the next one's turn.
_TURN = 1024 * 1024
# Sent bytes that allow the peer one frame without work: clients open their windows again in steps of this or more.
_BYTES_PER_FRAME = 4096

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
        holdings: What all connections hold together.
        budget: Earns frames for what is sent.
        loop: The event loop.
    """

    def __init__(
        self,
        http2: Http2,
        transport: asyncio.Transport,
        limits: Limits,
        holdings: Holdings,
        budget: FrameBudget,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.queued = 0
        self.close: Callable[[Exchange, Closure], None]
        self._http2 = http2
        self._transport = transport
        self._limits = limits
        self._holdings = holdings
        self._budget = budget
        self._loop = loop
        self._marked: dict[int, Exchange] = {}
        self._blocked: dict[int, Exchange] = {}
        self._starved: dict[int, Exchange] = {}
        self._is_held = False
        self._is_paused = False
        self._is_scheduled = False
        self._is_shut = False

    def mark(self, exchange: Exchange) -> None:
        """Write what waits in *exchange*: when the connection has read, or else soon."""
        self._marked[exchange.id] = exchange
        if not self._is_held and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._flush_scheduled)

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
        """Take note that *size* more bytes of *exchange* wait; mark it for a reset if they are too many."""
        exchange.queued += size
        self.queued += size
        self._holdings.queued += size
        if size <= 0 or not self._has_too_much(exchange):
            return
        # What the peer can take is not queued: it only was not written yet.
        before = exchange.queued + 1
        while exchange.queued < before and self._has_too_much(exchange) and not (self._is_paused or self._is_shut):
            before = exchange.queued
            self._flush(exchange)
            self.write()
        if self._has_too_much(exchange):
            exchange.overflowed = True
            exchange.drop()

    @property
    def is_paused(self) -> bool:
        """Whether the socket takes no more for now."""
        return self._is_paused

    def collect(self) -> None:
        """Collect what is sent until `flush`."""
        self._is_held = True

    def flush(self) -> None:
        """Send what can be sent now."""
        self._is_held = False
        http2 = self._http2
        while not self._is_paused and not self._is_shut:
            if self._marked:
                # Those marked first come first; one with more to send goes to the end.
                stream_id = next(iter(self._marked))
                exchange = self._marked.pop(stream_id)
            elif self._starved and http2.outbound_flow_control_window > 0:
                stream_id = next(iter(self._starved))
                exchange = self._starved.pop(stream_id)
            else:
                break
            if not exchange.is_closed:
                self._flush(exchange)
            if http2.output_size >= _TURN:
                self.write()
        if not self._is_paused:
            self.write()

    def write(self) -> None:
        """Hand the socket what was made."""
        if self._http2.output_size:
            self._transport.write(self._http2.take_output())

    def pause(self) -> None:
        """Wait until the socket takes more."""
        self._is_paused = True

    def resume(self) -> None:
        """Go on, the socket takes more."""
        self._is_paused = False
        self.flush()

    def shut(self) -> None:
        """Send no more but what was made."""
        self._is_shut = True
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

    def _flush_scheduled(self) -> None:
        self._is_scheduled = False
        self.flush()

    def _has_too_much(self, exchange: Exchange) -> bool:
        limits = self._limits
        return exchange.queued > 0 and (
            exchange.queued > limits.queued_bytes
            or self.queued > limits.connection_queued_bytes
            or self._holdings.room < 0
        )

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
            return
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
