"""One RPC on a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from inferencepool.runtime.grpc._call import Call, StoppableCall
from inferencepool.runtime.grpc._closure import Closure
from inferencepool.runtime.grpc._ending import Ending, ending
from inferencepool.runtime.grpc._framing import PREFIX_SIZE, MessageReader, prefix
from inferencepool.runtime.grpc._request import text_headers
from inferencepool.runtime.grpc._status import Status

__all__ = ["Exchange", "Outlet"]


class Outlet(Protocol):
    """Where exchanges have their answers written."""

    def mark(self, exchange: Exchange) -> None:
        """Write what waits, soon."""

    def write_at_once(self, exchange: Exchange, message: bytes) -> bool:
        """Write a message of an exchange in which nothing waits, if nobody waits before it; False if it has to wait."""

    def account(self, exchange: Exchange, size: int) -> None:
        """Take note that *size* more bytes wait."""

    def expire(self, exchange: Exchange) -> bool:
        """Have an exchange reset whose client takes nothing; False where it does."""


class Exchange:
    """
    One RPC on a connection: what waits to be sent, and the call that serves it. It is the call's `Stream`.

    The event loop's thread guards it. Calls are never entered twice at a time: what `send` and `end` lead to happens
    later, when the connection writes.

    Attributes:
        id: Number of the stream.
        reader: Finds the messages that come in.
        held: Bytes that the connection counted: those of `reader`, of `header_bytes` and of `held_by_call`.
        header_bytes: Bytes of headers that are large enough to be counted.
        held_by_call: Bytes that the call said it holds.
        unacknowledged: Bytes received for which the client was not given room again.
        queued: Bytes that wait to be sent.
        answered: Whether the headers of the answer were sent.
        overflowed: Whether more waited than allowed; the RPC is to be reset.
        end_with: How the RPC is to end, after what waits; None while it goes on.
        timer: Ends the RPC at its deadline.
        is_closed: Whether all is over.
    """

    __slots__ = (
        "_call",
        "_count",
        "_current",
        "_headers",
        "_on_error",
        "_outlet",
        "_texts",
        "_waiting",
        "answered",
        "end_with",
        "header_bytes",
        "held",
        "held_by_call",
        "id",
        "is_closed",
        "overflowed",
        "queued",
        "reader",
        "timer",
        "unacknowledged",
    )

    def __init__(
        self,
        outlet: Outlet,
        stream_id: int,
        headers: Iterable[tuple[bytes, bytes]],
        reader: MessageReader,
        count: Callable[[Exchange], bool],
        on_error: Callable[[Exception], None],
    ) -> None:
        self.id = stream_id
        self.reader = reader
        self.held = 0
        self.header_bytes = 0
        self.held_by_call = 0
        self.unacknowledged = 0
        self.queued = 0
        self.answered = False
        self.overflowed = False
        self.end_with: Ending | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.is_closed = False
        self._outlet = outlet
        self._count = count
        self._headers = headers
        self._texts: Mapping[str, str] | None = None
        self._call: Call | None = None
        self._on_error = on_error
        # What `send` was given, and the part of it that is being written.
        self._waiting: list[bytes] = []
        self._current: memoryview | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """Metadata of the request."""
        if self._texts is None:
            self._texts = text_headers(self._headers)
        return self._texts

    def send(self, *messages: bytes) -> None:
        """Send gRPC *messages*, in order."""
        if self.is_closed or self.end_with is not None or self.overflowed:
            return
        if self.answered and not self.queued and len(messages) == 1 and self._outlet.write_at_once(self, messages[0]):
            return
        size = 0
        for message in messages:
            self._waiting += (prefix(message), message)
            size += PREFIX_SIZE + len(message)
        if size:
            self._outlet.account(self, size)
            self._outlet.mark(self)

    def hold(self, size: int) -> bool:
        """Tell how many bytes the call holds; False where that is too much."""
        if self.is_closed or self.end_with is not None or self.overflowed or size == self.held_by_call:
            return True
        self.held_by_call = size
        return self._count(self)

    def end(self, status: Status = Status.OK, text: str = "") -> None:
        """End the RPC after everything sent so far."""
        self.finish(ending(status, text))

    def fail(self, error: Exception) -> None:
        """End the RPC as an exception of the call does."""
        self.end(Status.INTERNAL, f"the server failed: {type(error).__name__}")
        self._on_error(error)

    def finish(self, how: Ending) -> None:
        """End the RPC as *how* tells, after everything sent so far. Only the first end counts."""
        if not self.is_closed and self.end_with is None and not self.overflowed:
            self.end_with = how
            self._outlet.mark(self)

    def cut(self, how: Ending) -> None:
        """End the RPC as *how* tells, without what waits."""
        if not self.is_closed and not self.overflowed:
            self.drop()
            self.end_with = how
            self._outlet.mark(self)

    def take(self, size: int) -> memoryview | bytes:
        """Give the next bytes to be written, at most *size*, and one or more if any wait."""
        current = self._current
        if current is None:
            joined = b"".join(self._waiting)
            self._waiting.clear()
            if len(joined) <= size:
                return joined
            current = memoryview(joined)
        self._current = current[size:] if len(current) > size else None
        return current[:size]

    def drop(self) -> None:
        """Forget what waits to be sent."""
        if self.queued:
            self._outlet.account(self, -self.queued)
            self._waiting.clear()
            self._current = None

    def overflow(self) -> None:
        """Forget what waits to be sent, and have the RPC reset."""
        self.overflowed = True
        self.drop()
        self._outlet.mark(self)

    def expire(self) -> bool:
        """Have the RPC reset because its client takes nothing; False where it does."""
        return self._outlet.expire(self)

    # The call. Its errors end the RPC and are handed to `on_error`.

    def begin(self, factory: Callable[[Exchange], Call]) -> None:
        """Make the call."""
        try:
            self._call = factory(self)
        except Exception as error:  # noqa: BLE001 - an RPC may fail in any way; the others go on
            self.fail(error)

    def deliver(self, message: bytes) -> None:
        """Hand *message* to the call, unless the RPC ended."""
        call = self._call
        if call is None or self.end_with is not None or self.overflowed:
            return
        try:
            call.message(message)
        except Exception as error:  # noqa: BLE001 - as above
            self.fail(error)

    def half_close(self) -> None:
        """Tell the call that the client will send no more."""
        if self.reader.held and self.end_with is None:
            self.end(Status.INTERNAL, "the client ended within a message")
        if self._call is not None:
            try:
                self._call.half_closed()
            except Exception as error:  # noqa: BLE001 - as above
                self.fail(error)

    def stop(self, how: Ending) -> None:
        """End the RPC as *how* tells, unless its call ends it in another way."""
        call: object = self._call
        if isinstance(call, StoppableCall):
            try:
                call.stopping()
            except Exception as error:  # noqa: BLE001 - as above
                self.fail(error)
        self.finish(how)

    def close(self, closure: Closure) -> None:
        """End all, and tell the call; once."""
        if self.is_closed:
            return
        self.is_closed = True
        if self.timer is not None:
            self.timer.cancel()
        self.drop()
        call, self._call = self._call, None
        if call is not None:
            try:
                call.closed(closure)
            except Exception as error:  # noqa: BLE001 - as above
                self._on_error(error)
