"""One connection of a client: what it receives, and how it ends."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from inferencepool.runtime._keep_alive import keep_alive
from inferencepool.runtime.grpc._closure import Closure, Reason
from inferencepool.runtime.grpc._ending import STOPPED, Ending, ending
from inferencepool.runtime.grpc._exchange import Exchange
from inferencepool.runtime.grpc._flood import FrameBudget
from inferencepool.runtime.grpc._framing import MessageReader
from inferencepool.runtime.grpc._http2 import (
    DRAIN_NOTICE,
    FAREWELL,
    FAREWELL_ANSWER,
    ErrorCodes,
    Http2,
    PlainData,
    ProtocolError,
    events,
)
from inferencepool.runtime.grpc._request import Request, read_request
from inferencepool.runtime.grpc._service import Service
from inferencepool.runtime.grpc._status import Status
from inferencepool.runtime.grpc._writer import Writer

__all__ = ["Connection"]

# Bytes given to h2 at a time: bounds the events that wait, and what a flood can do before it is noticed.
_SLICE = 16 * 1024
# Frames without work that a message allows.
_FRAMES_PER_MESSAGE = 8
# Data this short counts as a frame without work, unless it brings messages.
_SHORT_DATA = 16
# New windows cost time for every stream: so many streams count as one more frame.
_STREAMS_PER_FRAME = 64

_LOST = Closure(Reason.LOST)
_TOO_LATE = ending(Status.DEADLINE_EXCEEDED, "the deadline is over")
_UNKNOWN_METHOD = ending(Status.UNIMPLEMENTED, "no such method")
_TOO_MUCH_IN_PART = ending(Status.RESOURCE_EXHAUSTED, "too many messages on this connection are not whole yet")


class Connection(asyncio.Protocol):
    """
    One connection of a client. The event loop's thread guards it.

    Args:
        service: What all connections share.
        opened: Called when the peer was let in.
        closed: Called when a connection that was opened is gone.
        loop: The event loop.
    """

    _transport: asyncio.Transport
    _http2: Http2
    _writer: Writer

    def __init__(
        self,
        service: Service,
        opened: Callable[[Connection], None],
        closed: Callable[[Connection], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._service = service
        self._limits = service.limits
        self._on_error = service.on_error
        self._opened = opened
        self._closed = closed
        self._loop = loop
        self._budget = FrameBudget(self._limits.idle_frames, self._limits.idle_frames_per_second, loop.time)
        self._exchanges: dict[int, Exchange] = {}
        self._is_counted = False
        self._is_closing = False
        self._is_leaving = False
        self._consumed = 0
        self._partial = 0
        self._silent = 0
        self._dropped = bytearray()
        # The last stream that was open when the clock for headers was started.
        self._header_after = 0
        self._idle_since = loop.time()
        self._handshake_timer: asyncio.TimerHandle | None = None
        self._header_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._handlers: dict[type[object], Callable[[Any], None]] = {
            PlainData: self._receive_part,
            events.DataReceived: self._receive_part,
            events.RequestReceived: self._open,
            events.StreamEnded: self._half_close,
            events.WindowUpdated: self._update_window,
            events.StreamReset: self._reset,
            events.RemoteSettingsChanged: self._change_settings,
            events.ConnectionTerminated: self._leave,
        }

    @property
    def partial_bytes(self) -> int:
        """Bytes of messages that came in part."""
        return self._partial

    @property
    def queued_bytes(self) -> int:
        """Bytes of answers that wait."""
        return self._writer.queued

    # -- the transport -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; a peer that comes too late, is one too many or wants no HTTP/2 is turned away."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(transport)
        self._transport = transport
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        is_http2 = tls is None or tls.selected_alpn_protocol() == "h2"
        limits = self._limits
        if not is_http2 or self._service.is_stopping or self._service.connections >= limits.connections:
            self._is_closing = True
            transport.abort()
            return
        connection = transport.get_extra_info("socket")
        if connection is not None:
            # A proxy whose machine is gone says nothing any more, and its requests would count for ever.
            keep_alive(connection, idle=30, interval=10, probes=3)
        self._http2 = Http2(
            streams=limits.streams,
            header_bytes=limits.header_bytes,
            stream_window=limits.stream_window,
            connection_window=limits.connection_window,
        )
        self._writer = Writer(self._http2, transport, limits, self._budget, self._close, self._loop)
        self._is_counted = True
        self._service.connection_opened()
        self._opened(self)
        self._handshake_timer = self._loop.call_later(limits.handshake_seconds, self._give_up)
        if limits.idle_seconds is not None:
            self._idle_timer = self._loop.call_later(limits.idle_seconds, self._check_idle, limits.idle_seconds)
        self._writer.write()

    def data_received(self, data: bytes) -> None:
        """Handle what the peer sent; answers leave in one write."""
        if self._is_closing:
            self._await_farewell(data)
            return
        self._writer.hold()
        try:
            if len(data) <= _SLICE:
                goes_on = self._receive(data)
            else:
                view = memoryview(data)
                goes_on = all(self._receive(view[start : start + _SLICE]) for start in range(0, len(view), _SLICE))
        except ProtocolError:
            # h2 has made the GOAWAY.
            self._service.violations += 1
            self._shut(_LOST)
            return
        if goes_on:
            self._watch_headers()
            self._writer.flush()

    def pause_writing(self) -> None:
        """Read no more: a peer that does not read cannot make the server answer more."""
        if not self._is_closing:
            self._writer.pause()
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        if not self._is_closing:
            self._transport.resume_reading()
            self._writer.resume()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """End what is left."""
        self._is_closing = True
        timers = (self._handshake_timer, self._header_timer, self._idle_timer, self._linger_timer)
        for timer in timers:
            if timer is not None:
                timer.cancel()
        if self._is_counted:
            self._writer.shut()
            self._close_all(_LOST)
            self._service.connection_closed()
            self._closed(self)

    # -- orders of the server ------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Ask the client to open no more RPCs here. What it opens all the same is served."""
        if not self._is_closing:
            self._transport.write(DRAIN_NOTICE)

    def finish(self) -> None:
        """End all RPCs with status OK, and the connection."""
        if self._is_closing:
            return
        for exchange in list(self._exchanges.values()):
            exchange.finish(STOPPED)
        # Even if the socket is full: this is the last that it must take.
        self._writer.resume()
        self._say_goodbye(ErrorCodes.NO_ERROR)
        self._shut(STOPPED.closure)

    # -- what the peer sends -------------------------------------------------------------------------------------

    def _receive(self, data: bytes | memoryview) -> bool:
        """Handle *data*; tell whether the connection goes on."""
        http2 = self._http2
        handlers = self._handlers
        for event in http2.receive(data):
            handler = handlers.get(event.__class__)
            if handler is not None:
                handler(event)
            else:
                # PING, PRIORITY, trailers, answers to settings, unknown frames.
                self._budget.charge()
        if http2.silent_frames != self._silent:
            self._budget.charge(http2.silent_frames - self._silent)
            self._silent = http2.silent_frames
        if self._budget.is_spent():
            self._stop_flood()
        return not self._is_closing

    def _open(self, event: events.RequestReceived) -> None:
        # Paid back by the first message.
        self._budget.charge()
        if len(self._exchanges) >= self._limits.streams:
            self._service.streams_refused += 1
            self._http2.reset(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        request = read_request(event.headers)
        reader = MessageReader(self._limits.message_bytes, gzip=request.gzip)
        exchange = Exchange(self._writer, event.stream_id, event.headers, reader)
        self._exchanges[event.stream_id] = exchange
        self._service.stream_opened()
        factory = self._service.routes.get(request.path)
        refusal = _refusal(request, is_known=factory is not None)
        if refusal is not None:
            exchange.finish(refusal)
        elif factory is not None:
            if request.timeout is not None:
                exchange.timer = self._loop.call_later(request.timeout, self._expire, exchange)
            exchange.begin(factory, self._on_error)

    def _receive_part(self, event: PlainData | events.DataReceived) -> None:
        data = event.data
        size = event.flow_controlled_length
        has_ended = event.stream_ended is not None
        # Windows are opened again in bulk, at the half.
        self._consumed += size
        if self._consumed * 2 >= self._limits.connection_window:
            self._http2.increment_flow_control_window(self._consumed)
            self._consumed = 0
        if len(data) < _SHORT_DATA and not has_ended:
            self._budget.charge()
        exchange = self._exchanges.get(event.stream_id)
        if exchange is None or exchange.end_with is not None or exchange.overflowed:
            return
        reader = exchange.reader
        messages = reader.feed(data)
        if messages:
            self._budget.earn(_FRAMES_PER_MESSAGE * len(messages))
            exchange.deliver(messages, self._on_error)
        if reader.failure is not None:
            exchange.end(*reader.failure)
        if reader.held != exchange.held:
            self._hold(exchange)
        if not has_ended:
            exchange.unacknowledged += size
            if exchange.unacknowledged * 2 >= self._limits.stream_window:
                if self._http2.live_stream(exchange.id) is not None:
                    self._http2.increment_flow_control_window(exchange.unacknowledged, exchange.id)
                exchange.unacknowledged = 0

    def _hold(self, exchange: Exchange) -> None:
        """Count what came in part."""
        self._partial += exchange.reader.held - exchange.held
        exchange.held = exchange.reader.held
        if self._partial > self._limits.partial_bytes:
            exchange.finish(_TOO_MUCH_IN_PART)
        if exchange.end_with is not None:
            self._release(exchange)

    def _release(self, exchange: Exchange) -> None:
        self._partial -= exchange.held
        exchange.held = 0
        exchange.reader.clear()

    def _half_close(self, event: events.StreamEnded) -> None:
        exchange = self._exchanges.get(event.stream_id)
        if exchange is not None:
            exchange.half_close(self._on_error)

    def _update_window(self, event: events.WindowUpdated) -> None:
        self._budget.charge()
        if event.stream_id:
            self._writer.unblock(event.stream_id)

    def _change_settings(self, _: events.RemoteSettingsChanged) -> None:
        self._budget.charge(1 + len(self._exchanges) // _STREAMS_PER_FRAME)
        self._writer.unblock_all()
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
            self._handshake_timer = None

    def _reset(self, event: events.StreamReset) -> None:
        self._budget.charge()
        exchange = self._exchanges.get(event.stream_id)
        if exchange is not None:
            reason = Reason.RESET if event.remote_reset else Reason.BROKEN
            self._close(exchange, Closure(reason, code=int(event.error_code)))

    def _leave(self, _: events.ConnectionTerminated) -> None:
        """Close once all RPCs are over: a client's GOAWAY says no more than that it opens none."""
        self._budget.charge()
        self._is_leaving = True
        if not self._exchanges:
            self._loop.call_soon(self._depart)

    # -- ends ----------------------------------------------------------------------------------------------------

    def _close(self, exchange: Exchange, closure: Closure) -> None:
        if self._exchanges.pop(exchange.id, None) is None:
            return
        self._writer.forget(exchange)
        self._release(exchange)
        exchange.close(closure, self._on_error)
        self._service.stream_closed()
        if not self._exchanges:
            self._idle_since = self._loop.time()
            if self._is_leaving:
                self._loop.call_soon(self._depart)

    def _close_all(self, closure: Closure) -> None:
        for exchange in list(self._exchanges.values()):
            self._close(exchange, closure)

    def _expire(self, exchange: Exchange) -> None:
        """End an RPC at its deadline; what the client did not take until now it will not take."""
        exchange.cut(_TOO_LATE)

    def _watch_headers(self) -> None:
        """Start or stop the clock for a list of headers that is not whole."""
        http2 = self._http2
        is_unfinished = http2.has_unfinished_headers()
        timer = self._header_timer
        if timer is not None and (not is_unfinished or self._header_after != http2.highest_inbound_stream_id):
            timer.cancel()
            self._header_timer = timer = None
        if is_unfinished and http2.has_oversized_headers():
            self._stop_flood()
        elif is_unfinished and timer is None:
            self._header_after = http2.highest_inbound_stream_id
            self._header_timer = self._loop.call_later(self._limits.header_seconds, self._stop_flood)

    def _stop_flood(self) -> None:
        if not self._is_closing:
            self._service.floods += 1
            self._say_goodbye(ErrorCodes.ENHANCE_YOUR_CALM)
            self._shut(_LOST)

    def _give_up(self) -> None:
        """Close a connection whose peer never spoke HTTP/2."""
        if not self._is_closing:
            self._say_goodbye(ErrorCodes.SETTINGS_TIMEOUT)
            self._shut(_LOST)

    def _check_idle(self, limit: float) -> None:
        left = limit if self._exchanges else self._idle_since + limit - self._loop.time()
        if left > 0:
            self._idle_timer = self._loop.call_later(left, self._check_idle, limit)
        else:
            self._depart()

    def _depart(self) -> None:
        if not self._is_closing and not self._exchanges:
            self._writer.flush()
            self._say_goodbye(ErrorCodes.NO_ERROR)
            self._shut(_LOST)

    def _say_goodbye(self, code: ErrorCodes) -> None:
        self._http2.close_connection(code)

    def _await_farewell(self, data: bytes) -> None:
        """Drop *data*, and close when the peer has read everything."""
        self._dropped += data
        if FAREWELL_ANSWER in self._dropped:
            self._transport.close()
            # Peers do not all answer the goodbye of TLS; nothing is left that could be lost.
            self._loop.call_soon(self._transport.abort)
        del self._dropped[: -len(FAREWELL_ANSWER)]

    def _shut(self, closure: Closure) -> None:
        """
        Close after the last words.

        To close a socket at once while the peer still sends would destroy what it has not read yet. So what comes is
        dropped for a while, until the peer closes.
        """
        self._is_closing = True
        self._writer.shut()
        self._close_all(closure)
        transport = self._transport
        if not transport.is_closing():
            self._linger_timer = self._loop.call_later(self._limits.linger_seconds, transport.abort)
            transport.resume_reading()
            if transport.can_write_eof():
                # The peer may be gone already, which the transport has not noticed yet.
                with suppress(OSError):
                    transport.write_eof()
            else:
                # TLS cannot be closed on one side, and not every peer closes after a GOAWAY.
                transport.write(FAREWELL)


def _refusal(request: Request, *, is_known: bool) -> Ending | None:
    if request.refusal is not None:
        return request.refusal
    return None if is_known else _UNKNOWN_METHOD
