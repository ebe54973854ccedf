"""One RPC of ext_proc: a `Session` joined to a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from math import inf
from typing import Final, final

import attrs

from inferencepool.adapters.extproc import Answer, ExternalProcessor, Session, decode, encode, hand_back
from inferencepool.errors import InvalidMessageError, OverloadedError
from inferencepool.runtime.grpc import CallFactory, Closure, Limits, Reason, Status, Stream

__all__ = ["EXT_PROC_SERVICE", "extproc_limits", "extproc_routes"]

EXT_PROC_SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"

# How often stalled requests are looked for, as a share of the time they are given.
_SHARE = 0.1
# The shortest wait for the next look, as a share of that.
_LEAST_SHARE = 0.01
# So many of them are refused in one step.
_LATE_AT_ONCE = 16

_MIB = 1 << 20
# Headers and metadata beside a body.
_BESIDE = _MIB
# A larger body than the processor takes is to be refused with 413, and not to end the RPC, up to this size at least.
_LEAST = 64 * _MIB
# The largest bodies of this many requests may wait on one connection, and as many more on all others together. Envoy
# has one connection for each of its threads.
_AT_ONCE = 4
_NO_ROOM = "the endpoint picker holds as many bodies of other requests as it may"
_MOST = 2**32 - 1

# So many requests whose reading takes long take turns, and so many may be there before others lose their prompt.
_READ_AT_ONCE = 4
_MOST_READINGS = 32

# How often it is looked at most whether held load is to be taken back, in seconds.
_BETWEEN_LOOKS = 0.05
_ENDING = "the endpoint picker ends, and the response passes through it"


def extproc_limits(processor: ExternalProcessor) -> Limits:
    """
    Give limits for a `GrpcServer` under which every body that *processor* takes arrives and can be handed back.

    Proxies send what they have buffered as one message, in full duplex too. The usual 4 MiB of gRPC servers would fail
    requests that an Envoy configured by `inferencepool.gateway` holds, which are up to 32 MiB.
    """
    message = min(max(processor.options.max_body, _LEAST) + _BESIDE, _MOST)
    return Limits(
        message_bytes=message,
        partial_bytes=_AT_ONCE * message,
        server_bytes=2 * _AT_ONCE * message,
        queued_bytes=message,
        connection_queued_bytes=_AT_ONCE * message,
    )


def extproc_routes(
    processor: ExternalProcessor, *, on_closed: Callable[[Closure], object] | None = None
) -> Mapping[str, CallFactory]:
    """
    Give the routes of the service: what a `GrpcServer`, or `add_to_grpc_aio_server`, is given to serve *processor*.

    All of its RPCs belong to one event loop.

    Args:
        processor: Answers.
        on_closed: Is told in that loop how each RPC ended; must not raise.
    """
    options = processor.options
    stalled = _Stalled(options.request_timeout * _SHARE, processor.clock)
    readings = _Readings()
    held = _Held(processor)
    reset_tells = options.ends_with_response

    def call(stream: Stream) -> _Call:
        chunk_size = options.chunk_size
        return _Call(stream, processor.session(), stalled, readings, held, chunk_size, reset_tells, on_closed)

    return {f"/{EXT_PROC_SERVICE}/Process": call}


@final
@attrs.define(eq=False)
class _Stalled:
    """
    Calls that wait for more of their request, and the one timer that looks after them.

    One timer for each request would cost more than the request's own work; this one runs only while a call waits. Calls
    lie by the look at which they are late. Their deadlines move to later times only, so that nothing is done about one
    until then; it waits for another look where its deadline has moved.
    """

    _interval: float
    _clock: Callable[[], float]
    _waiting: dict[int, dict[_Call, None]] = attrs.field(factory=dict)
    _timer: asyncio.Handle | None = None

    def watch(self, call: _Call, deadline: float) -> int:
        """Have *call* looked at when its deadline is over; give the number of that look."""
        number = int(deadline / self._interval) + 1
        calls = self._waiting.get(number)
        if calls is None:
            calls = self._waiting[number] = {}
        calls[call] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._look)
        return number

    def forget(self, call: _Call, number: int) -> None:
        calls = self._waiting.get(number)
        if calls is not None:
            calls.pop(call, None)

    def _look(self) -> None:
        """Look at calls that may be late, some at each turn of the loop."""
        loop = asyncio.get_running_loop()
        first, now = min(self._waiting), self._clock() / self._interval
        calls = self._waiting[first]
        if first > now:
            wait = max(min(first - now, 1.0), _LEAST_SHARE) * self._interval
            self._timer = loop.call_later(wait, self._look)
            return
        # Whatever comes of it, the others are gone on with.
        self._timer = loop.call_soon(self._look)
        for _ in range(min(len(calls), _LATE_AT_ONCE)):
            calls.popitem()[0].expire()
        if not calls:
            del self._waiting[first]
            if not self._waiting:
                self._timer.cancel()
                self._timer = None


@final
@attrs.define(eq=False)
class _Readings:
    """
    Calls whose request takes long to read. The event loop's thread guards it.

    The oldest few take turns, one slice in each round of the loop, between everything else that it has to do; the
    others wait. When too many do, those that come are read without their prompt.
    """

    _calls: dict[_Call, None] = attrs.field(factory=dict)
    _turn: int = 0
    _is_scheduled: bool = False

    def add(self, call: _Call) -> None:
        if len(self._calls) >= _MOST_READINGS:
            call.hurry()
        self._calls[call] = None
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def forget(self, call: _Call) -> None:
        self._calls.pop(call, None)

    def _go_on(self) -> None:
        calls = list(islice(self._calls, _READ_AT_ONCE))
        if not calls:
            self._is_scheduled = False
            return
        self._turn += 1
        # Whatever comes of it, the others are gone on with.
        asyncio.get_running_loop().call_soon(self._go_on)
        calls[self._turn % len(calls)].advance()


@final
@attrs.define(eq=False)
class _Held:
    """Takes back the load that was held for requests whose end cannot be seen, when its time is over."""

    _processor: ExternalProcessor
    _due: float = 0.0
    _timer: asyncio.Handle | None = None

    def watch(self) -> None:
        """See to it that there is a timer, if anything is held."""
        due = self._processor.deadline
        if due is None or (self._timer is not None and self._due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        delay = max(due - self._processor.clock(), _BETWEEN_LOOKS)
        self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if self._processor.expire():
            self._due = -inf
            self._timer = asyncio.get_running_loop().call_soon(self._expire)
        else:
            self.watch()


@final
@attrs.define(eq=False)
class _Call:
    """
    Serves one HTTP request.

    What a strategy raises is left to the server: it ends the stream with INTERNAL, and the proxy does what the pool's
    failure mode says.
    """

    _stream: Stream
    _session: Session
    _stalled: _Stalled
    _readings: _Readings
    _held: _Held
    _chunk_size: int
    _reset_tells: bool
    _on_closed: Callable[[Closure], object] | None
    _held_bytes: int = 0
    _late_at: int | None = None
    _reads: bool = False
    _half_closed: bool = False
    _finished: bool = False

    def message(self, data: bytes) -> None:
        session = self._session
        if session.passes_response and (chunk := hand_back(data, self._chunk_size)) is not None:
            answer, start, stop, ends = chunk
            session.pass_response(data, start, stop, ends)
            self._stream.send(answer)
            return
        try:
            answers = session.receive(decode(data))
        except InvalidMessageError as error:
            self._stream.end(Status.INVALID_ARGUMENT, str(error))
            answers = ()
        self._answer(self._if_there_is_room(answers))

    def advance(self) -> None:
        """Go on with reading the request, and answer if that is over."""
        try:
            answers = self._session.advance()
        except InvalidMessageError as error:
            self._stream.end(Status.INVALID_ARGUMENT, str(error))
            answers = ()
        except Exception as error:  # noqa: BLE001 - as in `message`, where the server does it
            self._stream.fail(error)
            answers = ()
        self._answer(self._if_there_is_room(answers))

    def _if_there_is_room(self, answers: Sequence[Answer]) -> Sequence[Answer]:
        """Give *answers* where there is room for what the session holds, or it comes too late; else refuse it."""
        held = self._session.held_bytes
        if held != self._held_bytes:
            self._held_bytes = held
            # An answer, because the proxy gave the body away: it could not go on without the picker.
            if not self._stream.hold(held) and (refusal := self._session.refuse(OverloadedError(_NO_ROOM))):
                answers = refusal
                self._held_bytes = 0
                self._stream.hold(0)
        return answers

    def hurry(self) -> None:
        """Read no more of the prompt."""
        self._session.hurry()

    def half_closed(self) -> None:
        if self._session.working:
            self._half_closed = True  # the answer comes first
            return
        self._finished = self._session.half_close_tells
        self._stream.end()

    def closed(self, closure: Closure) -> None:
        if self._late_at is not None:
            self._stalled.forget(self, self._late_at)
        if self._reads:
            self._readings.forget(self)
        reset_at_end = self._reset_tells and closure.reason is Reason.RESET and self._session.is_responding
        self._session.close(finished=self._finished or reset_at_end)
        self._held.watch()
        if self._on_closed is not None:
            self._on_closed(closure)

    def stopping(self) -> None:
        if self._session.end_cuts_response:
            self._stream.end(Status.UNAVAILABLE, _ENDING)

    def expire(self) -> None:
        """Refuse the request if it is late, or else wait on."""
        self._late_at = None
        self._answer(self._session.expire())

    def _answer(self, answers: Sequence[Answer]) -> None:
        if answers:
            self._stream.send(*map(encode, answers))
        if self._session.done:
            self._stream.end()
        reads = self._session.working
        if reads is not self._reads:
            self._reads = reads
            if reads:
                self._readings.add(self)
            else:
                self._readings.forget(self)
                if self._half_closed:
                    self.half_closed()
        deadline = self._session.deadline
        if deadline is None:
            if self._late_at is not None:
                self._stalled.forget(self, self._late_at)
                self._late_at = None
        elif self._late_at is None:
            self._late_at = self._stalled.watch(self, deadline)
