"""Whatever a proxy sends, in whatever order: answers in the order of the protocol, and nothing left behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferencepool.adapters.extproc import (
    Answer,
    BodyMode,
    ImmediateResponse,
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
    ResponsePhase,
    ResponseTrailers,
    ResponseTrailersAnswer,
    Session,
    StreamedRequestBody,
    StreamedResponseBody,
    decode,
    encode,
)
from inferencepool.errors import InvalidMessageError
from tests.adapters.extproc.oracle import parse_response, to_answer, write_request
from tests.adapters.extproc.sessions import FULL, Bench, ask, body, feed, head, make_bench
from tests.strategies.sessions import any_messages, likely_messages

OPTIONS = st.fixed_dictionaries(
    {
        "response_phase": st.sampled_from(ResponsePhase),
        "usage": st.booleans(),
        "max_body": st.sampled_from([10, 1000, 1000]),
        "partial_body": st.sampled_from([5, 1000]),
        "chunk_size": st.sampled_from([3, 1000]),
        "emit_scores": st.booleans(),
        "fallbacks": st.booleans(),
        "served_header": st.sampled_from(["", "x-served"]),
    }
)
_ALLOWED: dict[type, tuple[type, ...]] = {
    RequestHeaders: (RequestHeadersAnswer, ImmediateResponse),
    RequestBody: (RequestHeadersAnswer, RequestBodyAnswer, StreamedRequestBody, ImmediateResponse),
    RequestTrailers: (
        RequestHeadersAnswer,
        RequestBodyAnswer,
        StreamedRequestBody,
        RequestTrailersAnswer,
        ImmediateResponse,
    ),
    ResponseHeaders: (ResponseHeadersAnswer,),
    ResponseBody: (ResponseBodyAnswer, StreamedResponseBody),
    ResponseTrailers: (ResponseTrailersAnswer,),
}
_RANKS: dict[type, int] = {
    RequestHeadersAnswer: 0,
    RequestBodyAnswer: 1,
    StreamedRequestBody: 1,
    RequestTrailersAnswer: 2,
}


def sizes(thing: Any, seen: set[int]) -> int:
    """Count the bytes of all texts of bytes that *thing*, a session, keeps alive by itself."""
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, bytes | bytearray | memoryview):
        return len(thing)
    if isinstance(thing, dict):
        return sum(sizes(value, seen) for value in thing.values())
    if isinstance(thing, list | tuple):
        return sum(sizes(value, seen) for value in thing)
    if type(thing).__module__.startswith("inferencepool"):
        names = {name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())}
        names -= {"_processor", "_owner", "__weakref__"}
        return sum(sizes(getattr(thing, name, None), seen) for name in names)
    return 0


def check_answers(message: Message, answers: Sequence[Answer], session: Session, *, duplex: bool) -> None:
    """See that *answers* are of a kind that *message* asks for."""
    assert all(isinstance(answer, _ALLOWED[type(message)]) for answer in answers)
    if any(isinstance(answer, ImmediateResponse) for answer in answers):
        assert 1 == len(answers)
        assert session.done
    for answer in answers:
        if isinstance(answer, RequestBodyAnswer):
            assert not duplex
        if isinstance(answer, StreamedRequestBody):
            assert duplex


def check_wire(answers: Sequence[Answer]) -> None:
    """See that all *answers* of a session have the order of the protocol and one destination at most."""
    request = [answer for answer in answers if type(answer) in _RANKS]
    ranks = [_RANKS[type(answer)] for answer in request if not isinstance(answer, RequestBodyAnswer)]
    assert ranks == sorted(ranks)
    assert ranks.count(0) <= 1
    assert isinstance(request[0], RequestHeadersAnswer) if request else True
    ends = [answer for answer in request if isinstance(answer, StreamedRequestBody)]
    assert all(not answer.end_of_stream for answer in ends[:-1])
    refusals = [number for number, answer in enumerate(answers) if isinstance(answer, ImmediateResponse)]
    assert refusals in ([], [len(answers) - 1])
    routed = [
        answer
        for answer in request
        if isinstance(answer, RequestHeadersAnswer | RequestBodyAnswer) and answer.routing.destination
    ]
    assert len(routed) <= 1
    assert not (routed and refusals)


def drive(bench: Bench, session: Session, messages: Sequence[Message]) -> None:
    """Have *session* receive *messages* as a server does; check every step."""
    answers: list[Answer] = []
    duplex = True
    picked = ended = failed = began = False
    for message in messages:
        if isinstance(message, RequestHeaders) and not began:
            began = True
            duplex = message.request_body_mode in {None, FULL}
        try:
            now = session.receive(decode(write_request(message).SerializeToString()))
        except InvalidMessageError:
            failed = True
            assert not session.done
            assert session.deadline is None
            break
        for answer in now:
            assert answer == to_answer(parse_response(encode(answer)))
        check_answers(message, now, session, duplex=duplex)
        answers += now
        check_wire(answers)
        picked = picked or any(
            isinstance(answer, RequestHeadersAnswer | RequestBodyAnswer) and answer.routing.destination
            for answer in now
        )
        response_end = isinstance(message, ResponseTrailers) or (
            isinstance(message, ResponseHeaders | ResponseBody) and message.end_of_stream
        )
        ended = ended or (response_end and bool(now) and picked)
        assert (picked and not ended) is (bench.in_flight == 1)
        assert bench.in_flight <= 1
        assert (session.deadline is None) or not picked
    for message in messages if session.done or failed else ():
        assert [] == list(session.receive(message))
    assert began or not picked


@given(
    any_messages() | likely_messages() | likely_messages(),
    OPTIONS,
    st.booleans(),
    st.booleans(),
    st.sampled_from([["10.0.0.1", "10.0.0.2"], ["10.0.0.1", "10.0.0.2"], []]),
)
@settings(max_examples=3 * settings().max_examples)
def test_any_messages_in_any_order(
    messages: list[Message],
    options: dict[str, Any],
    finished: bool,
    expires: bool,
    addresses: list[str],
) -> None:
    """Answers of the right kinds in the right order, or the error for messages without a place."""
    bench = make_bench(addresses, **options)
    session = bench.session()
    drive(bench, session, messages)
    if expires:
        waited = session.deadline is not None
        bench.clock.advance(11)
        assert waited is bool(session.expire())
        assert waited <= session.done
    before = bench.in_flight
    session.close(finished=finished)

    assert bench.counts in ((0, 0, 0), (0, 1, 1))
    assert bench.in_flight <= before
    assert not (finished and bench.in_flight)
    assert 0 == sizes(session._body, set())
    began = any(isinstance(message, RequestHeaders) for message in messages)
    assert len(bench.kept.exchanges) <= began
    other = bench.session()
    other.close(finished=False)
    bench.processor.close()
    assert (0, 0, 0) == bench.counts


@given(st.lists(likely_messages(), max_size=6), st.randoms(use_true_random=False), OPTIONS)
def test_many_sessions_at_once(conversations: list[list[Message]], random: Any, options: dict[str, Any]) -> None:
    """Each releases its own pick, once, however they mix."""
    bench = make_bench(**options)
    open_ones = [(bench.session(), list(messages)) for messages in conversations]
    while open_ones:
        number = random.randrange(len(open_ones))
        session, messages = open_ones[number]
        assert len(open_ones) == bench.processor.statistics().sessions
        if messages and not session.done:
            try:
                session.receive(messages.pop(0))
            except InvalidMessageError:
                messages.clear()
            continue
        session.close(finished=random.random() < 0.5)
        del open_ones[number]
        assert bench.in_flight <= len(open_ones) + bench.processor.statistics().held

    bench.clock.advance(61)
    bench.processor.expire()
    assert (0, 0, 0) == bench.counts


@pytest.mark.parametrize("mode", [mode for mode in BodyMode if mode is not BodyMode.NONE])
@pytest.mark.parametrize("target", ["llama", "lora"])
def test_nothing_of_the_body_is_kept_behind_the_answer(mode: BodyMode, target: str) -> None:
    """A response can take minutes, and thousands of them are under way."""
    bench = make_bench()
    headers = {"x-llm-d-model-name-rewrite": target}
    session, answers = ask(bench, head(mode, headers=headers), body(prompt="x" * 100_000))

    assert not session.done
    del answers
    assert sizes(session, set()) < 100


@pytest.mark.parametrize("message", [head(), RequestBody(b"y", end_of_stream=True)])
def test_nothing_of_the_body_is_kept_behind_an_error(message: Message) -> None:
    """The stream's end may be a while away."""
    session = make_bench().session()
    feed(session, head(), RequestBody(b"x" * 100_000))
    assert sizes(session, set()) >= 100_000
    try:
        session.receive(message)
    except InvalidMessageError:
        assert not session.done

    assert sizes(session, set()) < 100


def test_nothing_of_the_body_is_kept_behind_the_end() -> None:
    """Who keeps a closed session keeps little."""
    session = make_bench().session()
    feed(session, head(), RequestBody(b"x" * 100_000))
    session.close(finished=False)

    assert sizes(session, set()) < 100


def test_the_body_in_one_message_is_not_copied() -> None:
    """The chunk goes back as it came."""
    data = body(prompt="x" * 10_000)
    _, (_, chunk) = ask(make_bench(), None, data)

    assert isinstance(chunk, StreamedRequestBody)
    assert chunk.body is data
