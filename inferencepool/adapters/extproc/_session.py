"""`Session`: the conversation about one HTTP request."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn, assert_never, final

import attrs

from inferencepool.adapters.bodies import Budget, ParsedBody, Usage, UsageKind, UsageReader
from inferencepool.adapters.extproc import _headers as names
from inferencepool.adapters.extproc._chunks import split, to_status
from inferencepool.adapters.extproc._decision import Decision, decide, inquire
from inferencepool.adapters.extproc._exchange import Exchange, RequestTraits
from inferencepool.adapters.extproc._messages import (
    Answer,
    BodyMode,
    Message,
    RequestBody,
    RequestBodyAnswer,
    RequestHeaders,
    RequestHeadersAnswer,
    RequestTrailers,
    RequestTrailersAnswer,
    ResponseBody,
    ResponseBodyAnswer,
    ResponseHeaders,
    ResponseHeadersAnswer,
    ResponseTrailers,
    ResponseTrailersAnswer,
    StreamedRequestBody,
    StreamedResponseBody,
)
from inferencepool.adapters.extproc._options import ResponsePhase
from inferencepool.adapters.extproc._reading import Reading
from inferencepool.adapters.extproc._refusal import refuse
from inferencepool.errors import (
    InferencePoolError,
    InvalidMessageError,
    InvalidRequestError,
    RequestTimeoutError,
    RequestTooLargeError,
)

if TYPE_CHECKING:
    from inferencepool.adapters.extproc._processor import ExternalProcessor

__all__ = ["Session"]

_FULL = BodyMode.FULL_DUPLEX_STREAMED
# Modes in which a body comes in pieces. Where it comes as a whole, nobody sees how far it is, and the proxy bounds it.
_IN_PIECES = (_FULL, BodyMode.STREAMED)
# Modes in which the response's body has to be handed back; a proxy that does not tell has no other.
_FULL_OR_UNTOLD = (_FULL, None)
_NOTHING: tuple[Answer, ...] = ()
_UNTOLD = Usage()
_UNKNOWN = RequestTraits()


class _State(enum.Enum):
    NEW = "new"
    READING = "reading the request"
    ANSWERED = "the request is answered"
    FAILED = "failed"
    CLOSED = "closed"


_OVER = (_State.FAILED, _State.CLOSED)

# Bodies up to this size are read in one go: whatever is in them takes a few milliseconds at most.
_SMALL = 16 << 10
# A proxy says at most a few things more behind a request that has come whole.
_MOST_WAITING = 16


@final
@attrs.define(eq=False)
class Session:
    """
    The conversation about one HTTP request, as a state machine: messages in, answers out.

    Not thread-safe: one stream drives it. `close` must be called at the stream's end, whatever ended it.

    Attributes:
        done: Whether the stream is to be ended with status OK, in the same write as the answers just given: nothing
            more is needed, or the proxy answers the client itself.
        working: Whether the request has come whole, and reading it takes so long that it is to be gone on with by
            `advance`, between other work.
        deadline: When to call `expire`, in seconds of the processor's clock; None while nothing is waited for.
    """

    _processor: ExternalProcessor
    done: bool = False
    working: bool = False
    deadline: float | None = None
    _state: _State = _State.NEW
    _began: float | None = None
    _reading: Reading | None = None
    _waiting: list[Message] = attrs.field(factory=list)
    _head: RequestHeaders = attrs.field(factory=lambda: RequestHeaders({}))
    _mode: BodyMode = _FULL
    _chunks: list[bytes] = attrs.field(factory=list)
    _size: int = 0
    _request_id: str = ""
    _traits: RequestTraits = _UNKNOWN
    _decision: Decision | None = None
    _answered: float | None = None
    _error: BaseException | None = None
    _status: int = 0
    _served: str = ""
    _usage: UsageReader | None = None
    _complete: bool = False
    _responding: bool = False
    _streaming: bool = False
    _response_bytes: int | None = None
    _first_byte: float | None = None

    @property
    def is_responding(self) -> bool:
        """
        Whether the response has begun.

        A proxy that resets the stream from then on has seen the response's end: Envoy does so where it has the whole
        response before the answer to its headers.
        """
        return self._responding

    @property
    def held_bytes(self) -> int:
        """Bytes of the request's body that are kept until it is whole and was read."""
        return self._size if self._chunks or self._reading is not None else 0

    @property
    def passes_response(self) -> bool:
        """Whether chunks of the response go back as they came; `hand_back` answers them, `pass_response` counts."""
        return (
            self._responding
            and self._state is _State.ANSWERED
            and not self.done
            and self._head.response_body_mode in _FULL_OR_UNTOLD
        )

    def pass_response(self, data: bytes, start: int, stop: int) -> None:
        """Take in a chunk of the response's body, from *start* to *stop* in *data*, while it `passes_response`."""
        if self._response_bytes is None:
            self._response_bytes, self._first_byte = 0, self._processor.clock()
        self._response_bytes += stop - start
        if self._usage is not None:
            self._usage.feed(data[start:stop])

    def receive(self, message: Message) -> Sequence[Answer]:
        """
        Take in what the proxy said, and give what to answer, in this order.

        While the session is `working`, what is said waits until that is over.

        After an error of this, and after `close`, nothing is taken in any more.

        Raises:
            InvalidMessageError: The message has no place here, such as a body before the headers.
            StrategyError: A strategy broke its contract. This, and whatever a strategy raises itself, is not answered:
                end the stream with an error, and the proxy does what the pool's failure mode says.
        """
        if self.done or self._state in _OVER:
            return _NOTHING
        try:
            if self.working:
                return self._hold_back(message)
            return self._take(message)
        except Exception as error:  # noqa: BLE001 - a strategy may raise anything
            return self._fail(error)

    def advance(self) -> Sequence[Answer]:
        """
        Go on with reading the request for about 2 ms, if the session is `working`; give what to answer.

        Raises:
            StrategyError: As `receive` does.
        """
        if not self.working:
            return _NOTHING
        try:
            answers = list(self._go_on())
            if self._reading is None:
                waiting, self._waiting = self._waiting, []
                for message in waiting:
                    answers += self._take(message)
        except Exception as error:  # noqa: BLE001 - as above
            return self._fail(error)
        return answers

    def hurry(self) -> None:
        """Read no more of the prompt, only what the request cannot be routed without. For when many are `working`."""
        if self._reading is not None:
            self._reading.budget.prompt_bytes = 0

    def _fail(self, error: Exception) -> Sequence[Answer]:
        """Refuse the request, or end the session with *error*."""
        self._stop()
        if isinstance(error, InferencePoolError) and error.http_status != InferencePoolError.http_status:
            return self._refuse(error)
        self._state, self._error, self.deadline = _State.FAILED, error, None
        self._chunks.clear()
        raise error

    def _hold_back(self, message: Message) -> Sequence[Answer]:
        if isinstance(message, ResponseHeaders):
            # The proxy answered the client itself: what is left of the request goes nowhere.
            self._stop()
            return self._take(message)
        if len(self._waiting) >= _MOST_WAITING:
            text = f"ext_proc: more than {_MOST_WAITING} messages behind the end of the request"
            raise InvalidMessageError(text)
        if not isinstance(message, RequestBody) or self._mode is not _FULL:
            self._waiting.append(message)
        return _NOTHING

    def _stop(self) -> None:
        """Let go of what is being read."""
        self.working, self._reading = False, None
        self._waiting.clear()

    def expire(self) -> Sequence[Answer]:
        """Refuse the request if its deadline has passed: it did not arrive whole in time."""
        if self.deadline is None or self._processor.clock() < self.deadline:
            return _NOTHING
        seconds = self._processor.options.request_timeout
        rate = self._processor.options.least_rate
        text = f"no more of the request arrived for {seconds:g} s, or less than {rate:g} bytes per second"
        return self._refuse(RequestTimeoutError(text))

    def refuse(self, error: InferencePoolError) -> Sequence[Answer]:
        """Refuse a request that is not answered yet for a reason of the server's own, such as that it has no room."""
        if self.done or self._state is not _State.READING:
            return _NOTHING
        self._stop()
        return self._refuse(error)

    def close(self, *, finished: bool) -> None:
        """
        End the session. Only the first call does anything.

        Args:
            finished: Whether the HTTP request is over: the proxy ended its side of the stream, or reset the stream
                while `is_responding`. Where it did neither, or reset the stream before, because it has nothing more to
                say, the request may still run, so what it reserved is held.
        """
        if self._state is _State.CLOSED:
            return
        self._state, self.deadline = _State.CLOSED, None
        self._stop()
        self._chunks.clear()
        held = None
        if self._decision is not None:
            if finished or self._complete:
                self._decision.result.release()
            else:
                held = self._decision.result
        self._processor.leave(held)
        if self._processor.observer is not None and self._began is not None:
            self._processor.observer.finished(self._exchange(self._began, finished=finished))

    def _take(self, message: Message) -> Sequence[Answer]:
        match message:
            case RequestHeaders():
                answers = self._request_headers(message)
            case RequestBody():
                answers = self._request_body(message)
            case RequestTrailers():
                answers = self._request_trailers()
            case ResponseHeaders():
                answers = self._response_headers(message)
            case ResponseBody():
                answers = self._response_body(message)
            case ResponseTrailers():
                answers = self._response_trailers()
            case _:
                assert_never(message)
        return answers

    # -- the request ---------------------------------------------------------------------------------------------------

    def _request_headers(self, message: RequestHeaders) -> Sequence[Answer]:
        if self._state is not _State.NEW:
            _misplace("request headers", self._state)
        self._state, self._head, self._began = _State.READING, message, self._processor.clock()
        if message.request_body_mode is not None:
            self._mode = message.request_body_mode
        if message.end_of_stream or self._mode is BodyMode.NONE:
            return self._decide(None, lambda decision, _: (RequestHeadersAnswer(decision.routing),))
        if self._mode in _IN_PIECES:
            self.deadline = self._began + self._processor.options.request_timeout
        return _NOTHING if self._mode is _FULL else (RequestHeadersAnswer(),)

    def _request_body(self, message: RequestBody) -> Sequence[Answer]:
        if self._state is _State.NEW:
            _misplace("a request body", self._state)
        if self._state is _State.ANSWERED:
            # Some proxies send the last chunk twice in full duplex; what follows the end is dropped.
            self._size += 0 if self._mode is _FULL else len(message.body)
            return _NOTHING if self._mode is _FULL else (RequestBodyAnswer(),)
        self._chunks.append(message.body)
        self._size += len(message.body)
        options = self._processor.options
        if self._size > options.max_body:
            message_text = f"the request's body is longer than the {options.max_body} bytes allowed"
            raise RequestTooLargeError(message_text)
        if message.end_of_stream:
            return self._answer_body(whole=True)
        if self._mode is BodyMode.BUFFERED:
            return self._answer_body(whole=True)  # there are trailers behind it
        if self._mode is BodyMode.BUFFERED_PARTIAL:
            return self._answer_body(whole=False)
        if self._mode is BodyMode.STREAMED and self._size > options.partial_body:
            return self._answer_body(whole=False)
        self._wait(len(message.body))
        return _NOTHING

    def _request_trailers(self) -> Sequence[Answer]:
        if self._state is _State.NEW:
            _misplace("request trailers", self._state)
        if self._state is _State.READING:
            if self._mode is not _FULL and not self._chunks:
                # The headers have left, so nothing can carry the pick any more.
                text = "a request with trailers and without a body cannot be routed where bodies are buffered"
                raise InvalidRequestError(text)
            answers = self._answer_body(whole=True, ends=False)
            if self.working:
                self._waiting.append(RequestTrailers())
                return _NOTHING
            return (*answers, RequestTrailersAnswer())
        if self._decision is None and self._mode is _FULL:
            return _NOTHING  # The response came first: the headers were not answered, and nothing may overtake them.
        return (RequestTrailersAnswer(),)

    def _answer_body(self, *, whole: bool, ends: bool = True) -> Sequence[Answer]:
        """Decide about a request whose body was read; *ends* tells whether the body ends the request."""
        chunks, self._chunks = self._chunks, []
        count = len(chunks)
        body = chunks[0] if count == 1 else b"".join(chunks)
        chunks.clear()

        def answer(decision: Decision, replacement: bytes | None) -> Sequence[Answer]:
            if self._mode is _FULL:
                answers: list[Answer] = [RequestHeadersAnswer(decision.routing)]
                size = self._processor.options.chunk_size
                answers += [
                    StreamedRequestBody(chunk, ends and last)
                    for chunk, last in split(body if replacement is None else replacement, size)
                ]
                return answers
            # Each message waits for its answer; the first still holds the headers.
            first = RequestBodyAnswer(decision.routing, replacement)
            rest = RequestBodyAnswer() if replacement is None else RequestBodyAnswer(replacement=b"")
            return (first, *[rest] * (count - 1))

        return self._decide(body if whole else None, answer)

    def _decide(
        self, body: bytes | None, answer: Callable[[Decision, bytes | None], Sequence[Answer]]
    ) -> Sequence[Answer]:
        """Read the request, at once where that is cheap, and decide about it; *answer* says it then."""
        processor = self._processor
        self.deadline = None
        if body is None:
            return self._conclude(None, None, answer)
        headers = self._head.headers
        if len(body) <= _SMALL:
            return self._conclude(processor.parsers.parse(headers, body), body, answer)
        budget = Budget(processor.options.prompt_bytes)
        self._reading = Reading(body, budget, answer, processor.parsers.read(headers, body, budget))
        return self._go_on()

    def _go_on(self) -> Sequence[Answer]:
        """Read for a while, and decide about the request if that was enough."""
        reading = self._reading
        parsed = reading.go_on(self._processor.clock) if reading is not None else None
        self.working = parsed is None
        if reading is None or parsed is None:
            return _NOTHING
        self._reading = None
        return self._conclude(parsed, reading.body, reading.answer)

    def _conclude(
        self,
        parsed: ParsedBody | None,
        body: bytes | None,
        answer: Callable[[Decision, bytes | None], Sequence[Answer]],
    ) -> Sequence[Answer]:
        """Decide where the request goes."""
        processor = self._processor
        inquiry = inquire(processor, self._head, parsed)
        self._request_id, self._traits = inquiry.request.id, inquiry.traits
        decision, replacement = decide(processor, self._head, inquiry, body)
        self._decision, self._state = decision, _State.ANSWERED
        self._answered = processor.clock()
        self.done = not self._stays(decision)
        if processor.on_decision is not None:
            processor.on_decision(decision)
        if not processor.picker.observed:
            # A response can take minutes: neither its prompt nor its snapshot need to stay for that.
            decision.result.detach()
        return answer(decision, replacement)

    def _stays(self, decision: Decision) -> bool:
        """Tell whether the response is waited for."""
        options = self._processor.options
        if options.response_phase is ResponsePhase.KEEP:
            return True
        if options.response_phase is ResponsePhase.END:
            return False
        if decision.response_headers:
            # They can only be given when the response's own come. Leaving then would lose chunks that are on their way.
            return True
        if not decision.reads_response:
            return False
        return not self._head.response_body_mode or options.usage

    def _wait(self, received: int) -> None:
        """
        Give the client more time, for as many bytes as it sent.

        Time that was not used is not saved: whoever stops sends nothing for `ProcessorOptions.request_timeout` at most,
        and whoever sends less than the least rate runs out of it, however often he sends.
        """
        options = self._processor.options
        if received and self.deadline is not None:
            latest = self._processor.clock() + options.request_timeout
            self.deadline = min(latest, self.deadline + received / options.least_rate)

    def _refuse(self, error: InferencePoolError) -> Sequence[Answer]:
        self._error, self._status, self.done, self.deadline = error, error.http_status, True, None
        self._chunks.clear()
        return (refuse(error),)

    # -- the response --------------------------------------------------------------------------------------------------

    def _response_headers(self, message: ResponseHeaders) -> Sequence[Answer]:
        self._responding = True
        if self._state is _State.READING:
            # The proxy answered the client itself: what is left of the request goes nowhere.
            self._state, self.deadline = _State.ANSWERED, None
            self._chunks.clear()
        self._status = to_status(message.headers.get(":status", ""))
        served = message.metadata.get(names.LB_NAMESPACE, {}).get(names.SERVED)
        if isinstance(served, str):
            self._served = served
        self._streaming = message.headers.get("content-type", "").lower().startswith("text/event-stream")
        options = self._processor.options
        if options.usage and self._decision is not None and self._decision.usage is not UsageKind.NONE:
            self._usage = UsageReader(self._decision.usage, event_stream=self._streaming, loads=self._processor.loads)
        if message.end_of_stream:
            self._end_response()
        elif self._decision is not None:
            self._decision.result.started()
        headers = self._decision.response_headers if self._decision is not None else ()
        if options.served_header and self._served:
            headers = (*headers, (options.served_header, self._served))
        return (ResponseHeadersAnswer(headers),)

    def _response_body(self, message: ResponseBody) -> Sequence[Answer]:
        self.pass_response(message.body, 0, len(message.body))
        if message.end_of_stream:
            self._end_response()
        if self._head.response_body_mode not in _FULL_OR_UNTOLD:
            return (ResponseBodyAnswer(),)
        size = self._processor.options.chunk_size
        if len(message.body) <= size:
            return (StreamedResponseBody(message.body, message.end_of_stream),)
        return [
            StreamedResponseBody(chunk, message.end_of_stream and last) for chunk, last in split(message.body, size)
        ]

    def _response_trailers(self) -> Sequence[Answer]:
        self._end_response()
        return (ResponseTrailersAnswer(),)

    def _end_response(self) -> None:
        self._complete = True
        if self._decision is not None:
            self._decision.result.release()

    def _exchange(self, began: float, *, finished: bool) -> Exchange:
        headers = self._head.headers
        usage = self._usage.finish() if self._usage is not None else _UNTOLD
        return Exchange(
            request_id=self._request_id or headers.get(names.REQUEST_ID, ""),
            path=headers.get(":path", ""),
            traits=self._traits,
            destination=self._decision.routing.destination if self._decision else "",
            served=self._served,
            status=self._status,
            error=self._error,
            complete=self._complete or finished,
            usage=usage if usage != _UNTOLD else None,
            streaming=self._streaming,
            request_bytes=self._size,
            response_bytes=self._response_bytes,
            answered_after=None if self._answered is None else self._answered - began,
            first_byte_after=None if self._first_byte is None else self._first_byte - began,
            seconds=self._processor.clock() - began,
        )


def _misplace(what: str, state: _State) -> NoReturn:
    message = f"ext_proc: {what} in the state {state.value!r}; request headers come first, and once"
    raise InvalidMessageError(message)
