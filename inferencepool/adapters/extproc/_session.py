"""`Session`: the conversation about one HTTP request."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NoReturn, assert_never, final

import attrs

from inferencepool.adapters.bodies import Budget, ParsedBody
from inferencepool.adapters.extproc._account import Account
from inferencepool.adapters.extproc._arrival import Arrival, Extent
from inferencepool.adapters.extproc._decision import decide, inquire
from inferencepool.adapters.extproc._messages import (
    Answer,
    BodyMode,
    Message,
    RequestBody,
    RequestHeaders,
    RequestHeadersAnswer,
    RequestTrailers,
    RequestTrailersAnswer,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from inferencepool.adapters.extproc._reading import Answering, Reading, is_small, read_at_once
from inferencepool.adapters.extproc._refusal import refuse
from inferencepool.adapters.extproc._response import ResponsePhaseState, is_awaited
from inferencepool.errors import InferencePoolError, InvalidMessageError, InvalidRequestError

if TYPE_CHECKING:
    from inferencepool.adapters.extproc._processor import ExternalProcessor

__all__ = ["Session"]

_FULL = BodyMode.FULL_DUPLEX_STREAMED
_NOTHING: tuple[Answer, ...] = ()


class _State(enum.Enum):
    NEW = "new"
    READING = "reading the request"
    ANSWERED = "the request is answered"
    FAILED = "failed"
    CLOSED = "closed"


# Bytes of a body that are handed back in one go: sending them takes about as long as a slice of reading.
_HANDED_BACK = 1 << 20
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
        working: Whether the request has come whole, and reading it, or handing its body back, takes so long that it is
            to be gone on with by `advance`, between other work.
    """

    _processor: ExternalProcessor
    done: bool = False
    working: bool = False
    _state: _State = _State.NEW
    _reading: Reading | None = None
    _rest: Iterator[Answer] | None = None
    _waiting: list[Message] = attrs.field(factory=list)
    _leaves: bool = False
    _account: Account = attrs.field(factory=Account)
    _body: Arrival = attrs.field(init=False)
    _response: ResponsePhaseState = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._body = Arrival(self._processor.options, self._processor.clock)
        self._response = ResponsePhaseState(self._processor)

    @property
    def deadline(self) -> float | None:
        """When to call `expire`, in seconds of the processor's clock; None while nothing is waited for."""
        return self._body.deadline

    @property
    def is_responding(self) -> bool:
        """Whether the response has begun: a proxy that resets the stream from then on has seen the response's end."""
        return self._response.has_begun

    @property
    def half_close_tells(self) -> bool:
        """
        Whether the HTTP request is over if the proxy ends its side of the stream at this moment.

        It is for a proxy that tells how bodies come, or told of the response. One that did neither ends its side
        because it only ever asks about requests, as NGINX Gateway Fabric does right behind each of them. Once the
        session is `done`, a proxy ends its side in reply, and that tells nothing.
        """
        return not self.done and (self._response.has_begun or self._account.head.request_body_mode is not None)

    @property
    def end_cuts_response(self) -> bool:
        """
        Whether a stream that ends at this moment cuts the response off, as its body passes through the session.

        With status OK proxies take that for the end of the body; end such a stream with an error instead. Any other
        may be ended with OK, upon which proxies go on without the picker.
        """
        return not self.done and self._response.passes_through

    @property
    def passes_response(self) -> bool:
        """
        Whether a chunk of the response's body is handed back as it came.

        It is while the body comes in full duplex and nothing in it is changed. A chunk may then be answered by
        `hand_back` and told by `pass_response`, in place of `receive`.
        """
        return self._response.is_unchanged and not self.done and self._state is _State.ANSWERED

    def pass_response(self, data: bytes, start: int, stop: int, ends: bool) -> None:
        """Take in what lies from *start* to *stop* in *data*, a chunk of the response's body that may be its end."""
        self._response.learn(data, start, stop, ends, self._account.decision)

    @property
    def held_bytes(self) -> int:
        """Bytes of the request's body that are kept until it was handed on, unpacked ones included."""
        if self._reading is not None:
            return self._body.size + self._reading.budget.unpacked
        return self._body.size if self._body.is_kept or self._rest is not None else 0

    def receive(self, message: Message) -> Sequence[Answer]:
        """
        Take in what the proxy said, and give what to answer, in this order.

        While the session is `working`, what is said of the request waits until that is over.

        After an error of this, and after `close`, nothing is taken in any more.

        Raises:
            InvalidMessageError: The message has no place here, such as a body before the headers.
            StrategyError: A strategy broke its contract. This, and whatever a strategy raises itself, is not answered:
                end the stream with an error, and the proxy does what the pool's failure mode says.
        """
        if self.done or self._state in (_State.FAILED, _State.CLOSED):
            return _NOTHING
        try:
            if self.working:
                return self._hold_back(message)
            return self._take(message)
        except Exception as error:  # noqa: BLE001 - a strategy may raise anything
            return self._fail(error)

    def advance(self) -> Sequence[Answer]:
        """
        Go on for about 2 ms with reading the request or handing its body back, if the session is `working`.

        Returns:
            What to answer.

        Raises:
            StrategyError: As `receive` does.
        """
        if not self.working:
            return _NOTHING
        try:
            answers = list(self._give() if self._reading is None else self._go_on())
            if self._reading is None and self._rest is None:
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
        self._state, self._account.error, self._body.deadline = _State.FAILED, error, None
        self._body.drop()
        raise error

    def _hold_back(self, message: Message) -> Sequence[Answer]:
        if isinstance(message, ResponseHeaders | ResponseBody | ResponseTrailers):
            if self._rest is None:
                self._abandon()
            return self._take(message)  # the response does not wait for the request
        if len(self._waiting) >= _MOST_WAITING:
            text = f"ext_proc: more than {_MOST_WAITING} messages behind the end of the request"
            raise InvalidMessageError(text)
        if isinstance(message, RequestBody):
            if self._body.mode is _FULL and self._body.has_ended:
                self._body.narrow(message.metadata)
                return _NOTHING
            message = self._body.shorten(message)
        self._waiting.append(message)
        return _NOTHING

    def _abandon(self) -> None:
        """Give the request up: the proxy answered the client itself, so what is left of it goes nowhere."""
        self._stop()
        self._state, self._body.deadline = _State.ANSWERED, None
        self._body.drop()

    def _stop(self) -> None:
        """Let go of what is being read, or handed back."""
        if self._reading is not None:
            self._reading.stop()
        self.working, self._reading, self._rest = False, None, None
        self._waiting.clear()

    def expire(self) -> Sequence[Answer]:
        """Refuse the request if its deadline has passed: it did not arrive whole in time."""
        if self.deadline is None or self._processor.clock() < self.deadline:
            return _NOTHING
        return self._refuse(self._body.stalled())

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
            finished: Whether the HTTP request is over: the proxy ended its side of the stream while `half_close_tells`,
                or reset the stream while `is_responding`. Otherwise the request may still run, so what it reserved is
                held.
        """
        if self._state is _State.CLOSED:
            return
        self._state, self._body.deadline = _State.CLOSED, None
        self._stop()
        self._body.drop()
        self._account.close(self._processor, self._body, self._response, finished=finished)

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
                answers = self._response.body(message, self._account.decision)
            case ResponseTrailers():
                answers = self._response.trailers(message, self._account.decision)
            case _:
                assert_never(message)
        return answers

    # -- the request ---------------------------------------------------------------------------------------------------

    def _request_headers(self, message: RequestHeaders) -> Sequence[Answer]:
        if self._state is not _State.NEW:
            _misplace("request headers", self._state)
        now = self._processor.clock()
        self._state, self._account.head, self._account.began = _State.READING, message, now
        if self._body.begin(message, now):
            reason = self._body.hidden_by(message)
            parsed = self._processor.parsers.unread(message.headers, reason) if reason else None
            return self._conclude(parsed, b"", lambda decision, *_: iter((RequestHeadersAnswer(decision.routing),)))
        return _NOTHING if self._body.mode is _FULL else (RequestHeadersAnswer(),)

    def _request_body(self, message: RequestBody) -> Sequence[Answer]:
        if self._state is _State.NEW:
            _misplace("a request body", self._state)
        if self._state is _State.ANSWERED:
            if self._account.decision is None and self._body.mode is _FULL:
                return _NOTHING  # The response came first: the headers were not answered.
            answers = self._body.hand_on_more(message)
            self._leave()
            return answers
        extent = self._body.add(message)
        return _NOTHING if extent is None else self._answer_body(extent)

    def _request_trailers(self) -> Sequence[Answer]:
        if self._state is _State.NEW:
            _misplace("request trailers", self._state)
        if self._state is _State.READING:
            if self._body.mode is not _FULL and not self._body.is_kept:
                # The headers have left, so nothing can carry the pick any more.
                text = "a request with trailers and without a body cannot be routed where bodies are buffered"
                raise InvalidRequestError(text)
            answers = self._answer_body(Extent.WHOLE)
            if self.working:
                self._waiting.append(RequestTrailers())
                return answers
            return (*answers, *self._request_trailers())
        if self._account.decision is None and self._body.mode is _FULL:
            return _NOTHING  # As above, and nothing may overtake them.
        self._body.has_ended = True
        self._leave()
        return (RequestTrailersAnswer(),)

    def _answer_body(self, extent: Extent) -> Sequence[Answer]:
        """Read a request of whose body there is *extent*, at once where that is cheap, and decide about it."""
        body, count = self._body.take()
        processor, headers = self._processor, self._account.head.headers
        answer = partial(self._body.hand_on, count)
        self._body.deadline = None
        if extent is Extent.CUT:
            parsed = processor.parsers.unread(headers, self._body.cut_off(), is_cut=True)
            return self._conclude(parsed, b"", answer)
        may_be_cut = extent is Extent.UNTOLD
        if is_small(body, headers):
            parsed = read_at_once(processor.parsers, headers, body, may_be_cut=may_be_cut)
            return self._conclude(parsed, body, answer)
        budget = Budget(processor.options.prompt_bytes, plain_bytes=processor.options.max_body)
        self._reading = Reading(processor.parsers, headers, body, budget, answer, may_be_cut)
        return self._go_on()

    def _go_on(self) -> Sequence[Answer]:
        """Read for a while, and decide about the request if that was enough."""
        reading = self._reading
        if reading is None:
            return _NOTHING
        self.working = not reading.go_on(self._processor.clock)
        if self.working:
            return _NOTHING
        self._reading = None
        return self._conclude(reading.parsed, reading.body, reading.answer)

    def _conclude(self, parsed: ParsedBody | None, body: bytes, answer: Answering) -> Sequence[Answer]:
        """Decide where the request goes."""
        processor = self._processor
        account = self._account
        inquiry = inquire(processor, account.head, parsed)
        account.request_id, account.traits = inquiry.request.id, inquiry.traits
        decision, replacement = decide(processor, account.head, inquiry, body, self._body.subset)
        account.decision, self._state = decision, _State.ANSWERED
        account.answered = processor.clock()
        self._leaves = not is_awaited(processor.options, account.head.response_body_mode, decision)
        if processor.on_decision is not None:
            processor.on_decision(decision)
        if not processor.picker.observed:
            # A response can take minutes: neither its prompt nor its snapshot need to stay for that.
            decision.result.detach()
        self._rest = answer(decision, body, replacement)
        return self._give()

    def _give(self) -> Sequence[Answer]:
        """Give the next answers to the request: all that are left, or as many as take little time to send."""
        if self._rest is None:
            return _NOTHING
        most = max(2, _HANDED_BACK // self._processor.options.chunk_size)
        answers = list(islice(self._rest, most))
        self.working = len(answers) == most
        if not self.working:
            self._rest = None
            self._leave()
        return answers

    def _leave(self) -> None:
        """Be over, if the response is not waited for, and nothing of the request is left to be handed on."""
        if self._leaves and not self._response.has_begun:
            self.done = self._body.has_ended or self._body.mode is not _FULL

    def _refuse(self, error: InferencePoolError) -> Sequence[Answer]:
        self._account.error, self.done, self._body.deadline = error, True, None
        self._response.status = error.http_status
        self._body.drop()
        return (refuse(error, self._processor.options.error_format),)

    # -- the response --------------------------------------------------------------------------------------------------

    def _response_headers(self, message: ResponseHeaders) -> Sequence[Answer]:
        if self._state is _State.READING:
            self._abandon()
        return self._response.headers(message, self._account.head.response_body_mode, self._account.decision)


def _misplace(what: str, state: _State) -> NoReturn:
    message = f"ext_proc: {what} in the state {state.value!r}; request headers come first, and once"
    raise InvalidMessageError(message)
