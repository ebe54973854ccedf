"""A session whose request takes long to read."""

from __future__ import annotations

import gc
import sys
import weakref
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.bodies import finished
from inferencepool.adapters.extproc import (
    BodyMode,
    ImmediateResponse,
    Message,
    RequestBody,
    RequestBodyAnswer,
    RequestTrailers,
    RequestTrailersAnswer,
    ResponseBody,
    ResponseHeaders,
    ResponseHeadersAnswer,
    ResponsePhase,
    ResponseTrailers,
    ResponseTrailersAnswer,
    Session,
    StreamedRequestBody,
    StreamedResponseBody,
)
from inferencepool.adapters.extproc._chunks import Chunks
from inferencepool.adapters.extproc._messages import Answer
from inferencepool.errors import InvalidMessageError
from tests.adapters.extproc.sessions import (
    BUFFERED,
    FULL,
    STREAMED,
    Bench,
    feed,
    head,
    make_bench,
    passed_on,
    routing_of,
)

CHAT = "/v1/chat/completions"
DEAR = b'{"messages":[{"role":"user","content":[%b{}]}],"model":"llama"}' % (b"{}," * 400_000)
REWRITE = {"x-gateway-model-name-rewrite": "other"}


def begin(bench: Bench, data: bytes = DEAR, **more: object) -> Session:
    """Begin a session whose request has come whole."""
    session = bench.session()
    feed(session, head(path=CHAT, **more), RequestBody(data, end_of_stream=True))  # type: ignore[arg-type]  # passed on as they come
    assert session.working
    return session


def finish(session: Session) -> list[Answer]:
    """Go on until the request is read; give what is answered."""
    answers: list[Answer] = []
    for _ in range(1_000):
        if not session.working:
            break
        answers += session.advance()
    assert not session.working
    return answers


def test_it_is_answered_in_the_end() -> None:
    """A dear request is picked for like any other, and waits for nothing meanwhile."""
    bench = make_bench(observe_picks=True)
    session = begin(bench)
    assert session.deadline is None
    answers = finish(session)

    assert routing_of(answers).destination
    assert DEAR == passed_on(answers)
    (request,) = bench.asked.requests
    assert "llama" == request.model
    assert len(request.prompt) < 1 << 18
    assert request.prompt_unread > 1 << 20
    assert () == session.advance()
    session.close(finished=True)
    assert (0, 0, 0) == bench.counts


def test_its_model_is_rewritten() -> None:
    """The model of a dear body is known, and another is put in its place."""
    answers = finish(begin(make_bench(), headers=REWRITE))

    assert DEAR.replace(b"llama", b"other") == passed_on(answers)


def test_in_a_hurry() -> None:
    """Without its prompt a request is still routed by its model."""
    bench = make_bench(observe_picks=True)
    session = begin(bench)
    session.hurry()
    finish(session)

    (request,) = bench.asked.requests
    assert "llama" == request.model
    assert len(request.prompt) < 1 << 17


def test_without_a_model_it_is_refused() -> None:
    """That a dear body names no model is found out too."""
    session = begin(make_bench(), DEAR.replace(b"model", b"other"))
    (answer,) = finish(session)

    assert isinstance(answer, ImmediateResponse)
    assert (400, True) == (answer.status, session.done)


def test_what_is_said_meanwhile_waits() -> None:
    """Trailers that come while a request is read are answered behind it."""
    bench = make_bench()
    session = begin(bench, mode=BUFFERED)
    assert () == session.receive(RequestTrailers())
    answers = finish(session)

    assert routing_of(answers).destination
    assert RequestTrailersAnswer() == answers[-1]


def test_trailers_that_end_a_dear_request() -> None:
    """A request whose end are trailers has them answered last."""
    bench = make_bench()
    session = bench.session()
    feed(session, head(path=CHAT), RequestBody(DEAR), RequestTrailers())
    assert session.working
    answers = finish(session)

    assert DEAR == passed_on(answers)
    assert RequestTrailersAnswer() == answers[-1]


def test_not_much_waits() -> None:
    """A proxy that says much behind the end of a request is told that this is wrong."""
    session = begin(make_bench(), mode=BUFFERED)
    with pytest.raises(InvalidMessageError, match="more than 16 messages"):
        feed(session, *[RequestBody(b"")] * 17)
    assert not session.working
    assert () == session.advance()


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (ResponseHeaders({":status": "504"}), ResponseHeadersAnswer()),
        (ResponseBody(b"no"), StreamedResponseBody(b"no")),
        (ResponseTrailers(), ResponseTrailersAnswer()),
    ],
)
def test_a_response_ends_it(message: Message, answer: Answer) -> None:
    """Where the proxy answers the client itself, the request is read no further, and nothing of it is kept."""
    session = begin(make_bench())
    assert [answer] == feed(session, message)
    assert not session.working
    assert [] == feed(session, RequestBody(bytes(100)))
    assert 0 == session.held_bytes


@pytest.mark.parametrize("mode", [FULL, STREAMED])
def test_what_follows_the_body_is_not_kept(mode: BodyMode) -> None:
    """Behind a body that is whole by its length nothing counts but its end, however much a proxy sends."""
    session = make_bench().session()
    length = {"content-length": str(len(DEAR))}
    feed(session, head(mode, path=CHAT, headers=length), RequestBody(DEAR))
    more = RequestBody(memoryview(bytes(1 << 21)))
    kept = sys.getrefcount(more.body)
    answers = feed(session, *[more] * 9, RequestBody(b"", end_of_stream=True))
    still_kept = sys.getrefcount(more.body)
    answers += finish(session)

    assert kept == still_kept
    if mode is FULL:
        assert DEAR == passed_on(answers)
        assert StreamedRequestBody(b"", end_of_stream=True) == answers[-1]
    else:
        assert 11 == sum(isinstance(answer, RequestBodyAnswer) for answer in answers)


def test_what_is_read_no_further_is_gone_at_once() -> None:
    """A long body of a proxy that left does not wait for the collector."""
    session = make_bench().session()
    message = LongBody(DEAR + bytes(20 << 20))
    gone = weakref.ref(message)
    feed(session, head(path=CHAT), RequestBody(memoryview(message), end_of_stream=True))
    del message
    assert session.working
    assert gone() is not None
    collects = gc.isenabled()
    gc.disable()
    try:
        session.close(finished=False)
        assert gone() is None
    finally:
        if collects:
            gc.enable()


class LongBody(bytearray):
    """Bytes that can be referred to weakly."""


def test_closing_ends_it() -> None:
    """A session that is closed reads no further."""
    bench = make_bench()
    session = begin(bench)
    session.close(finished=False)
    assert not session.working
    assert (0, 0, 0) == bench.counts


LONG = b'{"model":"llama","prompt":"%b"}' % (b"x" * (3 << 20))


class TestHandingBack:
    """A long body is handed back in slices, too."""

    def test_in_order_and_whole(self) -> None:
        """No call gives much more than 1 MiB, and together they give the body behind the pick."""
        session = make_bench().session()
        given = [feed(session, head(), RequestBody(LONG, end_of_stream=True))]
        while session.working:
            given.append(list(session.advance()))

        assert len(given) > 2
        assert all(len(passed_on(answers)) <= 1 << 20 for answers in given)
        answers = [answer for each in given for answer in each]
        assert routing_of(answers).destination
        assert LONG == passed_on(answers)

    def test_the_session_is_done_behind_the_last_chunk(self) -> None:
        """The stream is not ended before the whole body was handed back."""
        session = make_bench(response_phase=ResponsePhase.END).session()
        feed(session, head(), RequestBody(LONG, end_of_stream=True))
        while session.working:
            assert not session.done
            session.advance()

        assert session.done

    def test_trailers_come_behind_the_body(self) -> None:
        """What is said behind the body is answered behind it."""
        session = make_bench().session()
        answers = feed(session, head(), RequestBody(LONG), RequestTrailers())
        assert RequestTrailersAnswer() not in answers
        answers += finish(session)

        assert RequestTrailersAnswer() == answers[-1]
        assert LONG == passed_on(answers)

    def test_a_response_that_comes_early(self) -> None:
        """A response does not wait for the request, and the rest of the body follows."""
        session = make_bench().session()
        answers = feed(session, head(), RequestBody(LONG, end_of_stream=True))
        while not answers:
            answers += session.advance()
        assert session.working
        assert [ResponseHeadersAnswer()] == feed(session, ResponseHeaders({":status": "200"}))
        answers += finish(session)

        assert LONG == passed_on(answers)

    def test_what_is_kept_is_told(self) -> None:
        """The body counts as held until all of it was handed back."""
        session = make_bench().session()
        feed(session, head(), RequestBody(LONG, end_of_stream=True))
        assert len(LONG) == session.held_bytes
        finish(session)

        assert 0 == session.held_bytes


def _view(data: bytes) -> memoryview:
    return memoryview(data)


def _in_views(data: bytes, cuts: list[int]) -> list[bytes | memoryview]:
    """Cut *data*; long pieces are views, as `decode` gives them."""
    pieces = [data[start:stop] for start, stop in pairwise([0, *cuts, len(data)])]
    return [memoryview(piece) if len(piece) > 1 << 20 else piece for piece in pieces]


class TestLongChunks:
    """Chunks too long to be copied in one step are put together in steps of their own."""

    @pytest.mark.parametrize("cuts", [[], [9], [9, 20], [3_000_000, 3_000_009], [50, 1_500_000]])
    @pytest.mark.parametrize("headers", [{}, REWRITE], ids=["as it is", "rewritten"])
    def test_make_the_same_body(self, cuts: list[int], headers: dict[str, str]) -> None:
        """However the body comes, it is read and goes on whole, and its model is replaced."""
        session = make_bench().session()
        *first, last = _in_views(LONG, cuts)
        messages = [RequestBody(piece) for piece in first]
        answers = feed(session, head(headers=headers), *messages, RequestBody(last, end_of_stream=True))
        assert session.working
        answers += finish(session)

        assert LONG.replace(b"llama", b"other" if headers else b"llama") == passed_on(answers)
        ends = [answer.end_of_stream for answer in answers if isinstance(answer, StreamedRequestBody)]
        assert [*[False] * (len(ends) - 1), True] == ends
        session.close(finished=True)

    @given(st.lists(st.one_of(st.binary(max_size=50), st.binary(min_size=1, max_size=50).map(_view))))
    def test_keep_their_order(self, pieces: list[bytes | memoryview]) -> None:
        """Among short ones, which are put together as they come."""
        chunks = Chunks()
        for piece in pieces:
            chunks.add(piece)
        assert len(pieces) == chunks.count
        body = chunks.take()
        assert b"".join(pieces) == (body if isinstance(body, bytes) else finished(body))
        assert (0, b"") == (chunks.count, chunks.take())

    def test_are_copied_a_little_at_a_time(self) -> None:
        """A step copies 1 MiB: the system takes longer to give that memory than the copy does."""
        chunks = Chunks()
        chunks.add(memoryview(bytes(5 << 20)))
        chunks.add(memoryview(bytes(2 << 20)))
        steps = chunks.take()
        assert not isinstance(steps, bytes)
        assert 7 == sum(1 for _ in steps)
