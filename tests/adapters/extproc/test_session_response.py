"""What a session does once the request is answered: how long it stays, what it hands back, and what it tells."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.bodies import Usage
from inferencepool.adapters.extproc import (
    Answer,
    BodyMode,
    Exchange,
    Message,
    RequestBody,
    RequestTrailers,
    RequestTrailersAnswer,
    RequestTraits,
    ResponseBody,
    ResponseBodyAnswer,
    ResponseHeaders,
    ResponseHeadersAnswer,
    ResponsePhase,
    ResponseTrailers,
    ResponseTrailersAnswer,
    StreamedResponseBody,
)
from inferencepool.plugins import SessionAffinityFilter, TokenLoadScorer
from inferencepool.scheduling import SchedulingProfile
from tests.adapters.extproc.sessions import (
    BUFFERED,
    FULL,
    NONE,
    PARTIAL,
    STREAMED,
    Bench,
    ask,
    body,
    feed,
    head,
    make_bench,
    routing_of,
)
from tests.strategies.sessions import cut_bodies

OK = {":status": "200", "content-type": "application/json"}
EVENTS = {":status": "200", "content-type": "text/event-stream; charset=utf-8"}
COUNT_TOKENS = "/v1/messages/count_tokens"
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}}
TOLD = Usage(3, 4, 2, 7)
LAST = ResponseBody(b"", end_of_stream=True)


def stays(phase: ResponsePhase, response: BodyMode | None, path: str, *, usage: bool) -> bool:
    """Tell whether a session has to wait for the response, by the words of the options."""
    if phase is ResponsePhase.AUTO:
        return path != COUNT_TOKENS and (usage or response in {None, NONE})
    return phase is ResponsePhase.KEEP


@pytest.mark.parametrize("phase", ResponsePhase)
@pytest.mark.parametrize("response", [*BodyMode, None])
@pytest.mark.parametrize("usage", [True, False])
@pytest.mark.parametrize("path", ["/v1/completions", COUNT_TOKENS, "/v1/models"])
@pytest.mark.parametrize("mode", BodyMode)
def test_how_long_a_session_stays(
    phase: ResponsePhase, response: BodyMode | None, path: str, mode: BodyMode, *, usage: bool
) -> None:
    """It is over in the very call that answers the request, or not before the response is."""
    bench = make_bench(response_phase=phase, usage=usage)
    session = bench.session()
    asked = head(mode if response is not None else None, response, path=path)
    before = feed(session, asked)
    if not before or mode is not NONE:
        assert not session.done
        feed(session, RequestBody(body(), end_of_stream=True))

    # Where no body is handed over, nobody knows that there is nothing to read in the response.
    read = "" if mode is NONE and response is not None else path
    assert stays(phase, response, read, usage=usage) is not session.done
    assert 1 == bench.in_flight
    if session.done:
        assert [] == feed(session, ResponseHeaders(OK), LAST, ResponseTrailers(), RequestTrailers())
        assert 1 == bench.in_flight


def test_end_comes_with_the_trailers_that_end_the_request() -> None:
    """All answers are given before the end."""
    session = make_bench(response_phase=ResponsePhase.END).session()
    answers = feed(session, head(), RequestBody(body()), RequestTrailers())

    assert RequestTrailersAnswer() == answers[-1]
    assert session.done


def test_phases_by_name() -> None:
    """As they are written on command lines."""
    assert ask(make_bench(response_phase="end"))[0].done


@pytest.mark.parametrize("end", ["headers", "body", "trailers"])
def test_the_end_of_a_response_releases(end: str) -> None:
    """At once, and not again at the end of the stream."""
    bench = make_bench(response_phase="keep")
    session, _ = ask(bench, head(FULL, FULL))
    assert [ResponseHeadersAnswer()] == feed(session, ResponseHeaders(OK, end == "headers"))
    if end != "headers":
        feed(session, ResponseBody(b"x"), ResponseBody(b"y", end_of_stream=end == "body"))
    if end == "trailers":
        assert 1 == bench.in_flight
        assert [ResponseTrailersAnswer()] == feed(session, ResponseTrailers())

    assert 0 == bench.in_flight
    other, _ = ask(bench)
    session.close(finished=False)
    assert (1, 0, 1) == bench.counts
    other.close(finished=True)
    assert (0, 0, 0) == bench.counts
    assert [True, True] == [exchange.complete for exchange in bench.kept.exchanges]


@pytest.mark.parametrize("phase", ["keep", "end"])
def test_a_session_tells_when_the_response_began(phase: str) -> None:
    """Not before its headers came, and never where it is not waited for."""
    session, _ = ask(make_bench(response_phase=phase))
    began = [session.is_responding]
    feed(session, ResponseHeaders(OK))
    began.append(session.is_responding)

    assert [False, phase == "keep"] == began


def test_a_finished_stream_releases() -> None:
    """Where nothing but headers was seen of the response, the end of the stream is its end."""
    bench = make_bench()
    session, _ = ask(bench)
    feed(session, ResponseHeaders(OK))
    assert 1 == bench.in_flight
    session.close(finished=True)

    assert (0, 0, 0) == bench.counts
    assert bench.kept.exchanges[0].complete


def test_an_unfinished_stream_holds_the_load() -> None:
    """The request may run on; its load counts for `hold` seconds."""
    bench = make_bench(hold=30)
    for _ in range(2):
        session, _ = ask(bench)
        session.close(finished=False)
        bench.clock.advance(10)
    assert (0, 2, 2) == bench.counts
    bench.clock.advance(9.5)
    bench.processor.expire()
    assert (0, 2, 2) == bench.counts
    deadlines = [bench.processor.deadline]
    bench.clock.advance(0.5)
    bench.processor.expire()
    assert (0, 1, 1) == bench.counts
    bench.clock.advance(10)
    bench.processor.expire()
    assert (0, 0, 0) == bench.counts
    assert [30, None] == [*deadlines, bench.processor.deadline]
    assert [False, False] == [exchange.complete for exchange in bench.kept.exchanges]


def test_only_the_first_close_counts() -> None:
    """Whatever the second says."""
    bench = make_bench()
    session, _ = ask(bench)
    session.close(finished=False)
    session.close(finished=True)

    assert (0, 1, 1) == bench.counts
    assert 1 == len(bench.kept.exchanges)
    assert [] == feed(session, head(), LAST, ResponseHeaders(OK))
    assert session.deadline is None


def test_a_session_without_a_request_tells_nothing() -> None:
    """Such as a stream that ends before it begins, or one that has a response only."""
    bench = make_bench()
    bench.session().close(finished=True)
    session = bench.session()
    answers = feed(session, ResponseHeaders(OK), ResponseBody(b"x", end_of_stream=True), ResponseTrailers())
    session.close(finished=True)

    assert [
        ResponseHeadersAnswer(),
        StreamedResponseBody(b"x", end_of_stream=True),
        ResponseTrailersAnswer(),
    ] == answers
    assert [] == bench.kept.exchanges
    assert (0, 0, 0) == bench.counts


@given(cut_bodies(), st.integers(1, 40), st.sampled_from([FULL, None]), st.booleans())
def test_full_duplex_hands_every_chunk_back(
    chunks: list[bytes],
    size: int,
    mode: BodyMode | None,
    usage: bool,
) -> None:
    """At once, byte for byte, and with the end where it was."""
    bench = make_bench(response_phase="keep", chunk_size=size, usage=usage)
    session, _ = ask(bench, head(None if mode is None else FULL, mode))
    feed(session, ResponseHeaders(OK))
    for number, chunk in enumerate(chunks):
        last = number == len(chunks) - 1
        answers = feed(session, ResponseBody(chunk, last))
        streamed = [answer for answer in answers if isinstance(answer, StreamedResponseBody)]
        assert answers == streamed
        assert chunk == b"".join(bytes(answer.body) for answer in streamed)
        assert all(len(answer.body) <= size for answer in streamed)
        assert [False] * (len(streamed) - 1) + [last] == [answer.end_of_stream for answer in streamed]
        assert len(streamed) == max(1, -(-len(chunk) // size))
    assert 0 == bench.in_flight


@pytest.mark.parametrize("mode", [STREAMED, BUFFERED, PARTIAL, NONE])
def test_other_modes_acknowledge_every_chunk(mode: BodyMode) -> None:
    """The proxy has the chunk still."""
    session, _ = ask(make_bench(response_phase="keep"), head(FULL, mode))
    answers = feed(session, ResponseHeaders(OK), ResponseBody(b"x" * 70_000), ResponseBody(b"y", end_of_stream=True))

    assert [ResponseHeadersAnswer(), ResponseBodyAnswer(), ResponseBodyAnswer()] == answers


def told(bench: Bench, headers: dict[str, str], *chunks: bytes, path: str = "/v1/completions") -> Exchange:
    """Give what became of a request with a response of *chunks*."""
    data = body(messages=[{"role": "user", "content": "Hi"}])
    session, _ = ask(bench, head(FULL, FULL, path=path), data)
    feed(session, ResponseHeaders(headers), *map(ResponseBody, chunks), LAST)
    session.close(finished=True)
    return bench.kept.exchanges[-1]


def test_usage_of_a_document() -> None:
    """Wherever it is cut."""
    data = json.dumps({"choices": [], "usage": USAGE}).encode()
    bench = make_bench(usage=True)

    assert TOLD == told(bench, OK, data).usage
    assert TOLD == told(bench, OK, data[:30], b"", data[30:]).usage


@pytest.mark.parametrize("kind", ["text/event-stream; charset=utf-8", "Text/Event-Stream"])
def test_usage_of_events(kind: str) -> None:
    """In the last event that tells it."""
    data = b"data: {}\n\ndata: %b\n\ndata: [DONE]\n\n" % json.dumps({"usage": USAGE}).encode()
    bench = make_bench(usage=True)

    assert TOLD == told(bench, EVENTS | {"content-type": kind}, data[:20], data[20:]).usage


def test_usage_of_other_apis() -> None:
    """The path decides how it is read."""
    data = json.dumps({"usage": {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 2}}).encode()

    assert TOLD == told(make_bench(usage=True), OK, data, path="/v1/messages").usage


@pytest.mark.parametrize("usage", [True, False])
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/models"])
def test_usage_that_is_not_told(path: str, *, usage: bool) -> None:
    """None, where the option is off, the path tells none, or the response cannot be read."""
    bench = make_bench(usage=usage, response_phase="keep")
    data = json.dumps({"usage": USAGE}).encode()
    readable = told(bench, OK, data, path=path).usage

    assert (TOLD if usage and path == "/v1/completions" else None) == readable
    assert told(bench, OK, b"{", path=path).usage is None
    assert told(bench, {":status": "500"}, path=path).usage is None


@pytest.mark.parametrize("header", ["", "x-served"])
@pytest.mark.parametrize(
    ("metadata", "served"),
    [
        ({"envoy.lb": {"x-gateway-destination-endpoint-served": "10.0.0.2:8000"}}, "10.0.0.2:8000"),
        ({"envoy.lb": {"x-gateway-destination-endpoint-served": 7.0}}, ""),
        ({"envoy.lb": {}}, ""),
        ({}, ""),
    ],
)
def test_the_endpoint_that_served(header: str, metadata: dict[str, dict[str, Any]], served: str) -> None:
    """Told by the proxy, and told on where a header for it is wanted."""
    bench = make_bench(served_header=header)
    session, _ = ask(bench)
    (answer,) = feed(session, ResponseHeaders(OK, end_of_stream=True, metadata=metadata))
    session.close(finished=True)

    assert ResponseHeadersAnswer(((header, served),) if header and served else ()) == answer
    assert [served] == [exchange.served for exchange in bench.kept.exchanges]


@pytest.mark.parametrize(
    ("status", "number"), [("200", 200), ("503", 503), ("", 0), ("abc", 0), ("099", 0), ("600", 0), ("2000", 0)]
)
def test_status_of_the_response(status: str, number: int) -> None:
    """A number of HTTP, or unknown."""
    bench = make_bench(response_phase="keep")
    assert number == told(bench, {":status": status}).status
    assert 0 == told(bench, {}).status


def test_the_record_of_an_exchange() -> None:
    """All that was seen, by the processor's clock, which may begin at 0."""
    bench = make_bench(["10.0.0.1"], usage=True)
    assert 0 == bench.clock()
    session = bench.session()
    feed(session, head(FULL, FULL, path="/v1/completions?x=1", headers={"x-llm-d-model-name-rewrite": "lora"}))
    bench.clock.advance(1)
    feed(session, RequestBody(body(), end_of_stream=True))
    bench.clock.advance(2)
    metadata = {"envoy.lb": {"x-gateway-destination-endpoint-served": "10.0.0.1:8000"}}
    data = json.dumps({"usage": USAGE}).encode()
    feed(session, ResponseHeaders(OK, metadata=metadata), ResponseBody(data, end_of_stream=True))
    bench.clock.advance(0.5)
    assert [] == bench.kept.exchanges
    session.close(finished=False)

    expected = Exchange(
        request_id="id-1",
        path="/v1/completions?x=1",
        traits=RequestTraits("llama", "lora", "default-flow", 0),
        destination="10.0.0.1:8000",
        served="10.0.0.1:8000",
        status=200,
        complete=True,
        usage=TOLD,
        request_bytes=len(body()),
        response_bytes=len(data),
        answered_after=1,
        first_byte_after=3,
        seconds=3.5,
    )
    assert [expected] == bench.kept.exchanges
    assert ("llama", "lora") == (expected.model, expected.target_model)
    assert not expected.refused
    assert "" == expected.error_code


def test_a_message_out_of_place_is_no_refusal() -> None:
    """The client had its response by then."""
    bench = make_bench()
    session, _ = ask(bench)
    feed(session, ResponseHeaders(OK))
    with pytest.raises(ValueError, match="request headers come first"):
        session.receive(head())
    session.close(finished=False)

    (exchange,) = bench.kept.exchanges
    assert (False, 200, False) == (exchange.refused, exchange.status, exchange.complete)


class TestSessionTokens:
    """Strategies that want the response to have a header."""

    @staticmethod
    def bench(**options: Any) -> Bench:
        """A picker that gives session tokens."""
        profile = SchedulingProfile(filters=[SessionAffinityFilter()], scorers=[TokenLoadScorer()])
        return make_bench(profile=profile, **options)

    @pytest.mark.parametrize("response", [NONE, STREAMED, FULL, None])
    @pytest.mark.parametrize("path", ["/v1/completions", COUNT_TOKENS])
    def test_the_token_brings_the_next_request_to_the_same_endpoint(self, response: BodyMode | None, path: str) -> None:
        """Whatever else the session would stay for: it waits for the response's headers, and adds the token."""
        bench = self.bench()
        session, answers = ask(bench, head(FULL, response, path=path))
        destination = routing_of(answers).destination
        assert not session.done
        (answer,) = feed(session, ResponseHeaders(OK))
        assert isinstance(answer, ResponseHeadersAnswer)
        ((name, token),) = answer.set_headers
        assert "x-session-token" == name
        for _ in range(5):
            _, again = ask(bench, head(headers={name: token}))
            assert destination == routing_of(again).destination

    def test_with_the_endpoint_that_served(self) -> None:
        """Both headers are set."""
        session, _ = ask(self.bench(served_header="x-served"))
        served = {"envoy.lb": {"x-gateway-destination-endpoint-served": "10.0.0.2:8000"}}
        (answer,) = feed(session, ResponseHeaders(OK, metadata=served))
        assert isinstance(answer, ResponseHeadersAnswer)
        assert ["x-session-token", "x-served"] == [name for name, _ in answer.set_headers]

    def test_a_session_that_is_to_end_gives_none(self) -> None:
        """Who wants no response phase gets no token."""
        assert ask(self.bench(response_phase="end"))[0].done

    def test_tokens_in_flight_end_with_the_headers_of_the_response(self) -> None:
        """The prompt is prefilled by then; the request itself counts until the response ends."""
        bench = self.bench()
        session, _ = ask(bench)
        reservations = bench.picker._scheduler._fleet.reservations
        assert 2 == sum(reservations.amounts[0])
        feed(session, ResponseHeaders(OK))
        assert (0, 1) == (sum(reservations.amounts[0]), bench.in_flight)
        session.close(finished=True)
        assert (0, 0) == (sum(reservations.amounts[0]), bench.in_flight)


class TestTheModelComesBack:
    """After a rewrite the client finds the model that it asked for."""

    ANSWER = b'{"id":"1","model":"lora","choices":[{"text":"lora"}]}'
    EXPECTED = b'{"id":"1","model":"llama","choices":[{"text":"lora"}]}'

    def answers(self, mode: BodyMode, *chunks: bytes, trailers: bool = False, **headers: str) -> list[Answer]:
        """Give what a session answers to a response whose request was rewritten."""
        session, _ = ask(
            make_bench(response_phase="keep"), head(FULL, mode, headers={"x-llm-d-model-name-rewrite": "lora"})
        )
        named = {":status": "200", "content-type": "application/json", "content-length": str(len(self.ANSWER))}
        given = {**named, **{name.replace("_", "-"): value for name, value in headers.items()}}
        bodies = [ResponseBody(chunk, index == len(chunks) - 1 and not trailers) for index, chunk in enumerate(chunks)]
        end: list[Message] = [ResponseTrailers()] if trailers else []
        return feed(session, ResponseHeaders(given), *bodies, *end)

    @pytest.mark.parametrize("trailers", [False, True])
    @pytest.mark.parametrize("size", [1, 20, 1_000])
    def test_in_full_duplex(self, size: int, *, trailers: bool) -> None:
        """However it is cut; its length is told no more, as it is another one."""
        chunks = [self.ANSWER[at : at + size] for at in range(0, len(self.ANSWER), size)]
        first, *others = self.answers(FULL, *chunks, trailers=trailers)

        assert ResponseHeadersAnswer(remove_headers=("content-length",)) == first
        assert self.EXPECTED == b"".join(bytes(a.body) for a in others if isinstance(a, StreamedResponseBody))

    @pytest.mark.parametrize("mode", [STREAMED, BUFFERED])
    def test_in_other_modes(self, mode: BodyMode) -> None:
        """Each chunk is replaced by what is to go on of it, or the body as a whole."""
        cut = 1_000 if mode is BUFFERED else 20
        chunks = [self.ANSWER[:cut], self.ANSWER[cut:]] if mode is STREAMED else [self.ANSWER]
        _, *others = self.answers(mode, *chunks)

        assert self.EXPECTED == b"".join(a.replacement or b"" for a in others if isinstance(a, ResponseBodyAnswer))

    @pytest.mark.parametrize("trailers", [False, True])
    @pytest.mark.parametrize("size", [1, 3, 20])
    def test_streamed_in_pieces(self, size: int, *, trailers: bool) -> None:
        """Each piece gets one answer, and where a cut name is kept back that is nothing, not the piece as it came."""
        pieces = [self.ANSWER[at : at + size] for at in range(0, len(self.ANSWER), size)]
        _, *others = self.answers(STREAMED, *pieces, trailers=trailers)
        replaced = [answer.replacement for answer in others if isinstance(answer, ResponseBodyAnswer)]

        assert (len(pieces), len(pieces) + trailers) == (len(replaced), len(others))
        assert None not in replaced
        assert self.EXPECTED == b"".join(piece or b"" for piece in replaced)

    def test_in_events(self) -> None:
        """In each of a stream."""
        event = b'data: {"id":"1","model":"%b","choices":[]}\n\n'
        _, *others = self.answers(FULL, event % b"lora", event % b"lora", content_type="text/event-stream")

        assert [event % b"llama"] * 2 == [bytes(a.body) for a in others if isinstance(a, StreamedResponseBody)]

    @pytest.mark.parametrize("headers", [{"content_encoding": "gzip"}, {"content_type": "audio/wav"}])
    def test_what_cannot_be_read_passes(self, headers: dict[str, Any]) -> None:
        """A response that is compressed or no JSON stays as it is, with its length."""
        first, *others = self.answers(FULL, self.ANSWER, **headers)

        assert ResponseHeadersAnswer() == first
        assert [StreamedResponseBody(self.ANSWER, end_of_stream=True)] == others
