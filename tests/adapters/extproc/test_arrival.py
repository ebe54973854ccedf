"""When a request is decided about, and what of it is handed on behind that."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.extproc import (
    BodyMode,
    ImmediateResponse,
    Message,
    RequestBody,
    RequestBodyAnswer,
    RequestHeadersAnswer,
    RequestTrailers,
    RequestTrailersAnswer,
    ResponseHeaders,
    StreamedRequestBody,
)
from inferencepool.errors import NoEndpointsError
from tests.adapters.extproc.sessions import (
    BUFFERED,
    FULL,
    NONE,
    PARTIAL,
    STREAMED,
    body,
    feed,
    head,
    make_bench,
    passed_on,
    routing_of,
    subset,
)

DATA = body()
LENGTH = {"content-length": str(len(DATA))}
END = RequestBody(b"", end_of_stream=True)
OK = {":status": "200"}
TO_LORA = {"x-llm-d-model-name-rewrite": "lora"}
LARGE = body(prompt="x" * 100_000)


UPGRADE = {":method": "GET", "connection": "upgrade", "upgrade": "websocket"}
CONNECT = {":method": "CONNECT", ":protocol": "websocket"}


class TestTunnels:
    """Requests for another protocol, such as WebSocket: what follows their headers has no end."""

    @pytest.mark.parametrize("headers", [UPGRADE, CONNECT, UPGRADE | {"upgrade": "WebSocket", "content-length": "0"}])
    @pytest.mark.parametrize("mode", [*BodyMode, None])
    def test_are_decided_at_their_headers(self, mode: BodyMode | None, headers: dict[str, str]) -> None:
        """In every mode, and nothing more of them is waited for."""
        bench = make_bench(["10.0.0.1"])
        session = bench.session()
        answers = feed(session, head(mode, NONE, path="/v1/realtime", headers=headers))

        assert "10.0.0.1:8000" == routing_of(answers).destination
        assert isinstance(answers[0], RequestHeadersAnswer)
        assert session.deadline is None
        assert not session.done

    @pytest.mark.parametrize(
        "headers",
        [
            UPGRADE | {":method": "POST"},
            UPGRADE | {":method": "POST", "transfer-encoding": "chunked"},
            UPGRADE | {"transfer-encoding": "chunked"},
            UPGRADE | {"content-length": str(len(DATA))},
            {":method": "CONNECT", "upgrade": "websocket"},
        ],
    )
    @pytest.mark.parametrize("mode", [FULL, STREAMED, BUFFERED, PARTIAL])
    def test_have_no_body(self, mode: BodyMode, headers: dict[str, str]) -> None:
        """Servers read the body of a request that asks for another protocol in another way; so it is rewritten."""
        session = make_bench().session()
        answers = feed(session, head(mode, NONE, headers=headers | TO_LORA), RequestBody(DATA, end_of_stream=True))
        changed = passed_on(answers) if mode is FULL else getattr(answers[-1], "replacement", None)

        assert DATA.replace(b"llama", b"lora") == changed

    def test_without_a_method(self) -> None:
        """Some proxies tell none: what tells of a body is none."""
        told = head(FULL, NONE, headers=UPGRADE | {"transfer-encoding": "chunked"})
        for message, is_tunnel in ((head(FULL, NONE, headers=UPGRADE), True), (told, False)):
            headers = {name: value for name, value in message.headers.items() if name != ":method"}
            assert is_tunnel == bool(feed(make_bench().session(), attrs.evolve(message, headers=headers)))

    def test_that_hide_a_body(self) -> None:
        """Where the proxy sends no body of a request with ``upgrade``, it is refused if rewrites depend on it."""
        post = UPGRADE | {":method": "POST"}
        (answer,) = feed(make_bench().session(), head(NONE, headers=post))
        assert isinstance(answer, RequestHeadersAnswer)
        (refusal,) = feed(make_bench().session(), head(NONE, headers=post | TO_LORA))
        assert isinstance(refusal, ImmediateResponse)
        assert 400 == refusal.status
        assert b"not sent by the proxy, as the request has the header upgrade" in refusal.body
        (answer,) = feed(make_bench().session(), head(NONE, end=True, headers=post | TO_LORA))
        assert isinstance(answer, RequestHeadersAnswer)

    @pytest.mark.parametrize("headers", [UPGRADE, CONNECT])
    def test_are_handed_on_in_full_duplex(self, headers: dict[str, str]) -> None:
        """Each frame as it comes, however many bytes there are in all, to the end that one side tells."""
        bench = make_bench(max_body=10, chunk_size=8)
        session = bench.session()
        feed(session, head(FULL, FULL, headers=headers))
        assert [StreamedRequestBody(b"ping")] == feed(session, RequestBody(b"ping"))
        feed(session, ResponseHeaders({":status": "101"}))
        answers = feed(session, RequestBody(b"0123456789"))
        assert [StreamedRequestBody(b"01234567"), StreamedRequestBody(b"89")] == answers
        assert 0 == session.held_bytes
        assert [StreamedRequestBody(b"", end_of_stream=True)] == feed(session, END)
        assert [] == feed(session, END)
        session.close(finished=True)
        assert [14] == [exchange.request_bytes for exchange in bench.kept.exchanges]

    @pytest.mark.parametrize("mode", [STREAMED, BUFFERED])
    def test_are_acknowledged_in_other_modes(self, mode: BodyMode) -> None:
        """The proxy has the frame still."""
        session = make_bench().session()
        feed(session, head(mode, NONE, headers=UPGRADE))
        assert [RequestBodyAnswer()] == feed(session, RequestBody(b"ping"))

    def test_keep_a_stream_that_is_to_end(self) -> None:
        """In full duplex what is not handed on does not arrive, so the stream lasts as long as they do."""
        session = make_bench(response_phase="end").session()
        feed(session, head(FULL, NONE, headers=UPGRADE), RequestBody(b"ping"))
        assert not session.done
        feed(session, END)
        assert session.done

    @pytest.mark.parametrize("headers", [{"upgrade": "h2c"}, {"upgrade": ""}, {"upgrade": "x"} | LENGTH])
    def test_are_not_what_has_a_body(self, headers: dict[str, str]) -> None:
        """Some clients offer h2c with any request, and what tells its length has a body."""
        bench = make_bench(observe_picks=True)
        session = bench.session()
        assert [] == feed(session, head(headers={":method": "POST"} | headers))
        feed(session, RequestBody(DATA, end_of_stream=True))
        assert ["llama"] == [request.model for request in bench.asked.requests]


class TestLength:
    """Bodies that tell how long they are."""

    @given(st.integers(1, len(DATA) - 1))
    def test_are_whole_when_it_has_come(self, cut: int) -> None:
        """In full duplex the request goes on at once; what ends it comes when the proxy tells the end."""
        session = make_bench(["10.0.0.1"]).session()
        assert [] == feed(session, head(headers=LENGTH), RequestBody(DATA[:cut]))
        answers = feed(session, RequestBody(DATA[cut:]))

        assert "10.0.0.1:8000" == routing_of(answers).destination
        assert DATA == passed_on(answers)
        assert [False] == [each.end_of_stream for each in answers if isinstance(each, StreamedRequestBody)]
        assert session.deadline is None
        assert [StreamedRequestBody(b"", end_of_stream=True)] == feed(session, END)
        assert [] == feed(session, END)

    def test_may_have_trailers_behind_them(self) -> None:
        """They end the request then, and no chunk does."""
        session = make_bench().session()
        answers = feed(session, head(headers=LENGTH), RequestBody(DATA), RequestTrailers())

        assert RequestTrailersAnswer() == answers[-1]
        assert not any(isinstance(each, StreamedRequestBody) and each.end_of_stream for each in answers)

    def test_in_the_usual_way(self) -> None:
        """The chunk that completes the body tells its end as well."""
        session = make_bench().session()
        answers = feed(session, head(headers=LENGTH), RequestBody(DATA, end_of_stream=True))
        assert [True] == [each.end_of_stream for each in answers if isinstance(each, StreamedRequestBody)]
        assert [] == feed(session, RequestBody(DATA, end_of_stream=True))

    def test_of_chunks_that_wait_for_answers(self) -> None:
        """Each of them gets its own."""
        session = make_bench(["10.0.0.1"]).session()
        answers = feed(session, head(STREAMED, headers=LENGTH), RequestBody(DATA[:9]), RequestBody(DATA[9:]))
        assert [RequestHeadersAnswer(), RequestBodyAnswer(routing_of(answers)), RequestBodyAnswer()] == answers
        assert [RequestBodyAnswer()] == feed(session, END)

    @pytest.mark.parametrize("mode", [FULL, STREAMED])
    def test_of_nothing(self, mode: BodyMode) -> None:
        """The headers are all that there is to decide by."""
        session = make_bench(["10.0.0.1"]).session()
        answers = feed(session, head(mode, headers={"content-length": "0"}))
        assert "10.0.0.1:8000" == routing_of(answers).destination
        expected = StreamedRequestBody(b"", end_of_stream=True) if mode is FULL else RequestBodyAnswer()
        assert [expected] == feed(session, END)

    @pytest.mark.parametrize("length", ["", "-1", "1e3", "9" * 40, " 5"])
    def test_that_cannot_be_read(self, length: str) -> None:
        """The end of the stream counts."""
        session = make_bench().session()
        assert [] == feed(session, head(headers={"content-length": length}), RequestBody(DATA))
        assert feed(session, END)

    def test_while_a_body_is_read_that_is_dear(self) -> None:
        """The end that comes meanwhile is told behind it."""
        data = body(prompt="x", messages=[{}] * 60_000)
        bench = make_bench()
        session = bench.session()
        answers = feed(session, head(headers={"content-length": str(len(data))}), RequestBody(data), END)
        while session.working:
            answers += session.advance()
        ends = [each.end_of_stream for each in answers if isinstance(each, StreamedRequestBody)]
        assert [*[False] * (len(ends) - 1), True] == ends
        assert data == passed_on(answers)

    @pytest.mark.parametrize("phase", ["auto", "end"])
    def test_where_the_stream_is_to_end(self, phase: str) -> None:
        """Not before the end of the request is handed on."""
        session = make_bench(response_phase=phase).session()
        feed(session, head(FULL, FULL, headers=LENGTH), RequestBody(DATA))
        assert not session.done
        feed(session, END)
        assert session.done

    def test_where_the_response_comes_first(self) -> None:
        """The stream stays: chunks of the response may be on their way."""
        session = make_bench(response_phase="end").session()
        feed(session, head(FULL, FULL, headers=LENGTH), RequestBody(DATA), ResponseHeaders(OK), END)
        assert not session.done


class TestCutBodies:
    """``BUFFERED_PARTIAL``: a body without its end was cut, or has trailers behind it."""

    @pytest.mark.parametrize("data", [DATA, LARGE])
    def test_with_trailers_are_whole(self, data: bytes) -> None:
        """What can be read is whole: rewrites reach it."""
        session = make_bench().session()
        answers = feed(session, head(PARTIAL, headers=TO_LORA), RequestBody(data))
        while session.working:
            answers += session.advance()
        answers += feed(session, RequestTrailers())
        first, second, third = answers
        assert RequestHeadersAnswer() == first
        assert isinstance(second, RequestBodyAnswer)
        assert data.replace(b"llama", b"lora") == second.replacement
        assert "content-length" not in dict(second.routing.set_headers)
        assert RequestTrailersAnswer() == third

    @pytest.mark.parametrize("data", [DATA, LARGE])
    def test_in_the_middle(self, data: bytes) -> None:
        """They are routed without what they say, and left as they are, where no rewrite depends on it."""
        bench = make_bench(observe_picks=True)
        session = bench.session()
        answers = feed(session, head(PARTIAL), RequestBody(data[:-1]))
        while session.working:
            answers += session.advance()
        assert isinstance(answers[1], RequestBodyAnswer)
        assert answers[1].replacement is None
        assert [""] == [request.model for request in bench.asked.requests]

    def test_whose_length_tells(self) -> None:
        """Shorter than that they were cut, whatever can be read: a new length would not be that of what follows."""
        headers = {"content-length": str(len(DATA) + 1)}
        (_, answer) = feed(make_bench().session(), head(PARTIAL, headers=headers), RequestBody(DATA))
        assert isinstance(answer, RequestBodyAnswer)
        (_, refusal) = feed(make_bench().session(), head(PARTIAL, headers=headers | TO_LORA), RequestBody(DATA))
        assert isinstance(refusal, ImmediateResponse)
        assert 413 == refusal.status

    def test_that_tell_no_model(self) -> None:
        """A body that is whole is refused for what is wrong with it."""
        session = make_bench().session()
        feed(session, head(PARTIAL), RequestBody(body(model=None)))
        assert session.done


class TestSubset:
    """The subset hint, on any message of the request."""

    @pytest.mark.parametrize("mode", [FULL, STREAMED, BUFFERED])
    def test_on_a_chunk_of_the_body(self, mode: BodyMode) -> None:
        """As where a filter behind the headers made it."""
        session = make_bench().session()
        last = RequestBody(DATA, end_of_stream=True, metadata=subset("10.0.0.2"))
        assert "10.0.0.2:8000" == routing_of(feed(session, head(mode), last)).destination

    def test_the_last_one_counts(self) -> None:
        """What has no hint changes nothing."""
        for _ in range(10):
            session = make_bench().session()
            messages: list[Message] = [
                head(metadata=subset("10.0.0.1")),
                RequestBody(DATA[:5], metadata=subset(["10.0.0.2", "10.0.0.3"])),
                RequestBody(DATA[5:], metadata=subset("10.0.0.3")),
                RequestBody(b"", end_of_stream=True, metadata={"envoy.lb": {"x": "y"}}),
            ]
            assert "10.0.0.3:8000" == routing_of(feed(session, *messages)).destination

    def test_that_names_nobody(self) -> None:
        """It is a limit all the same."""
        session = make_bench().session()
        feed(session, head(metadata=subset("10.0.0.1")), RequestBody(DATA, end_of_stream=True, metadata=subset("")))
        assert session.done
        session.close(finished=False)

    def test_on_the_end_of_a_body_that_is_being_read(self) -> None:
        """It came before the decision."""
        data = body(prompt="x", messages=[{}] * 60_000)
        bench = make_bench()
        session = bench.session()
        answers = feed(session, head(headers={"content-length": str(len(data))}), RequestBody(data))
        assert [True] == [session.working]
        answers += feed(session, RequestBody(b"", end_of_stream=True, metadata=subset("10.0.0.3")))
        while session.working:
            answers += session.advance()
        assert "10.0.0.3:8000" == routing_of(answers).destination

    def test_refusal(self) -> None:
        """The client learns why."""
        bench = make_bench()
        session = bench.session()
        feed(session, head(), RequestBody(DATA, end_of_stream=True, metadata=subset("10.9.9.9")))
        session.close(finished=False)
        assert isinstance(bench.kept.exchanges[0].error, NoEndpointsError)
