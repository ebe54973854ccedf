"""One connection of a client: its bytes, its turns, and how it ends."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from typing import Any, cast

from inferencepool.runtime._keep_alive import keep_alive
from inferencepool.runtime._listening import Guest
from inferencepool.runtime.grpc._closure import Closure, Reason
from inferencepool.runtime.grpc._ending import STOPPED
from inferencepool.runtime.grpc._exchanges import Exchanges
from inferencepool.runtime.grpc._flood import FrameBudget
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
from inferencepool.runtime.grpc._patience import Patience
from inferencepool.runtime.grpc._service import Service
from inferencepool.runtime.grpc._writer import Writer

__all__ = ["Connection"]

# What one connection may do before it is another one's turn: frames and messages, and seconds.
_TURN_STEPS = 64
_TURN_SECONDS = 0.002
# Most reads bring less than this, and need not look at the clock.
_STEPS_PER_LOOK = 4
# New windows cost time for every stream: so many streams count as one more frame.
_STREAMS_PER_FRAME = 64
_LOST = Closure(Reason.LOST)


class Connection(asyncio.BufferedProtocol):
    """
    One connection of a client. The event loop's thread guards it.

    Args:
        service: What all connections share.
        guest: Its place among the connections.
        opened: Called when the peer was let in.
        closed: Called when a connection that was opened is gone.
        loop: The event loop.
    """

    _transport: asyncio.Transport
    _http2: Http2
    _writer: Writer
    _exchanges: Exchanges
    _patience: Patience

    def __init__(
        self,
        service: Service,
        guest: Guest,
        opened: Callable[[Connection], None],
        closed: Callable[[Connection], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._service = service
        self._guest = guest
        self._opened = opened
        self._closed = closed
        self._loop = loop
        self._budget = FrameBudget(service.limits.idle_frames, service.limits.idle_frames_per_second, loop.time)
        self._is_counted = False
        self._is_closing = False
        self._is_leaving = False
        self._has_worked = False
        self._silent = 0
        # Whether what came is still to be handled, what is left of its last frame, and what came after it.
        self._is_working = False
        self._work: Iterator[None] | None = None
        self._backlog = bytearray()
        self._dropped = bytearray()
        self._linger_timer: asyncio.TimerHandle | None = None
        self._handlers: dict[type[object], Callable[[Any], Iterator[None] | None]] = {}

    # -- the transport -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; a peer that comes too late or wants no HTTP/2 is turned away."""
        # Other loops' transports, such as uvloop's, are of no class of asyncio's.
        self._transport = transport = cast("asyncio.Transport", transport)
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        is_http2 = tls is None or tls.selected_alpn_protocol() == "h2"
        if not is_http2 or self._service.is_stopping:
            self._is_closing = True
            transport.abort()
            return
        connection = transport.get_extra_info("socket")
        if connection is not None:
            # A proxy whose machine is gone says nothing any more, and its requests would count for ever.
            keep_alive(connection, idle=30, interval=10, probes=3)
        self._make_parts(transport)
        self._is_counted = True
        self._service.connection_opened()
        self._opened(self)
        self._guest.on_close = self._make_way
        self._patience.begin()
        self._writer.write()

    def _make_parts(self, transport: asyncio.Transport) -> None:
        service, limits = self._service, self._service.limits
        self._http2 = Http2(
            streams=limits.streams,
            header_bytes=limits.header_bytes,
            stream_window=limits.stream_window,
            connection_window=limits.connection_window,
        )
        self._writer = Writer(self._http2, transport, limits, service.unread, self._budget, self._loop)
        self._exchanges = Exchanges(service, self._http2, self._writer, self._budget, self._mark_busy, self._loop)
        self._writer.close = self._exchanges.close
        self._patience = Patience(
            limits,
            self._http2,
            on_silence=self._give_up,
            on_flood=self._stop_flood,
            on_idle=self._depart,
            loop=self._loop,
        )
        self._handlers = {
            events.DataReceived: self._exchanges.receive,
            events.RequestReceived: self._exchanges.begin,
            events.StreamEnded: self._exchanges.half_close,
            events.WindowUpdated: self._update_window,
            events.StreamReset: self._exchanges.reset,
            events.RemoteSettingsChanged: self._change_settings,
            events.ConnectionTerminated: self._leave,
        }

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - one buffer for all
        """Give the buffer to read into."""
        return self._service.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Handle what the peer sent, as far as one turn goes; answers leave in one write."""
        data = bytes(self._service.buffer[:nbytes])
        if self._is_closing:
            self._await_farewell(data)
        elif self._is_working:
            # Reading is paused, but TLS hands over what it had decrypted.
            self._backlog += data
        else:
            self._http2.receive(data)
            self._take_turn()

    def pause_writing(self) -> None:
        """Read no more: a peer that does not read cannot make the server answer more."""
        if not self._is_closing:
            self._writer.pause()
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        if self._is_closing:
            return
        if self._is_working:
            self._loop.call_soon(self._go_on)
        else:
            self._transport.resume_reading()
        self._writer.resume()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """End what is left."""
        self._is_closing = True
        self._stop_working()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        if self._is_counted:
            self._patience.end()
            self._writer.shut()
            self._exchanges.close_all(_LOST, self._end)
        self._guest.leave()

    def _end(self) -> None:
        """Be gone, when no RPC is left."""
        self._service.connection_closed()
        self._closed(self)
        # They refer to each other in circles; a crowd of such connections would keep the collector busy for long.
        self._handlers.clear()
        self._http2.let_go()
        self._exchanges.let_go()

    # -- orders of the server ------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Ask the client to open no more RPCs here. What it opens all the same is served for a while."""
        if not self._is_closing:
            self._transport.write(DRAIN_NOTICE)

    def finish(self) -> None:
        """End all RPCs, with status OK unless their calls choose another one, and the connection."""
        if self._is_closing:
            return
        self._exchanges.stop(STOPPED)
        # Even if the socket is full: this is the last that it must take.
        self._writer.finish()
        self._say_goodbye(ErrorCodes.NO_ERROR)
        self._shut(STOPPED.closure)

    # -- turns ---------------------------------------------------------------------------------------------------

    def _take_turn(self) -> None:
        """Handle what came, until it is handled or the turn is over."""
        self._writer.collect()
        try:
            is_done = self._advance()
        except ProtocolError:
            # h2 has made the GOAWAY.
            self._service.violations += 1
            self._shut(_LOST)
            return
        if self._is_closing:
            return
        if is_done and self._backlog:
            self._http2.receive(bytes(self._backlog))
            self._backlog = bytearray()
            is_done = False
        self._is_working = not is_done
        if is_done:
            if self._patience.watch_headers():
                self._stop_flood()
        else:
            self._transport.pause_reading()
            self._loop.call_soon(self._go_on)
        self._writer.flush()

    def _advance(self) -> bool:
        """Handle a frame or some messages at each step, until the turn is over; tell whether all is done."""
        exchanges = self._exchanges
        read, receive, budget = self._http2.read, exchanges.receive_plain, self._budget
        steps, end = 0, inf
        while not self._is_closing:
            if self._work is not None:
                if next(self._work, self) is self:
                    self._work = None
            elif (found := read()) is None:
                return True
            elif isinstance(found, PlainData):
                self._work = receive(found)
            else:
                self._work = self._handle(iter(found))
                self._charge_silent()
            if budget.is_spent():
                self._stop_flood()
            steps += 1
            if exchanges.was_dear:
                exchanges.was_dear = False
                return False
            if steps % _STEPS_PER_LOOK == 0:
                now = self._loop.time()
                if steps == _TURN_STEPS or now >= end:
                    return False
                end = min(end, now + _TURN_SECONDS)
        return True

    def _handle(self, found: Iterator[Any]) -> Iterator[None] | None:
        """Handle the events *found*; what is given goes on with them in steps, where there is too much for one."""
        for event in found:
            handler = self._handlers.get(event.__class__)
            if handler is None:
                # PING, PRIORITY, trailers, answers to settings, unknown frames.
                self._budget.charge()
            elif (more := handler(event)) is not None:
                return self._finish_handling(more, found)
        return None

    def _finish_handling(self, work: Iterator[None], found: Iterator[Any]) -> Iterator[None]:
        yield from work
        rest = self._handle(found)
        if rest is not None:
            yield from rest

    def _charge_silent(self) -> None:
        silent = self._http2.silent_frames
        if silent != self._silent:
            self._budget.charge(silent - self._silent)
            self._silent = silent

    def _go_on(self) -> None:
        """Take the next turn, unless the peer has to read first."""
        if self._is_closing or not self._is_working or self._writer.is_paused:
            return
        self._take_turn()
        self._read_on()

    def _read_on(self) -> None:
        """Read again, once nothing is left to be done."""
        if not (self._is_working or self._is_closing or self._writer.is_paused):
            self._transport.resume_reading()

    def _stop_working(self) -> None:
        """Let go of what came and was not handled."""
        self._is_working, self._work, self._backlog = False, None, bytearray()

    # -- what concerns the whole connection ----------------------------------------------------------------------

    def _update_window(self, event: events.WindowUpdated) -> None:
        self._budget.charge()
        if event.stream_id:
            self._writer.unblock(event.stream_id)

    def _change_settings(self, _: events.RemoteSettingsChanged) -> None:
        self._budget.charge(1 + len(self._exchanges) // _STREAMS_PER_FRAME)
        self._writer.unblock_all()
        self._patience.settle()

    def _leave(self, _: events.ConnectionTerminated) -> None:
        """Close once all RPCs are over: a client's GOAWAY says no more than that it opens none."""
        self._budget.charge()
        self._is_leaving = True
        if not self._exchanges:
            self._loop.call_soon(self._depart)

    def _mark_busy(self, is_busy: bool) -> None:
        self._patience.mark_busy(is_busy)
        if is_busy:
            self._has_worked = True
            self._guest.work()
        else:
            self._guest.rest()
            if self._is_leaving:
                self._loop.call_soon(self._depart)

    # -- ends ----------------------------------------------------------------------------------------------------

    def _stop_flood(self) -> None:
        if not self._is_closing:
            self._service.floods += 1
            self._say_goodbye(ErrorCodes.ENHANCE_YOUR_CALM)
            self._shut(_LOST)

    def _give_up(self) -> None:
        """Close a connection whose peer never spoke HTTP/2."""
        if not self._is_closing:
            self._service.tally.acted("handshake_seconds", peer=self._guest.peer)
            self._say_goodbye(ErrorCodes.SETTINGS_TIMEOUT)
            self._shut(_LOST)

    def _depart(self) -> None:
        """Close a connection without RPCs."""
        if not self._is_closing and not self._exchanges:
            self._writer.flush()
            self._say_goodbye(ErrorCodes.NO_ERROR)
            self._shut(_LOST)

    def _make_way(self) -> None:
        """Close a connection without RPCs as there is no room for another one."""
        self._depart()
        if not self._has_worked:
            # It has not deserved to be waited for, and its place is needed at once.
            self._transport.abort()
            self._guest.leave()

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
        self._stop_working()
        self._writer.shut()
        self._exchanges.close_all(closure)
        transport = self._transport
        if not transport.is_closing():
            self._linger_timer = self._loop.call_later(self._service.limits.linger_seconds, transport.abort)
            transport.resume_reading()
            if transport.can_write_eof():
                # The peer may be gone already, which the transport has not noticed yet.
                with suppress(OSError):
                    transport.write_eof()
            else:
                # TLS cannot be closed on one side, and not every peer closes after a GOAWAY.
                transport.write(FAREWELL)
