"""How long the stream of a request lives, what is known at its end, and how it may be ended before."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.extproc import (
    BodyMode,
    RequestBody,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    StreamedResponseBody,
)
from inferencepool.errors import ConfigurationError
from tests.adapters.extproc.sessions import BUFFERED, FULL, NONE, STREAMED, ask, body, feed, head, make_bench
from tests.strategies.sessions import cut_bodies

OK = {":status": "200", "content-type": "application/json"}
LAST = ResponseBody(b"", end_of_stream=True)
START = 10.0


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/messages/count_tokens", "/v1/models"])
@pytest.mark.parametrize("response", [*BodyMode, None])
def test_the_stream_stays_unless_told_otherwise(response: BodyMode | None, path: str) -> None:
    """To the end of the response, whatever is in it: agentgateway fails a request whose stream ends before."""
    bench = make_bench()
    session, _ = ask(bench, head(FULL if response is not None else None, response, path=path))
    feed(session, ResponseHeaders(OK))

    assert not session.done
    assert 1 == bench.in_flight
    feed(session, LAST)
    assert 0 == bench.in_flight


class TestHalfClose:
    """A proxy that ends its side of the stream."""

    def test_of_a_proxy_that_only_asks(self) -> None:
        """NGINX Gateway Fabric does so right behind the request, which runs on: its load is held."""
        bench = make_bench()
        session, _ = ask(bench, head(None))
        assert not session.half_close_tells
        session.close(finished=session.half_close_tells)

        assert (0, 1, 1) == bench.counts
        assert [False] == [exchange.complete for exchange in bench.kept.exchanges]

    @pytest.mark.parametrize("response", BodyMode)
    def test_of_a_proxy_that_tells_how_bodies_come(self, response: BodyMode) -> None:
        """Envoy and agentgateway end their side when the HTTP request is over, whatever they told of the response."""
        bench = make_bench()
        session, _ = ask(bench, head(FULL, response))
        assert session.half_close_tells
        session.close(finished=session.half_close_tells)

        assert (0, 0, 0) == bench.counts

    def test_of_a_proxy_that_told_of_the_response(self) -> None:
        """An older Envoy says nothing of modes, and still ends its side at the end."""
        session, _ = ask(make_bench(), head(None))
        feed(session, ResponseHeaders(OK))
        assert session.half_close_tells

    def test_in_reply(self) -> None:
        """Behind the session's own end it tells nothing."""
        session, _ = ask(make_bench(response_phase="end"))
        assert not session.half_close_tells


class TestHolding:
    """The load of requests whose end cannot be seen."""

    def test_is_an_estimate(self) -> None:
        """Of the time that responses take whose end is seen, from the pick on."""
        bench = make_bench()
        for _ in range(300):
            session, _ = ask(bench, head(FULL, FULL))
            bench.clock.advance(2)
            feed(session, ResponseHeaders(OK, end_of_stream=True))
            # What comes behind the response is not waited for.
            bench.clock.advance(50)
            session.close(finished=True)
        estimate = bench.processor.statistics().response_seconds
        assert 2 < estimate < 2.3
        session, _ = ask(bench, head(None))
        bench.clock.advance(0.5)
        session.close(finished=False)

        assert pytest.approx(bench.clock() + estimate - 0.5) == bench.processor.deadline

    def test_begins_with_a_guess(self) -> None:
        """As long as nobody told of any response."""
        bench = make_bench()
        ask(bench, head(None))[0].close(finished=False)
        assert START == bench.processor.deadline

    def test_of_a_request_that_took_longer_already(self) -> None:
        """Nothing is left to be held."""
        bench = make_bench()
        session, _ = ask(bench, head(None))
        bench.clock.advance(START + 1)
        session.close(finished=False)
        bench.processor.expire()
        assert (0, 0, 0) == bench.counts

    def test_as_long_as_is_told(self) -> None:
        """An option takes the place of the estimate."""
        bench = make_bench(hold=30)
        ask(bench, head(None))[0].close(finished=False)
        bench.clock.advance(29)
        bench.processor.expire()
        assert (0, 1, 1) == bench.counts
        bench.clock.advance(1)
        bench.processor.expire()
        assert (0, 0, 0) == bench.counts
        assert bench.processor.deadline is None

    def test_in_the_order_of_their_ends(self) -> None:
        """A later one may end sooner."""
        bench = make_bench()
        ask(bench, head(None))[0].close(finished=False)
        for _ in range(3000):
            ask(bench, head(FULL, FULL))[0].close(finished=True)
        ask(bench, head(None))[0].close(finished=False)
        assert (0, 2, 2) == bench.counts
        bench.clock.advance(1)
        bench.processor.expire()
        assert (0, 1, 1) == bench.counts

    def test_of_one_endless_response(self) -> None:
        """It cannot move the estimate far, whatever it takes."""
        bench = make_bench()
        session, _ = ask(bench, head(FULL, FULL))
        bench.clock.advance(1e9)
        session.close(finished=True)
        assert START + (300 - START) / 11 == pytest.approx(bench.processor.statistics().response_seconds)

    @given(st.lists(st.floats(0, 1e6), max_size=50))
    def test_is_bounded(self, seconds: list[float]) -> None:
        """The estimate stays between the least and the most that was seen, and below five minutes."""
        bench = make_bench()
        for each in seconds:
            session, _ = ask(bench, head(FULL, FULL))
            bench.clock.advance(each)
            session.close(finished=True)
        seen = [START, *(min(each, 300) for each in seconds)]
        assert min(seen) - 1e-6 <= bench.processor.statistics().response_seconds <= max(seen) + 1e-6

    def test_of_many(self) -> None:
        """Beyond the limit the one goes that would have gone first."""
        bench = make_bench(max_holds=2, hold=30)
        for _ in range(3):
            ask(bench, head(None))[0].close(finished=False)
            bench.clock.advance(1)
        assert (0, 2, 2) == bench.counts
        assert 31 == bench.processor.deadline

    def test_of_many_at_once(self) -> None:
        """They are taken back in small parts, as every session that begins waits meanwhile; all of them at the end."""
        bench = make_bench(hold=1)
        for _ in range(150):
            ask(bench, head(None))[0].close(finished=False)
        assert not bench.processor.expire()
        bench.clock.advance(1)
        left = []
        while bench.processor.expire():
            left.append(bench.counts)
        assert [(0, 86, 86), (0, 22, 22)] == left
        assert (0, 0, 0) == bench.counts

        for _ in range(150):
            ask(bench, head(None))[0].close(finished=False)
        bench.processor.close()
        assert (0, 0, 0) == bench.counts

    @pytest.mark.parametrize("options", [{"hold": 0}, {"hold": "1"}, {"max_holds": 0}, {"max_holds": 1.0}])
    def test_options_out_of_range(self, options: dict[str, Any]) -> None:
        """They are named."""
        with pytest.raises(ConfigurationError, match=f"ext_proc: {next(iter(options))}: "):
            make_bench(**options)


class TestEndBeforeTheResponse:
    """Whether an end with status OK would be taken for the end of the response's body."""

    @pytest.mark.parametrize(("response", "cuts"), [(FULL, True), (STREAMED, False), (BUFFERED, False), (NONE, False)])
    def test_while_the_body_is_on_its_way(self, response: BodyMode, *, cuts: bool) -> None:
        """In full duplex alone: in other modes the proxy has the body, and goes on with it."""
        session, _ = ask(make_bench(), head(FULL, response))
        told = [session.end_cuts_response]
        feed(session, ResponseHeaders(OK))
        told.append(session.end_cuts_response)
        if response is not NONE:
            feed(session, ResponseBody(b"x"))
        told.append(session.end_cuts_response)
        feed(session, ResponseTrailers())
        told.append(session.end_cuts_response)

        assert [False, cuts, cuts, False] == told

    def test_of_a_proxy_that_does_not_tell_how_bodies_come(self) -> None:
        """The first chunk tells that they come."""
        session, _ = ask(make_bench(), head(None))
        told = []
        for message in (ResponseHeaders(OK), ResponseBody(b"x"), LAST):
            feed(session, message)
            told.append(session.end_cuts_response)
        assert [False, True, False] == told


class TestPassing:
    """Chunks of which nothing is read but their size."""

    @given(cut_bodies(), st.data())
    def test_is_the_same_as_to_receive(self, chunks: list[bytes], data: st.DataObject) -> None:
        """Whoever hands a chunk back on its own, and tells its size, leaves the session as if it had received it."""
        bench = make_bench(["10.0.0.1"])
        told, received = (ask(bench, head(FULL, FULL))[0] for _ in range(2))
        for session in (told, received):
            assert not session.passes_response
            feed(session, ResponseHeaders(OK))
        for chunk in chunks:
            assert told.passes_response
            assert [StreamedResponseBody(chunk)] == feed(received, ResponseBody(chunk))
            if data.draw(st.booleans()):
                told.pass_response(chunk, 0, len(chunk), ends=False)
            else:
                feed(told, ResponseBody(chunk))
        feed(received, LAST)
        if data.draw(st.booleans()):
            told.pass_response(bytes(LAST.body), 0, len(LAST.body), ends=True)
        else:
            feed(told, LAST)
        for session in (told, received):
            assert not session.passes_response
            session.close(finished=True)
        first, second = bench.kept.exchanges
        assert first == second

    @pytest.mark.parametrize("response", [STREAMED, BUFFERED])
    def test_not_where_chunks_are_only_acknowledged(self, response: BodyMode) -> None:
        """They are not handed back there."""
        session, _ = ask(make_bench(), head(FULL, response))
        feed(session, ResponseHeaders(OK))
        assert not session.passes_response

    def test_also_where_usage_is_wanted(self) -> None:
        """The usage is read from the chunks on their way."""
        bench = make_bench(usage=True)
        session, _ = ask(bench, head(FULL, FULL))
        feed(session, ResponseHeaders(OK))
        assert session.passes_response
        usage = b'{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}'
        session.pass_response(b"<" + usage + b">", 1, 1 + len(usage), ends=False)
        feed(session, ResponseBody(b"}", end_of_stream=True))
        session.close(finished=True)
        (exchange,) = bench.kept.exchanges
        assert exchange.usage is not None
        assert 3 == exchange.usage.prompt_tokens

    def test_not_when_it_is_over(self) -> None:
        """A session that ended takes nothing in."""
        session, _ = ask(make_bench(), head(FULL, FULL))
        feed(session, ResponseHeaders(OK))
        session.close(finished=True)
        assert not session.passes_response

    def test_not_for_a_response_of_nothing(self) -> None:
        """Such as one that came before the request was read."""
        session = make_bench().session()
        assert not session.passes_response
        feed(session, head(FULL, FULL), RequestBody(body()[:5]))
        assert not session.passes_response
