"""The response phase of a session: what it hands back, and what it learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import attrs

from inferencepool.adapters.bodies import ModelRestorer, Usage, UsageKind, UsageReader
from inferencepool.adapters.extproc._chunks import split, to_status
from inferencepool.adapters.extproc._decision import Decision
from inferencepool.adapters.extproc._messages import (
    Answer,
    BodyMode,
    ResponseBody,
    ResponseBodyAnswer,
    ResponseHeaders,
    ResponseHeadersAnswer,
    ResponseTrailers,
    ResponseTrailersAnswer,
    StreamedResponseBody,
)
from inferencepool.adapters.extproc._options import ProcessorOptions, ResponsePhase
from inferencepool.adapters.extproc._outcomes import follow, judge, judge_trailers
from inferencepool.model import Outcome
from inferencepool.model import _protocol as names
from inferencepool.model._outcome import SUCCESS
from inferencepool.scheduling import PickResult

if TYPE_CHECKING:
    from inferencepool.adapters.extproc._processor import ExternalProcessor

__all__ = ["ResponsePhaseState", "is_awaited"]

_FULL = BodyMode.FULL_DUPLEX_STREAMED
# Modes in which the session gets the body in one piece; if there is more of it, it does not come by here.
_AT_ONCE = (BodyMode.BUFFERED, BodyMode.BUFFERED_PARTIAL)
_UNTOLD = Usage()
# Of a longer body in one message only the beginning is gone through for its model.
_LONGEST_RESTORED = 1 << 20


@final
@attrs.define(eq=False)
class ResponsePhaseState:
    """
    How far the response to a request is. Its session guards it.

    Attributes:
        status: HTTP status of what the client gets; 0 while unknown.
        served: The endpoint that served, as the proxy told; empty when it did not tell.
        has_begun: Whether its headers were seen.
        is_unchanged: Whether chunks of its body are handed back as they come.
        ended: When its end was seen.
        is_streaming: Whether it is a stream of events.
        size: Bytes of its body so far; None before the first part of it.
        first_byte: When the first part of its body came.
        outcome: What it says of the endpoint so far; None where it says nothing.
    """

    _processor: ExternalProcessor
    status: int = 0
    served: str = ""
    has_begun: bool = False
    is_unchanged: bool = False
    ended: float | None = None
    is_streaming: bool = False
    size: int | None = None
    first_byte: float | None = None
    outcome: Outcome | None = None
    _mode: BodyMode | None = None
    _usage: UsageReader | None = None
    _restorer: ModelRestorer | None = None

    @property
    def is_complete(self) -> bool:
        """Whether its end was seen."""
        return self.ended is not None

    @property
    def last_outcome(self) -> Outcome | None:
        """What is known of the endpoint once the request is over: nothing, where the response broke off."""
        # Without its body, its end is not told either.
        is_whole = self.is_complete or (self.has_begun and self.size is None and not self._mode)
        return self.outcome if is_whole else None

    @property
    def passes_through(self) -> bool:
        """Whether its body is on its way through the session: what is not handed back does not arrive."""
        # A proxy that does not tell how the body comes may send none of it.
        in_full_duplex = self._mode is _FULL or (self._mode is None and self.size is not None)
        return self.has_begun and not self.is_complete and in_full_duplex

    @property
    def usage(self) -> Usage | None:
        """The tokens that it told; None where it told none, or nobody wants to know."""
        usage = self._usage.finish() if self._usage is not None else _UNTOLD
        return usage if usage != _UNTOLD else None

    def headers(self, message: ResponseHeaders, mode: BodyMode | None, decision: Decision | None) -> Sequence[Answer]:
        """Take in its headers; *mode* tells how its body will come."""
        self.has_begun, self._mode = True, mode
        self.status = to_status(message.headers.get(":status", ""))
        served = message.metadata.get(names.LB_NAMESPACE, {}).get(names.SERVED)
        if isinstance(served, str):
            self.served = served
        self.is_streaming = message.headers.get("content-type", "").lower().startswith("text/event-stream")
        options = self._processor.options
        if options.usage and decision is not None and decision.usage is not UsageKind.NONE:
            self._usage = UsageReader(decision.usage, event_stream=self.is_streaming, loads=self._processor.loads)
        self._restorer = None if message.end_of_stream else self._restorer_for(message, decision)
        self.is_unchanged = self._restorer is None and self.ended is None and mode in (None, _FULL)
        self.outcome = judge(message, self.status)
        if decision is not None and self.served and self.served != decision.routing.destination:
            follow(decision.result, decision.routing.destination, self.served, message.attributes)
        if message.end_of_stream:
            self._end(decision)
        elif decision is not None:
            self._begin(decision.result)
        headers = decision.response_headers if decision is not None else ()
        if options.served_header and self.served:
            headers = (*headers, (options.served_header, self.served))
        # The headers leave before the body whose length they tell, and it will have another.
        return (ResponseHeadersAnswer(headers, ("content-length",) if self._restorer is not None else ()),)

    def body(self, message: ResponseBody, decision: Decision | None) -> Sequence[Answer]:
        """Hand its body, or a chunk of it, back."""
        self.learn(message.body, 0, len(message.body), message.end_of_stream, decision)
        data = message.body if self._restorer is None else self._restored(self._restorer, message)
        if self._mode not in (None, _FULL):
            return (ResponseBodyAnswer(data if self._restorer is not None and isinstance(data, bytes) else None),)
        size = self._processor.options.chunk_size
        if len(data) <= size:
            return (StreamedResponseBody(data, message.end_of_stream),)
        return [StreamedResponseBody(chunk, message.end_of_stream and last) for chunk, last in split(data, size)]

    def _restored(self, restorer: ModelRestorer, message: ResponseBody) -> bytes | memoryview:
        """Give what goes on of a chunk of its body; a view is one that goes on as it is."""
        body = message.body
        if isinstance(body, memoryview) and restorer.is_over:
            return body
        first = bytes(body[:_LONGEST_RESTORED])
        data = restorer.feed(first)
        if len(body) > len(first):
            data += restorer.give_up()
            return body if data == first else b"".join((data, body[len(first) :]))
        if message.end_of_stream or self._mode in _AT_ONCE:
            return data + restorer.finish()
        return data

    def learn(self, data: bytes | memoryview, start: int, stop: int, ends: bool, decision: Decision | None) -> None:
        """Take note of the chunk of its body from *start* to *stop* in *data*, and of its end where that *ends* it."""
        if self.size is None:
            self.size, self.first_byte = 0, self._processor.clock()
        self.size += stop - start
        if self._usage is not None:
            self._usage.feed(data[start:stop])
        if ends:
            self._end(decision)

    def trailers(self, message: ResponseTrailers, decision: Decision | None) -> Sequence[Answer]:
        """Take in its trailers, which end it."""
        self.outcome = judge_trailers(message.headers, self.outcome)
        self._end(decision)
        kept = self._restorer.finish() if self._restorer is not None and self._mode in (None, _FULL) else b""
        return (StreamedResponseBody(kept), ResponseTrailersAnswer()) if kept else (ResponseTrailersAnswer(),)

    def _restorer_for(self, message: ResponseHeaders, decision: Decision | None) -> ModelRestorer | None:
        """Make who puts the client's model back, where a rewrite gave the request another and the body can be read."""
        if decision is None or not decision.traits.model or self._mode is BodyMode.NONE:
            return None
        traits, kind = decision.traits, message.headers.get("content-type", "").lower()
        is_plain = message.headers.get("content-encoding", "identity") == "identity"
        if traits.model == traits.target_model or not is_plain or not (self.is_streaming or "json" in kind):
            return None
        return ModelRestorer(traits.target_model, traits.model, event_stream=self.is_streaming)

    def _begin(self, result: PickResult) -> None:
        """Tell how it begins."""
        if self.outcome is SUCCESS:
            result.started()
        elif self.outcome is not None:
            # At once, for each request until then may go there as well. The endpoint is done with this one: what is
            # left of the response is a few words.
            result.ended(self.outcome)

    def _end(self, decision: Decision | None) -> None:
        self.is_unchanged = False
        if self.ended is None:
            self.ended = self._processor.clock()
        if decision is not None:
            decision.result.ended(self.outcome)


def is_awaited(options: ProcessorOptions, mode: BodyMode | None, decision: Decision) -> bool:
    """Tell whether a session stays for the response to a request that was decided about."""
    if options.response_phase is not ResponsePhase.AUTO:
        return options.response_phase is ResponsePhase.KEEP
    if decision.response_headers:
        # They can only be given when the response's own come. Leaving then would lose chunks that are on their way.
        return True
    return decision.reads_response and (not mode or options.usage)
