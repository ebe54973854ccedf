"""What a session answers in each of the ways in which a proxy hands over bodies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.extproc import (
    BodyMode,
    ImmediateResponse,
    RequestBody,
    RequestBodyAnswer,
    RequestHeaders,
    RequestHeadersAnswer,
    RequestTrailers,
    RequestTrailersAnswer,
    ResponseHeaders,
    ResponseHeadersAnswer,
    Routing,
    StreamedRequestBody,
)
from tests.adapters.extproc.sessions import (
    BUFFERED,
    FULL,
    NONE,
    PARTIAL,
    STREAMED,
    ask,
    body,
    feed,
    head,
    make_bench,
    passed_on,
    routing_of,
)
from tests.strategies.sessions import cut_bodies

ONE = ["10.0.0.1"]
PICK = Routing("10.0.0.1:8000")
EMPTY = RequestBody()
LAST = RequestBody(b"", end_of_stream=True)


@pytest.mark.parametrize("mode", [FULL, None])
def test_full_duplex_answers_when_the_body_ends(mode: BodyMode | None) -> None:
    """Headers first, then the body; a proxy that does not tell its mode is taken to be in full duplex."""
    session = make_bench(ONE).session()
    data = body()

    assert [] == feed(session, head(mode), RequestBody(data[:9]), EMPTY, RequestBody(data[9:]))
    assert [RequestHeadersAnswer(PICK), StreamedRequestBody(data, end_of_stream=True)] == feed(session, LAST)


@pytest.mark.parametrize("again", [LAST, RequestBody(b"more", end_of_stream=True), EMPTY])
def test_full_duplex_drops_what_follows_the_end(again: RequestBody) -> None:
    """Some proxies send the last chunk twice (envoyproxy/envoy#46237)."""
    bench = make_bench(ONE)
    session, _ = ask(bench)

    assert not session.done
    assert [] == feed(session, again, again)
    assert 1 == bench.in_flight


def test_full_duplex_body_that_ends_with_trailers() -> None:
    """The end of the request is the trailers' then, not the body's."""
    session = make_bench(ONE).session()
    data = body()

    assert [] == feed(session, head(), RequestBody(data))
    assert [
        RequestHeadersAnswer(PICK),
        StreamedRequestBody(data, end_of_stream=False),
        RequestTrailersAnswer(),
    ] == feed(session, RequestTrailers())


def test_full_duplex_trailers_without_a_body() -> None:
    """A path that nobody reads bodies of needs none."""
    session = make_bench(ONE).session()
    first, *rest = feed(session, head(path="/v1/models"), RequestTrailers())

    assert RequestHeadersAnswer(PICK) == first
    assert RequestTrailersAnswer() == rest[-1]
    assert b"" == passed_on(rest)


@pytest.mark.parametrize("mode", [FULL, STREAMED, BUFFERED])
def test_a_body_of_no_bytes(mode: BodyMode) -> None:
    """The body's end is answered even where there is nothing in it."""
    session = make_bench(ONE).session()
    answers = feed(session, head(mode, path="/v1/models"), LAST)

    assert PICK == routing_of(answers)
    expected = {
        FULL: [RequestHeadersAnswer(PICK), StreamedRequestBody(b"", end_of_stream=True)],
        STREAMED: [RequestHeadersAnswer(), RequestBodyAnswer(PICK)],
        BUFFERED: [RequestHeadersAnswer(), RequestBodyAnswer(PICK)],
    }
    assert expected[mode] == answers


def test_streamed_answers_every_chunk_at_the_end() -> None:
    """The first answer carries the pick, for the headers are still held; each chunk gets one."""
    session = make_bench(ONE).session()
    data = body()

    assert [RequestHeadersAnswer()] == feed(session, head(STREAMED))
    assert [] == feed(session, RequestBody(data[:5]), RequestBody(data[5:]))
    assert [RequestBodyAnswer(PICK), RequestBodyAnswer(), RequestBodyAnswer()] == feed(session, LAST)
    assert [RequestBodyAnswer()] == feed(session, LAST)


def test_streamed_body_that_ends_with_trailers() -> None:
    """The trailers are answered behind the chunks, and alone when they come later."""
    session = make_bench(ONE).session()
    answers = feed(session, head(STREAMED), RequestBody(body()), RequestTrailers())

    assert [RequestHeadersAnswer(), RequestBodyAnswer(PICK), RequestTrailersAnswer()] == answers
    later, _ = ask(make_bench(ONE), head(STREAMED))
    assert [RequestTrailersAnswer()] == feed(later, RequestTrailers())


def test_streamed_long_body_is_picked_for_without_it() -> None:
    """Behind `partial_body` bytes the headers cannot be held any longer; what was not read whole is not read."""
    bench = make_bench(ONE, partial_body=10, observe_picks=True)
    session = bench.session()

    assert [RequestHeadersAnswer()] == feed(session, head(STREAMED), RequestBody(b"0123456789"))
    assert [RequestBodyAnswer(PICK), RequestBodyAnswer()] == feed(session, RequestBody(b"x"))
    assert [RequestBodyAnswer(), RequestBodyAnswer()] == feed(session, RequestBody(b"y"), LAST)
    (request,) = bench.asked.requests
    assert ("", b"") == (request.model, request.prompt)


def test_streamed_rewrite_replaces_all_chunks() -> None:
    """The new body goes in the place of the first chunk; the others become empty."""
    session = make_bench(ONE).session()
    data = body("llama")
    named = head(STREAMED, headers={"x-llm-d-model-name-rewrite": "lora"})
    feed(session, named, RequestBody(data[:5]), RequestBody(data[5:]))

    changed = data.replace(b"llama", b"lora")
    empty = RequestBodyAnswer(replacement=b"")
    assert [RequestBodyAnswer(PICK, changed), empty, empty] == feed(session, LAST)


@pytest.mark.parametrize("end", [True, False])
def test_buffered_answers_the_one_message(*, end: bool) -> None:
    """A buffered body comes whole; where trailers follow it does not say that it ends."""
    session = make_bench(ONE).session()

    assert [RequestHeadersAnswer()] == feed(session, head(BUFFERED))
    assert [RequestBodyAnswer(PICK)] == feed(session, RequestBody(body(), end_of_stream=end))
    assert [RequestTrailersAnswer()] == feed(session, RequestTrailers())


@pytest.mark.parametrize("mode", [BUFFERED, PARTIAL, STREAMED])
def test_trailers_without_a_body_where_headers_have_left(mode: BodyMode) -> None:
    """Nothing can carry the pick any more, so the request is refused instead of sent nowhere."""
    bench = make_bench(ONE)
    session = bench.session()
    _, refusal = feed(session, head(mode, path="/v1/models"), RequestTrailers())

    assert isinstance(refusal, ImmediateResponse)
    assert (400, True, 0) == (refusal.status, session.done, bench.in_flight)


def test_buffered_partial_reads_a_whole_body_only() -> None:
    """A part of a body is no JSON; the pick then goes without it. A proxy does not tell which of them it sent."""
    bench = make_bench(ONE, observe_picks=True)
    whole = bench.session()
    part = bench.session()

    assert RequestBodyAnswer(PICK) == feed(whole, head(PARTIAL), RequestBody(body(), end_of_stream=True))[-1]
    assert RequestBodyAnswer(PICK) == feed(part, head(PARTIAL), RequestBody(body()[:-1]))[-1]
    assert ["llama", ""] == [request.model for request in bench.asked.requests]


@pytest.mark.parametrize(("mode", "end"), [*((mode, True) for mode in [*BodyMode, None]), (NONE, False)])
def test_requests_without_a_body_are_answered_at_once(mode: BodyMode | None, *, end: bool) -> None:
    """There is nothing to wait for where the headers end the request, or no body is handed over."""
    session = make_bench(ONE).session()

    assert [RequestHeadersAnswer(PICK)] == feed(session, head(mode, end=end))
    assert session.deadline is None


@given(cut_bodies(), st.integers(1, 40))
def test_full_duplex_passes_any_body_on(chunks: list[bytes], size: int) -> None:
    """Byte for byte, in chunks of at most the size asked for, of which the last alone says that it ends."""
    session = make_bench(ONE, chunk_size=size).session()
    messages = [RequestBody(chunk, number == len(chunks) - 1) for number, chunk in enumerate(chunks)]
    first, *rest = feed(session, head(path="/anything"), *messages)

    assert RequestHeadersAnswer(PICK) == first
    assert b"".join(chunks) == passed_on(rest)
    streamed = [answer for answer in rest if isinstance(answer, StreamedRequestBody)]
    assert rest == streamed
    assert all(len(answer.body) <= size for answer in streamed)
    assert [False] * (len(streamed) - 1) + [True] == [answer.end_of_stream for answer in streamed]
    assert len(streamed) == max(1, -(-len(b"".join(chunks)) // size))


@given(cut_bodies(), st.integers(1, 40), st.sampled_from([STREAMED, BUFFERED, PARTIAL]))
def test_other_modes_leave_any_body_as_it_is(chunks: list[bytes], limit: int, mode: BodyMode) -> None:
    """Exactly one answer for each message, one of them with the pick, none with another body."""
    session = make_bench(ONE, partial_body=limit).session()
    if mode is not STREAMED:
        chunks = [b"".join(chunks)]
    messages = [RequestBody(chunk, number == len(chunks) - 1) for number, chunk in enumerate(chunks)]
    first, *rest = feed(session, head(mode, path="/anything"), *messages)

    assert RequestHeadersAnswer() == first
    assert [RequestBodyAnswer(PICK), *[RequestBodyAnswer()] * (len(chunks) - 1)] == rest


@pytest.mark.parametrize("size", [0, 1, 61_999, 62_000, 62_001, 124_000, 300_000])
def test_large_bodies_leave_in_chunks_of_62000_bytes(size: int) -> None:
    """The size that the reference uses."""
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    _, answers = ask(make_bench(ONE), head(path="/anything"), data)

    sizes = [len(answer.body) for answer in answers if isinstance(answer, StreamedRequestBody)]
    assert data == passed_on(answers)
    assert [62_000] * (size // 62_000) + [size % 62_000] * bool(size % 62_000 or not size) == sizes


def test_response_while_the_request_is_read() -> None:
    """The proxy answered the client itself, so that nothing is picked any more and nothing waited for."""
    bench = make_bench(ONE)
    session = bench.session()
    feed(session, head(), RequestBody(b"x"))

    assert [ResponseHeadersAnswer()] == feed(session, ResponseHeaders({":status": "413"}))
    assert session.deadline is None
    assert [] == feed(session, RequestBody(body()), RequestTrailers(), LAST)
    session.close(finished=True)
    assert (0, 0, 0) == bench.counts
    assert [(413, None)] == [(exchange.status, exchange.error) for exchange in bench.kept.exchanges]


def test_unknown_headers_of_the_first_message_are_no_condition() -> None:
    """A proxy that sends next to nothing gets a pick for the default path."""
    bench = make_bench(ONE)
    answers = feed(bench.session(), RequestHeaders({}), RequestBody(body(), end_of_stream=True))

    assert "10.0.0.1:8000" == routing_of(answers).destination
