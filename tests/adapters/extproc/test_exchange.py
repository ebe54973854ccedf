"""What observers are told about requests."""

from __future__ import annotations

import attrs
import pytest

from inferencepool.adapters.extproc import (
    Decision,
    Exchange,
    ExchangeObservers,
    ExternalProcessor,
    RequestBody,
    RequestHeadersAnswer,
    RequestTraits,
    ResponseBody,
    ResponseHeaders,
)
from inferencepool.errors import InferencePoolError, NoEndpointsError, RequestTooLargeError, StrategyError
from inferencepool.model import InferenceModelRewrite, InferenceObjective
from tests.adapters.extproc.sessions import FULL, NONE, STREAMED, Kept, ask, body, feed, head, make_bench

OBJECTIVE = InferenceObjective.from_dict(
    {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceObjective",
        "metadata": {"name": "vip"},
        "spec": {"priority": 7, "poolRef": {"name": "pool"}},
    }
)
REWRITE = InferenceModelRewrite.from_dict(
    {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceModelRewrite",
        "metadata": {"name": "canary"},
        "spec": {
            "poolRef": {"name": "pool"},
            "rules": [{"matches": [{"model": {"value": "llama"}}], "targets": [{"modelRewrite": "llama-2"}]}],
        },
    }
)
HEADERS = {"x-llm-d-inference-objective": "vip", "x-llm-d-inference-fairness-id": "team-a"}


@attrs.define
class Told:
    """Keeps all that it is told."""

    decisions: list[Decision] = attrs.field(factory=list)
    exchanges: list[Exchange] = attrs.field(factory=list)

    def decided(self, decision: Decision) -> None:
        """Keep it."""
        self.decisions.append(decision)

    def finished(self, exchange: Exchange) -> None:
        """Keep it."""
        self.exchanges.append(exchange)


class TestTraits:
    def test_of_a_request_that_got_an_endpoint(self) -> None:
        """Both models, the fairness id and the priority are told when it is over."""
        bench = make_bench(objectives=[OBJECTIVE], rewrites=[REWRITE])
        session, _ = ask(bench, head(headers=HEADERS))
        session.close(finished=True)

        assert RequestTraits("llama", "llama-2", "team-a", 7) == bench.kept.exchanges[0].traits

    def test_of_a_request_that_got_none(self) -> None:
        """What was read by then is told, so that refusals can be told apart."""
        bench = make_bench([])
        session, _ = ask(bench, head(headers=HEADERS))
        session.close(finished=True)

        (exchange,) = bench.kept.exchanges
        assert RequestTraits("llama", "llama", "team-a", 0) == exchange.traits
        assert ("ServiceUnavailable", None, "") == (exchange.error_code, exchange.answered_after, exchange.destination)

    def test_of_a_request_that_cannot_be_read(self) -> None:
        """Nothing is known of it but its id."""
        bench = make_bench()
        session, _ = ask(bench, head(), b"no JSON")
        session.close(finished=True)

        (exchange,) = bench.kept.exchanges
        assert (RequestTraits(), "id-1", "BadRequest") == (exchange.traits, exchange.request_id, exchange.error_code)


class TestErrorCode:
    @pytest.mark.parametrize(
        ("exchange", "code"),
        [
            (Exchange(), ""),
            (Exchange(status=200), ""),
            (Exchange(status=399), ""),
            (Exchange(status=400), "ModelServerError"),
            (Exchange(error=NoEndpointsError("no"), status=503), "ServiceUnavailable"),
            (Exchange(error=RequestTooLargeError("no"), status=413), "PayloadTooLarge"),
            (Exchange(error=StrategyError("no")), "Internal"),
            (Exchange(error=InferencePoolError("no")), "Internal"),
            (Exchange(error=ZeroDivisionError(), status=200), "Internal"),
        ],
    )
    def test_code(self, exchange: Exchange, code: str) -> None:
        """The word of the refusal; what is no refusal is internal; a response of 400 and up is the model server's."""
        assert code == exchange.error_code


class TestSizes:
    def test_of_a_body_that_is_read_in_part(self) -> None:
        """What comes behind the answer counts as well."""
        bench = make_bench(partial_body=8)
        session = bench.session()
        feed(session, head(STREAMED, NONE), RequestBody(b"x" * 9), RequestBody(b"y" * 5, end_of_stream=True))
        session.close(finished=True)

        assert 14 == bench.kept.exchanges[0].request_bytes

    def test_of_a_chunk_sent_twice(self) -> None:
        """In full duplex, what comes behind the end is dropped and not counted."""
        bench = make_bench()
        session, _ = ask(bench)
        feed(session, RequestBody(b"again", end_of_stream=True))
        session.close(finished=True)

        assert len(body()) == bench.kept.exchanges[0].request_bytes

    def test_of_a_stream_of_events(self) -> None:
        """All chunks count; the first tells when the client began to see something."""
        bench = make_bench(response_phase="keep")
        session, _ = ask(bench, head(FULL, FULL))
        bench.clock.advance(1)
        feed(session, ResponseHeaders({":status": "200", "content-type": "Text/Event-Stream"}))
        for chunk in (b"data: 1\n\n", b"data: 2\n\n"):
            bench.clock.advance(1)
            feed(session, ResponseBody(chunk))
        session.close(finished=True)

        (exchange,) = bench.kept.exchanges
        assert (True, 18, 2.0, 3.0) == (
            exchange.streaming,
            exchange.response_bytes,
            exchange.first_byte_after,
            exchange.seconds,
        )

    def test_of_a_response_that_is_not_seen(self) -> None:
        """Nobody can tell its size."""
        bench = make_bench()
        session, _ = ask(bench)
        session.close(finished=True)

        (exchange,) = bench.kept.exchanges
        assert (None, None) == (exchange.response_bytes, exchange.first_byte_after)


class TestDecisions:
    def test_are_told_at_once(self) -> None:
        """An observer that offers it hears of a decision before the request is over."""
        bench, told = make_bench(rewrites=[REWRITE]), Told()
        processor = ExternalProcessor(bench.picker, rewrites=[REWRITE], observer=told)
        session = processor.session()
        (answer, *_) = feed(session, head(), RequestBody(body(), end_of_stream=True))

        (decision,) = told.decisions
        assert isinstance(answer, RequestHeadersAnswer)
        assert answer.routing is decision.routing
        assert ("canary", RequestTraits("llama", "llama-2", "default-flow", 0)) == (decision.rewrite, decision.traits)
        assert [] == told.exchanges
        session.close(finished=True)
        assert [decision.traits] == [exchange.traits for exchange in told.exchanges]

    def test_refusals_are_none(self) -> None:
        """A request that got no endpoint is told once, at its end."""
        told = Told()
        session = ExternalProcessor(make_bench([]).picker, observer=told).session()
        feed(session, head(), RequestBody(body(), end_of_stream=True))
        session.close(finished=True)

        assert (0, 1) == (len(told.decisions), len(told.exchanges))

    def test_several_observers(self) -> None:
        """Each hears everything it offers to hear."""
        first, plain, last = Told(), Kept(), Told()
        processor = ExternalProcessor(make_bench().picker, observer=ExchangeObservers(first, plain, last))
        session = processor.session()
        feed(session, head(), RequestBody(body(), end_of_stream=True))
        session.close(finished=True)

        assert [1, 1] == [len(told.decisions) for told in (first, last)]
        assert first.exchanges == plain.exchanges == last.exchanges
