"""A request's body on its way in, and on."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from typing import final

import attrs

from inferencepool.adapters.bodies import Steps
from inferencepool.adapters.extproc._chunks import Chunks, Pieces, split
from inferencepool.adapters.extproc._decision import Decision, subset_of
from inferencepool.adapters.extproc._headers import asks_upgrade, content_length, opens_tunnel
from inferencepool.adapters.extproc._messages import (
    Answer,
    BodyMode,
    Metadata,
    RequestBody,
    RequestBodyAnswer,
    RequestHeaders,
    RequestHeadersAnswer,
    StreamedRequestBody,
)
from inferencepool.adapters.extproc._options import ProcessorOptions
from inferencepool.errors import RequestTimeoutError, RequestTooLargeError
from inferencepool.scheduling import SubsetHint

__all__ = ["Arrival", "Extent"]

_FULL = BodyMode.FULL_DUPLEX_STREAMED
_NOTHING: tuple[Answer, ...] = ()
# A body that was changed and is longer than this is sent piece by piece, as to join them would be a long step.
_JOINED = 1 << 20


class Extent(enum.Enum):
    """How much of a body is there when a request is to be decided about."""

    WHOLE = "whole"
    CUT = "cut"
    """The rest of it never comes, or comes too late to be read."""
    UNTOLD = "untold"
    """Either of them: the proxy does not tell whether it cut the body, or has trailers behind it."""


@final
@attrs.define(eq=False)
class Arrival:
    """
    A request's body on its way in, and on. Its session guards it.

    Attributes:
        mode: How it comes.
        size: Bytes of it so far.
        has_ended: Whether the proxy told its end, by its last message or by trailers.
        is_tunnel: Whether it never ends, as it is one direction of another protocol; it is handed on as it comes.
        subset: The subset hint: that of the last message that had one; None where none had.
        deadline: Until when more of it has to come, in seconds of the clock; None while nothing is waited for.
    """

    _options: ProcessorOptions
    _clock: Callable[[], float]
    mode: BodyMode = _FULL
    size: int = 0
    has_ended: bool = False
    is_tunnel: bool = False
    subset: SubsetHint | None = None
    deadline: float | None = None
    _length: int | None = None
    _chunks: Chunks = attrs.field(factory=Chunks)

    def begin(self, head: RequestHeaders, now: float) -> bool:
        """Take in the request's headers; give whether the request can be decided about without any body."""
        self.narrow(head.metadata)
        if head.request_body_mode is not None:
            self.mode = head.request_body_mode
        self.has_ended = head.end_of_stream
        self._length = content_length(head.headers)
        self.is_tunnel = not self.has_ended and opens_tunnel(head.headers)
        if self.has_ended or self.is_tunnel or self.mode is BodyMode.NONE:
            return True
        # Where it comes as a whole, nobody sees how far it is, and the proxy bounds it.
        if self.mode in (_FULL, BodyMode.STREAMED):
            if self._length == 0:
                return True
            self.deadline = now + self._options.request_timeout
        return False

    def hidden_by(self, head: RequestHeaders) -> str:
        """
        Say how a client hides the body of a request that is decided about without one; empty where it does not.

        Proxies may send no bodies of requests with ``upgrade``, as Envoy does with filters of their own for these.
        """
        if self.has_ended or self.is_tunnel or not asks_upgrade(head.headers):
            return ""
        return "request body: not sent by the proxy, as the request has the header upgrade"

    def narrow(self, metadata: Metadata) -> None:
        """Take the subset hint out of a message's metadata, if it has one."""
        if metadata:
            hint = subset_of(metadata)
            self.subset = hint if hint is not None else self.subset

    def shorten(self, message: RequestBody) -> RequestBody:
        """Give what counts of a piece behind the body that is being read: its end. Its bytes need not be kept."""
        self.narrow(message.metadata)
        if self.mode is not _FULL:
            self.size += len(message.body)
        return RequestBody(b"", message.end_of_stream)

    @property
    def is_kept(self) -> bool:
        """Whether any of it is kept."""
        return bool(self._chunks.count)

    def add(self, message: RequestBody) -> Extent | None:
        """
        Keep a piece of it.

        Returns:
            How much there is, if the request is to be decided about; None if there is more to come.

        Raises:
            RequestTooLargeError: It is longer than `ProcessorOptions.max_body`.
        """
        self.narrow(message.metadata)
        self._chunks.add(message.body)
        self.size += len(message.body)
        self.has_ended = message.end_of_stream
        options, mode = self._options, self.mode
        if self.size > options.max_body:
            text = f"the request's body is longer than the {options.max_body} bytes allowed"
            raise RequestTooLargeError(text)
        # A buffered one without its end has trailers behind it.
        if self.has_ended or mode is BodyMode.BUFFERED or (self._length is not None and self.size >= self._length):
            return Extent.WHOLE
        if mode is BodyMode.BUFFERED_PARTIAL:
            return Extent.UNTOLD if self._length is None else Extent.CUT
        if mode is BodyMode.STREAMED and self.size > options.partial_body:
            return Extent.CUT
        self._wait(len(message.body))
        return None

    def cut_off(self) -> str:
        """Say why no more of it is read, where it is `Extent.CUT`, and what to do about that."""
        if self.mode is BodyMode.STREAMED:
            return (
                f"request body: longer than the {self._options.partial_body} bytes (partial_body) that are read in the "
                f"mode STREAMED, use {_FULL.name} for longer ones"
            )
        return f"request body: cut by the proxy in the mode {self.mode.name}, use {_FULL.name} for long ones"

    def _wait(self, received: int) -> None:
        """
        Give the client more time, for as many bytes as it sent.

        Time that was not used is not saved: whoever stops sends nothing for `ProcessorOptions.request_timeout` at most,
        and whoever sends less than the least rate runs out of it, however often he sends.
        """
        if received and self.deadline is not None:
            latest = self._clock() + self._options.request_timeout
            self.deadline = min(latest, self.deadline + received / self._options.least_rate)

    def stalled(self) -> RequestTimeoutError:
        """Tell that not enough of it came until its deadline."""
        seconds, rate = self._options.request_timeout, self._options.least_rate
        text = f"no more of the request arrived for {seconds:g} s, or less than {rate:g} bytes per second"
        return RequestTimeoutError(text)

    def take(self) -> tuple[bytes | Steps[bytes], int]:
        """Give what is kept, or the steps that put it together, and in how many pieces it came; keep it no longer."""
        count = self._chunks.count
        return self._chunks.take(), count

    def drop(self) -> None:
        """Forget what is kept."""
        self._chunks.clear()

    def hand_on(self, count: int, decision: Decision, body: bytes, replacement: Pieces | None) -> Iterator[Answer]:
        """
        Answer the messages of a request that was decided about: *count* pieces, which make *body*.

        If there is a *replacement*, it goes on in place of them.
        """
        is_replaced = replacement is not None
        pieces = (body,) if replacement is None else replacement
        if is_replaced and (self.mode is not _FULL or sum(map(len, pieces)) <= _JOINED):
            pieces = (b"".join(pieces),)
        if self.mode is _FULL:
            # The end of what goes on comes with the end of what came: behind a body that is complete by its length the
            # proxy still has an empty piece to send, or trailers.
            return chain((RequestHeadersAnswer(decision.routing),), self._streamed(pieces, ends=self.has_ended))
        # Each message waits for its answer; the first still holds the headers.
        first = RequestBodyAnswer(decision.routing, bytes(pieces[0]) if is_replaced else None)
        rest = RequestBodyAnswer(replacement=b"" if is_replaced else None)
        return chain((first,), repeat(rest, count - 1))

    def hand_on_more(self, message: RequestBody) -> Sequence[Answer]:
        """Answer a piece that comes behind the decision."""
        if self.mode is not _FULL:
            self.size += len(message.body)
            return (RequestBodyAnswer(),)
        if self.has_ended:
            return _NOTHING  # Some proxies send the last piece twice.
        self.has_ended = message.end_of_stream
        if self.is_tunnel:
            self.size += len(message.body)
            return list(self._streamed((message.body,), ends=message.end_of_stream))
        return (StreamedRequestBody(b"", end_of_stream=True),) if message.end_of_stream else _NOTHING

    def _streamed(self, pieces: Pieces, *, ends: bool) -> Iterator[Answer]:
        left = len(pieces)
        for piece in pieces:
            left -= 1
            for chunk, is_last in split(piece, self._options.chunk_size):
                yield StreamedRequestBody(chunk, ends and is_last and not left)
