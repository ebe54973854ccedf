"""The RPCs of one connection: what they receive, what they hold, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import chain, islice

from inferencepool.runtime.grpc._closure import Closure, Reason
from inferencepool.runtime.grpc._ending import Ending, ending
from inferencepool.runtime.grpc._exchange import Exchange
from inferencepool.runtime.grpc._flood import FrameBudget
from inferencepool.runtime.grpc._framing import MessageReader, Packed
from inferencepool.runtime.grpc._http2 import ErrorCodes, Http2, PlainData, events
from inferencepool.runtime.grpc._request import Request, read_request
from inferencepool.runtime.grpc._service import Service
from inferencepool.runtime.grpc._status import Status
from inferencepool.runtime.grpc._writer import Writer

__all__ = ["Exchanges"]

# Frames without work that a message allows.
_FRAMES_PER_MESSAGE = 8
# Data this short counts as a frame without work, unless it brings messages.
_SHORT_DATA = 16
# So many messages of one frame are delivered in one step.
_MESSAGES_AT_ONCE = 3
# A message longer than this takes so long to unpack and to read that it is the last of a turn.
_DEAR = 1 << 16
# A message is unpacked while the connection holds less than this share of what it may.
_SHARE_UNPACKED = 4
# So many RPCs that came too late are ended in one step.
_EXPIRED_AT_ONCE = 64
# So many RPCs are let go of in one step when their connection ends.
_CLOSED_AT_ONCE = 64
# Headers up to this size are not counted as held: every RPC has some, and there is a limit to the number of RPCs.
_SMALL_HEADERS = 4096
# What HTTP/2 counts for each header beside its texts (RFC 9113, 6.5.2).
_PER_HEADER = 32

_TOO_LATE = ending(Status.DEADLINE_EXCEEDED, "the deadline is over")
_TOO_SLOW = ending(Status.DEADLINE_EXCEEDED, "no whole message arrived in time")
_UNKNOWN_METHOD = ending(Status.UNIMPLEMENTED, "no such method")
_TOO_MUCH_IN_PART = ending(Status.RESOURCE_EXHAUSTED, "too many messages on this connection are not whole yet")
_NO_ROOM = ending(Status.RESOURCE_EXHAUSTED, "the server holds as much as it may for requests that are not whole yet")


class Exchanges:
    """
    The RPCs of one connection. The event loop's thread guards it.

    Attributes:
        partial: Bytes that are held for requests which are not whole.
        was_dear: Whether a message came that took long; whoever looks sets it back.

    Args:
        service: What all connections share.
        http2: The connection's state.
        writer: Where answers go.
        budget: Charged for frames without work.
        on_busy: Told True when there is an RPC after none, and False when the last one is over.
        loop: The event loop.
    """

    def __init__(
        self,
        service: Service,
        http2: Http2,
        writer: Writer,
        budget: FrameBudget,
        on_busy: Callable[[bool], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.partial = 0
        self.was_dear = False
        self._service = service
        self._limits = service.limits
        self._holdings = service.holdings
        self._http2 = http2
        self._writer = writer
        self._budget = budget
        self._on_busy = on_busy
        self._loop = loop
        self._open: dict[int, Exchange] = {}
        self._is_closing = False
        self._then: Callable[[], None] | None = None
        self._consumed = 0
        self._half_connection_window = (service.limits.connection_window + 1) // 2
        self._half_stream_window = (service.limits.stream_window + 1) // 2
        # Since when a message is awaited or came in part; the longest wait comes first.
        self._awaited: dict[int, float] = {}
        self._awaited_timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    # -- what the peer sends -------------------------------------------------------------------------------------

    def begin(self, event: events.RequestReceived) -> None:
        """Open an RPC."""
        # Paid back by the first message.
        self._budget.charge()
        service = self._service
        if len(self._open) >= self._limits.streams or not service.takes_streams(self._loop):
            service.streams_refused += 1
            self._http2.reset(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        stream_id, headers = event.stream_id, event.headers
        request = read_request(headers)
        limits = self._limits
        reader = MessageReader(limits.message_bytes, gzip=request.gzip, unpacked=limits.unpacked_bytes, room=self._room)
        exchange = Exchange(self._writer, stream_id, headers, reader, self._count, service.on_error)
        if not self._open:
            self._on_busy(True)
        self._open[stream_id] = exchange
        service.stream_opened()
        factory = service.routes.get(request.path)
        refusal = _refusal(request, is_known=factory is not None)
        if refusal is not None:
            exchange.finish(refusal)
        elif factory is not None:
            self._await_message(stream_id)
            size = sum(map(len, chain.from_iterable(headers))) + _PER_HEADER * len(headers)
            if size > _SMALL_HEADERS:
                exchange.header_bytes = size
                self._hold(exchange)
            if request.timeout is not None:
                exchange.timer = self._loop.call_later(request.timeout, exchange.cut, _TOO_LATE)
            exchange.begin(factory)

    def receive(self, event: events.DataReceived) -> Iterator[None] | None:
        """Take in data. Where it brings many messages, what is given delivers one more at each step."""
        # h2 opens the window of a stream that ended no more.
        has_ended, size = event.stream_ended is not None, event.flow_controlled_length
        self._consume(size)
        if len(event.data) < _SHORT_DATA and not has_ended:
            self._budget.charge()
        return self._receive(event.stream_id, event.data, 0, len(event.data), 0 if has_ended else size)

    def receive_plain(self, data: PlainData) -> Iterator[None] | None:
        """Take in data as `receive` does."""
        start, stop = data.start, data.stop
        size = stop - start
        self._consumed += size
        if self._consumed >= self._half_connection_window:
            self._consume(0)
        if size < _SHORT_DATA:
            self._budget.charge()
        return self._receive(data.stream_id, data.data, start, stop, size)

    def _consume(self, size: int) -> None:
        """Take note that so much of the connection's window was used; windows are opened again in bulk, at the half."""
        self._consumed += size
        if self._consumed >= self._half_connection_window:
            self._http2.increment_flow_control_window(self._consumed)
            self._consumed = 0

    def _receive(self, stream_id: int, data: bytes, start: int, stop: int, credit: int) -> Iterator[None] | None:
        """Take in what lies from *start* to *stop* in *data*; the client is to have *credit* bytes of room again."""
        exchange = self._open.get(stream_id)
        if exchange is None or exchange.end_with is not None or exchange.overflowed:
            return None
        messages = exchange.reader.feed(data, start, stop)
        if messages:
            self._awaited.pop(stream_id, None)
            self._budget.earn(_FRAMES_PER_MESSAGE * len(messages))
            if len(messages[0]) > _DEAR:
                self.was_dear = True
            if len(messages) > _MESSAGES_AT_ONCE or exchange.reader.gzip:
                return self._deliver(exchange, messages, credit)
            for message in messages:
                exchange.deliver(message)
        self._take_stock(exchange, credit)
        return None

    def half_close(self, event: events.StreamEnded) -> None:
        """Tell an RPC that its client will send no more."""
        exchange = self._open.get(event.stream_id)
        if exchange is not None:
            self._awaited.pop(exchange.id, None)
            exchange.half_close()

    def reset(self, event: events.StreamReset) -> None:
        """End an RPC that one side reset."""
        self._budget.charge()
        exchange = self._open.get(event.stream_id)
        if exchange is not None:
            reason = Reason.RESET if event.remote_reset else Reason.BROKEN
            self.close(exchange, Closure(reason, code=int(event.error_code)))

    # -- ends ----------------------------------------------------------------------------------------------------

    def close(self, exchange: Exchange, closure: Closure) -> None:
        """Let go of an RPC that is over."""
        if self._open.pop(exchange.id, None) is None:
            return
        self._awaited.pop(exchange.id, None)
        self._writer.forget(exchange)
        self._release(exchange)
        exchange.close(closure)
        self._service.stream_closed()
        if not self._open:
            self._on_busy(False)

    def let_go(self) -> None:
        """Refer to nothing any more that refers to this; when the connection is gone."""
        del self._writer.close, self._on_busy

    def close_all(self, closure: Closure, then: Callable[[], None] | None = None) -> None:
        """
        Let go of all RPCs, some at each turn of the loop, as the connection ends; only the first *closure* counts.

        Nothing is received or sent meanwhile. When none is left, *then* is called.
        """
        if self._awaited_timer is not None:
            self._awaited_timer.cancel()
            self._awaited_timer = None
        self._then = then
        if not self._is_closing:
            self._close_some(closure)

    def _close_some(self, closure: Closure) -> None:
        for exchange in list(islice(self._open.values(), _CLOSED_AT_ONCE)):
            self.close(exchange, closure)
        self._is_closing = bool(self._open)
        if self._is_closing:
            self._loop.call_soon(self._close_some, closure)
        elif self._then is not None:
            then, self._then = self._then, None
            then()

    def stop(self, how: Ending) -> None:
        """End all RPCs as *how* tells, or as their calls do."""
        for exchange in list(self._open.values()):
            exchange.stop(how)

    # -- messages, whole and in part -----------------------------------------------------------------------------

    def _deliver(self, exchange: Exchange, messages: list[bytes], credit: int) -> Iterator[None]:
        for message in messages:
            plain = exchange.reader.unpack(message) if isinstance(message, Packed) else message
            if plain is None:
                break
            if len(plain) > _DEAR:
                self.was_dear = True
            exchange.deliver(plain)
            yield
        self._take_stock(exchange, credit)

    def _take_stock(self, exchange: Exchange, credit: int) -> None:
        """See how an RPC stands after data was taken in, and give the client room for as much again."""
        reader = exchange.reader
        if reader.failure is not None:
            exchange.end(*reader.failure)
        if exchange.held or reader.held:
            self._hold(exchange)
        exchange.unacknowledged += credit
        if exchange.unacknowledged >= self._half_stream_window:
            if self._http2.live_stream(exchange.id) is not None:
                self._http2.increment_flow_control_window(exchange.unacknowledged, exchange.id)
            exchange.unacknowledged = 0

    def _hold(self, exchange: Exchange) -> None:
        """Count what came in part; end the RPC where that is too much."""
        if exchange.is_closed:
            return
        if exchange.reader.held and exchange.id not in self._awaited:
            self._await_message(exchange.id)
        if not self._count(exchange):
            exchange.finish(_NO_ROOM if self._holdings.room < 0 else _TOO_MUCH_IN_PART)
        if exchange.end_with is not None:
            self._release(exchange)

    def _count(self, exchange: Exchange) -> bool:
        """Count what an RPC holds; False where that makes it too much."""
        held = exchange.header_bytes + exchange.reader.held + exchange.held_by_call
        more = held - exchange.held
        exchange.held = held
        self.partial += more
        self._holdings.unfinished += more
        if more <= 0 or (self.partial <= self._limits.partial_bytes and self._holdings.room >= 0):
            return True
        self._service.tally.acted("server_bytes" if self._holdings.room < 0 else "partial_bytes")
        return False

    def _room(self) -> int:
        """Give how many bytes a compressed message may have: it costs its sender little, so there is less room."""
        return min(self._limits.partial_bytes // _SHARE_UNPACKED - self.partial, self._holdings.room)

    def _release(self, exchange: Exchange) -> None:
        if exchange.held:
            self.partial -= exchange.held
            self._holdings.unfinished -= exchange.held
            exchange.held = exchange.header_bytes = exchange.held_by_call = 0
        exchange.reader.clear()

    def _await_message(self, stream_id: int) -> None:
        self._awaited[stream_id] = self._loop.time()
        if self._awaited_timer is None:
            self._awaited_timer = self._loop.call_later(self._limits.message_seconds, self._expire)

    def _expire(self) -> None:
        """End RPCs whose message did not come in time."""
        self._awaited_timer = None
        now, limit = self._loop.time(), self._limits.message_seconds
        for stream_id, since in list(islice(self._awaited.items(), _EXPIRED_AT_ONCE)):
            if now - since < limit:
                self._awaited_timer = self._loop.call_later(since + limit - now, self._expire)
                return
            del self._awaited[stream_id]
            exchange = self._open.get(stream_id)
            if exchange is not None and exchange.end_with is None:
                self._service.tally.acted("message_seconds")
                exchange.cut(_TOO_SLOW)
        if self._awaited:
            self._awaited_timer = self._loop.call_later(0, self._expire)


def _refusal(request: Request, *, is_known: bool) -> Ending | None:
    if request.refusal is not None:
        return request.refusal
    return None if is_known else _UNKNOWN_METHOD
