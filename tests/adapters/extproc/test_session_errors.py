"""How a session refuses requests, and what it leaves to the proxy's failure mode."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any

import pytest

from inferencepool import SchedulingProfile
from inferencepool.adapters.bodies import BodyParsers, OpenAIParser
from inferencepool.adapters.extproc import (
    Answer,
    BodyMode,
    ErrorFormat,
    ExternalProcessor,
    ImmediateResponse,
    Message,
    RequestBody,
    RequestHeadersAnswer,
    RequestTrailers,
    ResponseHeaders,
    Session,
)
from inferencepool.adapters.extproc._refusal import refuse
from inferencepool.errors import (
    InferencePoolError,
    InvalidMessageError,
    InvalidRequestError,
    NoEndpointsError,
    OverloadedError,
    RequestTimeoutError,
    RequestTooLargeError,
    StrategyError,
)
from inferencepool.model import Candidate
from tests.adapters.extproc.sessions import (
    ADDRESSES,
    BUFFERED,
    FULL,
    PARTIAL,
    STREAMED,
    Bench,
    ask,
    body,
    feed,
    head,
    make_bench,
    subset,
)

LAST = RequestBody(b"", end_of_stream=True)
NO_ENDPOINTS = "rejected-no-endpoints"


class KeepNone:
    """Keeps no candidate."""

    def filter(self, request: object, candidates: object) -> list[Candidate]:  # noqa: ARG002 - a protocol
        """Keep none."""
        return []


def check_refused(
    bench: Bench, session: Session, answers: list[Answer], expected: tuple[int, str, str | None], kind: type[Exception]
) -> None:
    """See that *session* refused with this status, text and reason, and is over."""
    *before, refusal = answers
    status, text, reason = expected
    assert all(RequestHeadersAnswer() == answer for answer in before)
    assert isinstance(refusal, ImmediateResponse)
    assert status == refusal.status
    assert refusal.body.decode().startswith(text)
    plain = ("content-type", "text/plain; charset=utf-8")
    assert refusal.set_headers == ((plain, ("x-llm-d-request-dropped-reason", reason)) if reason else (plain,))
    assert refusal.details.startswith("endpoint_picker:")
    assert " " not in refusal.details
    assert session.done
    assert session.deadline is None
    assert [] == feed(session, LAST, RequestTrailers(), ResponseHeaders({":status": "200"}))
    assert () == tuple(session.expire())
    session.close(finished=False)
    assert (0, 0, 0) == bench.counts
    (exchange,) = bench.kept.exchanges
    assert (True, status, "") == (exchange.refused, exchange.status, exchange.destination)
    assert isinstance(exchange.error, kind)


@pytest.mark.parametrize("mode", [FULL, STREAMED, BUFFERED])
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"{", "error unmarshaling request bodyMap: "),
        (b"[]", "error unmarshaling request bodyMap: "),
        (b"", "error unmarshaling request bodyMap: "),
        (b'{"model": "llama"}', "invalid completions request: must have prompt field"),
        (body(None), "model not found in request body"),
        (body(""), "model not found in request body"),
        (b'{"prompt": "x", "model": 7}', "model not found in request body"),
    ],
)
@pytest.mark.parametrize("addresses", [ADDRESSES, ()])
def test_bodies_that_cannot_be_used(mode: BodyMode, data: bytes, text: str, addresses: tuple[str, ...]) -> None:
    """400, before anything asks whether there are endpoints."""
    bench = make_bench(addresses)
    session, answers = ask(bench, head(mode), data)

    check_refused(bench, session, answers, (400, f"inference error: BadRequest - {text}", None), InvalidRequestError)


def test_path_without_a_parser() -> None:
    """Where the fallback was left out, paths that nobody reads are refused."""
    bench = make_bench()
    processor = ExternalProcessor(bench.picker, parsers=BodyParsers([OpenAIParser()]))
    session = processor.session()
    (refusal,) = feed(session, head(path="/v1/other?x=1"), LAST)

    assert isinstance(refusal, ImmediateResponse)
    text = b"inference error: BadRequest - no parser registered matching path suffix for: /v1/other"
    assert (400, text) == (refusal.status, refusal.body)


@pytest.mark.parametrize(
    ("make", "asking", "expected"),
    [
        (
            lambda: make_bench([]),
            head(),
            (503, "inference error: ServiceUnavailable - there are no ready endpoints", NO_ENDPOINTS),
        ),
        (
            # The reference answers 500, against its own specification.
            lambda: make_bench([]),
            head(end=True),
            (503, "inference error: ServiceUnavailable - there are no ready endpoints", NO_ENDPOINTS),
        ),
        (
            make_bench,
            head(metadata=subset("10.9.9.9")),
            (503, "inference error: ServiceUnavailable - the subset '10.9.9.9' names none of the 3", NO_ENDPOINTS),
        ),
        (
            lambda: make_bench(profile=SchedulingProfile(filters=[KeepNone()])),
            head(),
            (429, "inference error: ResourceExhausted - profile default: no endpoint left", "rejected-saturated"),
        ),
    ],
)
def test_nothing_to_pick_from(make: Callable[[], Bench], asking: Any, expected: tuple[int, str, str]) -> None:
    """503 where there is no endpoint, 429 where filters kept none."""
    bench = make()
    session, answers = ask(bench, asking)

    check_refused(bench, session, answers, expected, NoEndpointsError)


@pytest.mark.parametrize("mode", [FULL, STREAMED, BUFFERED, PARTIAL])
def test_body_that_is_too_long(mode: BodyMode) -> None:
    """413 with the chunk that is too much; up to the limit all is well."""
    fits = make_bench(max_body=10)
    assert not ask(fits, head(mode, path="/any"), b"0123456789")[0].done
    bench = make_bench(max_body=10)
    session = bench.session()
    if mode in {BUFFERED, PARTIAL}:
        answers = feed(session, head(mode, path="/any"), RequestBody(b"01234567890"))
    else:
        answers = feed(session, head(mode, path="/any"), RequestBody(b"0123456789"), RequestBody(b"0"))

    text = "inference error: PayloadTooLarge - the request's body is longer than the 10 bytes allowed"
    check_refused(bench, session, answers, (413, text, None), RequestTooLargeError)


def test_request_that_stalls() -> None:
    """408 once nothing came for as long as allowed; a chunk with enough bytes starts anew, an empty one not."""
    bench = make_bench(request_timeout=2.5, least_rate=0.5)
    session = bench.session()
    deadlines = [session.deadline]
    feed(session, head())
    deadlines.append(session.deadline)
    bench.clock.advance(2)
    feed(session, RequestBody(b"x"))
    deadlines.append(session.deadline)
    assert [None, 2.5, 4.5] == deadlines
    bench.clock.advance(2.25)
    assert () == tuple(session.expire())
    feed(session, RequestBody(b""))
    assert 4.5 == session.deadline
    bench.clock.advance(0.25)

    text = (
        "inference error: RequestTimeout - no more of the request arrived for 2.5 s, or less than 0.5 bytes per second"
    )
    check_refused(bench, session, list(session.expire()), (408, text, None), RequestTimeoutError)


@pytest.mark.parametrize(("rate", "expected"), [(1, 408), (99, 408), (101, 200)])
def test_a_request_that_drips(rate: int, expected: int) -> None:
    """However steadily bytes come, too few of them are 408 in the end, and enough of them never are."""
    bench = make_bench(request_timeout=10, least_rate=100)
    session = bench.session()
    feed(session, head())
    # What came fast at first is no credit for later.
    feed(session, RequestBody(bytes(100_000)))
    assert 10 == session.deadline
    status = 200
    for _ in range(10_000):
        bench.clock.advance(1)
        if session.expire():
            status = 408
            break
        feed(session, RequestBody(bytes(rate)))
    assert expected == status


def test_a_request_without_room() -> None:
    """It is refused with 503 and the reason, and holds nothing any more; one that is answered is not refused."""
    bench = make_bench()
    session = bench.session()
    feed(session, head())
    feed(session, RequestBody(bytes(100)))
    assert 100 == session.held_bytes

    answers = list(session.refuse(OverloadedError("full")))
    check_refused(bench, session, answers, (503, "inference error: ServiceUnavailable - full", None), OverloadedError)
    assert 0 == session.held_bytes
    assert () == session.refuse(OverloadedError("full"))


@pytest.mark.parametrize("mode", [BUFFERED, PARTIAL])
def test_a_body_that_comes_as_a_whole_may_take_its_time(mode: BodyMode) -> None:
    """Nobody sees how far it is, so a slow one is not taken for one that stalls: the proxy bounds it."""
    bench = make_bench(request_timeout=2.5)
    session = bench.session()
    feed(session, head(mode))
    bench.clock.advance(1e9)

    assert session.deadline is None
    assert () == tuple(session.expire())
    feed(session, RequestBody(b'{"model": "m", "prompt": "x"}', end_of_stream=True))
    assert 1 == bench.in_flight


@pytest.mark.parametrize("mode", BodyMode)
def test_an_answered_request_does_not_expire(mode: BodyMode) -> None:
    """A response may take as long as it takes."""
    bench = make_bench()
    session, _ = ask(bench, head(mode, end=mode is BodyMode.NONE))
    bench.clock.advance(1e9)

    assert session.deadline is None
    assert () == tuple(session.expire())
    assert 1 == bench.in_flight


@pytest.mark.parametrize(
    ("messages", "what"),
    [
        ([LAST], "a request body in the state 'new'"),
        ([RequestTrailers()], "request trailers in the state 'new'"),
        ([head(), head()], "request headers in the state 'reading the request'"),
        ([head(end=True), head()], "request headers in the state 'the request is answered'"),
        ([head(), RequestBody(body(), end_of_stream=True), head()], "request headers in the state"),
    ],
)
def test_messages_that_have_no_place(messages: list[Message], what: str) -> None:
    """An error to end the stream with; nothing is taken in afterwards."""
    bench = make_bench()
    session = bench.session()
    *before, last = messages
    feed(session, *before)
    picked = bench.in_flight

    with pytest.raises(InvalidMessageError, match=f"ext_proc: {what}"):
        session.receive(last)
    assert not session.done
    assert session.deadline is None
    assert [] == feed(session, head(), LAST, RequestTrailers(), ResponseHeaders({}))
    session.close(finished=False)
    assert (0, picked, picked) == bench.counts
    for exchange in bench.kept.exchanges:
        assert isinstance(exchange.error, InvalidMessageError)
        assert (False, 0) == (exchange.refused, exchange.status)
    assert bool(before) == bool(bench.kept.exchanges)


class BrokenError(Exception):
    """What a strategy with a defect raises."""


class Raising:
    """A scorer that raises."""

    def score(self, request: object, candidates: object) -> list[float]:  # noqa: ARG002 - a protocol
        """Raise."""
        raise BrokenError


class NotANumber:
    """A scorer that gives what is no number."""

    def score(self, request: object, candidates: Sized) -> list[float]:  # noqa: ARG002 - a protocol
        """Give NaN for each."""
        return [float("nan")] * len(candidates)


@pytest.mark.parametrize(("scorer", "kind"), [(Raising(), BrokenError), (NotANumber(), StrategyError)])
@pytest.mark.parametrize("mode", BodyMode)
def test_strategies_that_fail(scorer: Any, kind: type[Exception], mode: BodyMode) -> None:
    """Their errors go up, for the proxy to do what the pool's failure mode says, and nothing is reserved."""
    bench = make_bench(profile=SchedulingProfile(scorers=[scorer]))
    session = bench.session()

    with pytest.raises(kind) as caught:
        feed(session, head(mode), RequestBody(body(), end_of_stream=True))
    assert not session.done
    assert session.deadline is None
    assert [] == feed(session, LAST)
    session.close(finished=True)
    assert (0, 0, 0) == bench.counts
    (exchange,) = bench.kept.exchanges
    assert (caught.value, False, 0) == (exchange.error, exchange.refused, exchange.status)


class RaisingWhenExplained:
    """A scorer that answers picks and raises when it is asked again."""

    def __init__(self) -> None:
        self.asked = 0

    def score(self, request: object, candidates: Sized) -> list[float]:  # noqa: ARG002 - a protocol
        """Raise the second time."""
        self.asked += 1
        if self.asked > 1:
            raise BrokenError
        return [0.5] * len(candidates)


def test_a_failure_behind_the_pick_releases_it() -> None:
    """Scores are asked for once the load is reserved already."""
    bench = make_bench(profile=SchedulingProfile(scorers=[RaisingWhenExplained()]), emit_scores=True)
    session = bench.session()

    with pytest.raises(BrokenError):
        feed(session, head(end=True))
    assert 0 == bench.in_flight
    session.close(finished=False)
    assert (0, 0, 0) == bench.counts


class TeapotError(InferencePoolError):
    """An error with a status of its own."""

    http_status = 418


@pytest.mark.parametrize(
    ("error", "status", "text", "details"),
    [
        (
            NoEndpointsError("x"),
            503,
            b"inference error: ServiceUnavailable - x",
            "endpoint_picker:rejected-no-endpoints",
        ),
        (RequestTooLargeError("x"), 413, b"inference error: PayloadTooLarge - x", "endpoint_picker:PayloadTooLarge"),
        (TeapotError("\u00e9\ud800"), 418, b"inference error: Internal - \xc3\xa9?", "endpoint_picker:Internal"),
        (
            TeapotError("y" * 9000),
            418,
            b"inference error: Internal - " + b"y" * 1972 + b"...",
            "endpoint_picker:Internal",
        ),
    ],
)
def test_refusals(error: InferencePoolError, status: int, text: bytes, details: str) -> None:
    """Long messages are cut, since they may quote a client, and any text can be told."""
    refusal = refuse(error, ErrorFormat.TEXT)

    assert (status, text, details) == (refusal.status, refusal.body, refusal.details)
