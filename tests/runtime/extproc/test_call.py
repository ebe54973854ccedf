"""The service on real sockets, for a client of grpcio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import pytest
from h2.errors import ErrorCodes

from inferencepool import SchedulingProfile
from inferencepool.adapters.extproc import (
    BodyMode,
    ImmediateResponse,
    RequestBody,
    RequestBodyAnswer,
    RequestHeadersAnswer,
    RequestTrailers,
    RequestTrailersAnswer,
    ResponseBody,
    ResponseHeaders,
    ResponseHeadersAnswer,
    ResponseTrailers,
    ResponseTrailersAnswer,
    Routing,
    StreamedRequestBody,
    StreamedResponseBody,
)
from inferencepool.errors import InvalidMessageError, RequestTimeoutError, StrategyError
from inferencepool.runtime.extproc import extproc_limits, extproc_routes
from inferencepool.runtime.grpc import GrpcServer
from tests.adapters.extproc.sessions import (
    BUFFERED,
    FULL,
    NONE,
    PARTIAL,
    STREAMED,
    Bench,
    body,
    head,
    make_bench,
    passed_on,
)
from tests.patience import PATIENCE
from tests.runtime.extproc.serving import PATH, Service, serving, written
from tests.runtime.grpc.peer import Peer, messages

PICK = Routing("10.0.0.1:8000")
DATA = body()
OK = ResponseHeaders({":status": "200"})
ANSWERS: dict[BodyMode, list[object]] = {
    FULL: [RequestHeadersAnswer(PICK), StreamedRequestBody(DATA, end_of_stream=True)],
    STREAMED: [RequestHeadersAnswer(), RequestBodyAnswer(PICK)],
    BUFFERED: [RequestHeadersAnswer(), RequestBodyAnswer(PICK)],
    PARTIAL: [RequestHeadersAnswer(), RequestBodyAnswer(PICK)],
    NONE: [RequestHeadersAnswer(PICK)],
}


def run(bench: Bench, test: Callable[[Service], Awaitable[None]]) -> None:
    """Run *test* while the processor of *bench* is served."""

    async def main() -> None:
        async with serving(bench) as service:
            await test(service)

    asyncio.run(main())


@pytest.mark.parametrize("mode", BodyMode)
def test_each_mode(mode: BodyMode) -> None:
    """From the request's headers to the response's trailers; the end of the stream releases the pick."""
    bench = make_bench(["10.0.0.1"])

    async def test(service: Service) -> None:
        proxy = service.open()
        await proxy.say(head(mode))
        if mode is not NONE:
            await proxy.say(RequestBody(DATA, end_of_stream=True))
        assert ANSWERS[mode] == await proxy.hear(len(ANSWERS[mode]))
        assert (1, 0, 1) == bench.counts
        await proxy.say(OK, ResponseTrailers())
        assert [ResponseHeadersAnswer(), ResponseTrailersAnswer()] == await proxy.hear(2)
        assert (1, 0, 0) == bench.counts
        await proxy.finish()
        assert [(200, True)] == [(each.status, each.complete) for each in await service.exchanges()]
        assert (0, 0, 0) == bench.counts

    run(bench, test)


def test_get() -> None:
    """A request without a body is answered at once."""
    bench = make_bench(["10.0.0.1"])

    async def test(service: Service) -> None:
        proxy = service.open()
        await proxy.say(head(end=True))
        assert [RequestHeadersAnswer(PICK)] == await proxy.hear(1)
        await proxy.finish()
        await service.exchanges()
        assert (0, 0, 0) == bench.counts

    run(bench, test)


def test_large_bodies_and_trailers() -> None:
    """A megabyte there and back, in messages of another size."""
    bench = make_bench(["10.0.0.1"], response_phase="keep")
    data = bytes(range(256)) * 4096

    async def test(service: Service) -> None:
        proxy = service.open()
        await proxy.say(head(FULL, FULL, path="/any"), RequestBody(data[:700_000]), RequestBody(data[700_000:]))
        await proxy.say(RequestTrailers())
        count = -(-len(data) // 62_000)
        first, *answers = await proxy.hear(count + 2)
        assert RequestHeadersAnswer(PICK) == first
        assert RequestTrailersAnswer() == answers[-1]
        assert data == passed_on(answers)
        await proxy.say(OK, ResponseBody(data, end_of_stream=True))
        first, *chunks = await proxy.hear(count + 1)
        assert ResponseHeadersAnswer() == first
        assert data == b"".join(bytes(chunk.body) for chunk in chunks if isinstance(chunk, StreamedResponseBody))
        await proxy.finish()

    run(bench, test)


@pytest.mark.parametrize(("limit", "status"), [(20_000_000, 0), (19_999_999, 413), (1, 413)])
def test_a_body_in_one_large_message(limit: int, status: int) -> None:
    """What the processor takes arrives, beyond the 4 MiB usual for gRPC, and what it does not take is refused by it."""
    bench = make_bench(["10.0.0.1"], max_body=limit)
    data = bytes(20_000_000)

    async def test(service: Service) -> None:
        proxy = service.open()
        await proxy.say(head(path="/any"), RequestBody(data, end_of_stream=True))
        (first,) = await proxy.hear(1)
        if status:
            assert isinstance(first, ImmediateResponse)
            assert status == first.status
        else:
            assert data == passed_on(await proxy.hear(-(-len(data) // 62_000)))
            await proxy.finish()

    run(bench, test)


@pytest.mark.parametrize("max_body", [1, 64 << 20, 100 << 20, 2**40])
def test_limits_follow_the_longest_body(max_body: int) -> None:
    """In every limit, as far as gRPC can count; bodies that are somewhat too long are for the processor to refuse."""
    limits = extproc_limits(make_bench(max_body=max_body).processor)

    assert limits.message_bytes > min(max(max_body, 64 << 20), 2**32 - 2)
    assert limits.queued_bytes >= limits.message_bytes
    assert min(limits.partial_bytes, limits.connection_queued_bytes) >= 4 * limits.message_bytes


def test_bodies_beyond_what_may_be_held_are_refused() -> None:
    """Chunks that are kept count; the request that goes beyond the bound gets 503, and the others go on."""
    bench = make_bench(["10.0.0.1"])
    size = 60_000
    limits = attrs.evolve(
        extproc_limits(bench.processor), message_bytes=100_000, partial_bytes=100_000, server_bytes=150_000
    )

    async def test(service: Service) -> None:
        first, second = service.open(), service.open()
        await first.say(head(FULL), RequestBody(bytes(size)))
        async with asyncio.timeout(PATIENCE):
            while service.server.statistics().partial_bytes < size:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
        # What of it comes before the last of its frames has room.
        await second.say(head(FULL), RequestBody(bytes(45_000)))
        (answer,) = await second.hear(1)
        assert isinstance(answer, ImmediateResponse)
        assert 503 == answer.status
        assert b"holds as many bodies" in answer.body
        assert (grpc.StatusCode.OK, "") == await second.status()
        assert size == service.server.statistics().partial_bytes
        await first.say(RequestBody(b"", end_of_stream=True))
        await first.hear(1)
        assert 0 == service.server.statistics().partial_bytes
        await first.finish()

    async def main() -> None:
        async with serving(bench, limits) as service:
            await test(service)

    asyncio.run(main())


def test_an_answer_is_not_lost_for_want_of_room() -> None:
    """A request that was answered in the step that took it beyond the bound goes on whole, its routing first."""
    bench = make_bench(["10.0.0.1"])
    other, data = bytes(60_000), bytes(1_020_000)
    # Up to its last frame the second body has room; it is handed back in more than one go.
    room = len(other) + 1_018_000
    limits = attrs.evolve(extproc_limits(bench.processor), message_bytes=room, partial_bytes=room)

    async def test(service: Service) -> None:
        first, second = service.open(), service.open()
        await first.say(head(FULL), RequestBody(other))
        async with asyncio.timeout(60):
            while service.server.statistics().partial_bytes < len(other):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
        await second.say(head(FULL, path="/any"), RequestBody(data, end_of_stream=True))
        routed, *answers = await second.hear(1 + -(-len(data) // 62_000))
        assert RequestHeadersAnswer(PICK) == routed
        assert data == passed_on(answers)
        assert 1 == service.server.statistics().limits["partial_bytes"]
        await second.finish()
        await first.finish()

    async def main() -> None:
        async with serving(bench, limits) as service:
            await test(service)

    asyncio.run(main())


def test_half_close_behind_the_end_says_nothing() -> None:
    """The stream ended with the answer, so that the request runs on, whatever the proxy does with its side."""
    bench = make_bench(["10.0.0.1"], response_phase="end")

    async def test(service: Service) -> None:
        peer = await Peer.connect(service.server.port)
        stream = peer.open(PATH)
        peer.send(stream, written(head(end=True)), end=True)
        await peer.flush()
        await peer.over(stream)
        (exchange,) = await service.exchanges()
        assert not exchange.complete
        assert (0, 1, 1) == bench.counts
        await peer.close()

    run(bench, test)


def test_end_with_the_answer() -> None:
    """Where nothing of the response is needed, the stream ends with status OK, and the load is held."""
    bench = make_bench(["10.0.0.1"], response_phase="end")

    async def test(service: Service) -> None:
        proxy = service.open()
        await proxy.say(head(), RequestBody(DATA, end_of_stream=True))
        assert ANSWERS[FULL] == await proxy.hear(2)
        assert (grpc.StatusCode.OK, "") == await proxy.status()
        assert [False] == [each.complete for each in await service.exchanges()]
        assert (0, 1, 1) == bench.counts

    run(bench, test)


def test_a_refusal_ends_the_stream() -> None:
    """With status OK, for the answer is the proxy's to give now."""
    bench = make_bench([])

    async def test(service: Service) -> None:
        proxy = service.open()
        await proxy.say(head(), RequestBody(DATA, end_of_stream=True))
        (refusal,) = await proxy.hear(1)
        assert isinstance(refusal, ImmediateResponse)
        assert 503 == refusal.status
        assert (grpc.StatusCode.OK, "") == await proxy.status()
        assert [True] == [each.refused for each in await service.exchanges()]

    run(bench, test)


@pytest.mark.parametrize("answered", [True, False])
def test_half_close(*, answered: bool) -> None:
    """The end of the HTTP request, wherever it is; with nothing left."""
    bench = make_bench()

    async def test(service: Service) -> None:
        proxy = service.open()
        await proxy.say(head(BUFFERED))
        await proxy.hear(1)
        if answered:
            await proxy.say(RequestBody(DATA, end_of_stream=True))
            await proxy.hear(1)
        await proxy.finish()
        (exchange,) = await service.exchanges()
        assert exchange.complete
        assert bool(exchange.destination) is answered
        assert (0, 0, 0) == bench.counts

    run(bench, test)


@pytest.mark.parametrize("ends_with_response", [True, False])
def test_reset_while_the_response_comes(*, ends_with_response: bool) -> None:
    """It is the end of the response where the proxy keeps the stream so long, and says nothing where it does not."""
    bench = make_bench(ends_with_response=ends_with_response)

    async def test(service: Service) -> None:
        proxy = service.open()
        await proxy.say(head(end=True))
        await proxy.hear(1)
        await proxy.say(OK)
        await proxy.hear(1)
        proxy.call.cancel()
        (exchange,) = await service.exchanges()
        assert exchange.complete is ends_with_response
        assert (0, not ends_with_response, not ends_with_response) == bench.counts

    run(bench, test)


def test_a_stream_without_messages() -> None:
    """Nothing was asked, so nothing is told."""
    bench = make_bench()

    async def test(service: Service) -> None:
        await service.open().finish()
        assert [] == bench.kept.exchanges

    run(bench, test)


@pytest.mark.parametrize("answered", [True, False])
def test_cancel(*, answered: bool) -> None:
    """A stream that is cut: where a pick was made, the request may run on, so its load is held."""
    bench = make_bench()

    async def test(service: Service) -> None:
        proxy = service.open()
        await proxy.say(head(BUFFERED))
        await proxy.hear(1)
        if answered:
            await proxy.say(RequestBody(DATA, end_of_stream=True))
            await proxy.hear(1)
        proxy.call.cancel()
        (exchange,) = await service.exchanges()
        assert not exchange.complete
        assert (0, answered, answered) == bench.counts

    run(bench, test)


def test_a_lost_connection_closes_all_its_sessions() -> None:
    """As a proxy that dies leaves them."""
    bench = make_bench()

    async def test(service: Service) -> None:
        for _ in range(5):
            proxy = service.open()
            await proxy.say(head(end=True))
            await proxy.hear(1)
        await service.channel.close()
        await service.exchanges(5)
        assert (0, 5, 5) == bench.counts

    run(bench, test)


@pytest.mark.parametrize(
    ("responding", "half_closes", "ends"), [(False, True, True), (False, False, False), (True, False, True)]
)
def test_resets_as_envoy_sends_them(*, responding: bool, half_closes: bool, ends: bool) -> None:
    """END_STREAM with a reset behind it ends the HTTP request, and so does a reset alone once the response began."""
    bench = make_bench(["10.0.0.1"])

    async def test(service: Service) -> None:
        peer = await Peer.connect(service.server.port)
        stream = peer.open(PATH)
        peer.send(stream, written(head(end=True)), end=False)
        await peer.flush()
        await peer.until(lambda: len(peer.data(stream)) > 0)
        if responding:
            peer.send(stream, written(OK), end=False)
            await peer.flush()
            await peer.until(lambda: len(messages(peer.data(stream))) > 1)
        if half_closes:
            peer.h2.end_stream(stream)
        peer.h2.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
        await peer.flush()
        (exchange,) = await service.exchanges()
        assert ends is exchange.complete
        assert (0, not ends, not ends) == bench.counts
        await peer.close()

    run(bench, test)


@pytest.mark.parametrize("bad", [b"\xff", b"", b"\x12\x05ab"])
@pytest.mark.parametrize("began", [True, False])
def test_malformed_messages(bad: bytes, *, began: bool) -> None:
    """The proxy is told what is wrong, and nothing stays."""
    bench = make_bench()

    async def test(service: Service) -> None:
        proxy = service.open()
        if began:
            await proxy.say(head())
        await proxy.say(bad)
        code, text = await proxy.status()
        assert grpc.StatusCode.INVALID_ARGUMENT is code
        assert text.startswith("ProcessingRequest")
        if began:
            await service.exchanges()
        assert [] == service.errors
        assert 0 == bench.in_flight

    run(bench, test)


def test_messages_out_of_place() -> None:
    """As malformed ones."""
    bench = make_bench()

    async def test(service: Service) -> None:
        proxy = service.open()
        await proxy.say(head(), head())
        code, text = await proxy.status()
        assert grpc.StatusCode.INVALID_ARGUMENT is code
        assert text.startswith("ext_proc: request headers in the state 'reading the request'")
        (exchange,) = await service.exchanges()
        assert isinstance(exchange.error, InvalidMessageError)

    run(bench, test)


class BrokenError(Exception):
    """What a strategy with a defect raises."""


class Scorer:
    """Scores as it is told to, or raises."""

    def __init__(self, score: float | None) -> None:
        self.value = score

    def score(self, request: object, candidates: list[object]) -> list[float]:  # noqa: ARG002 - a protocol
        """Give each the same score."""
        if self.value is None:
            raise BrokenError
        return [self.value] * len(candidates)


@pytest.mark.parametrize(("score", "kind"), [(None, BrokenError), (float("nan"), StrategyError)])
def test_strategies_that_fail(score: float | None, kind: type[Exception]) -> None:
    """INTERNAL, upon which the proxy does what the pool's failure mode says; the next stream is not touched."""
    scorer: Any = Scorer(score)
    bench = make_bench(profile=SchedulingProfile(scorers=[scorer]))

    async def test(service: Service) -> None:
        proxy = service.open()
        await proxy.say(head(), RequestBody(DATA, end_of_stream=True))
        code, _ = await proxy.status()
        assert grpc.StatusCode.INTERNAL is code
        (exchange,) = await service.exchanges()
        assert [exchange.error] == service.errors
        assert isinstance(exchange.error, kind)
        assert (0, 0, 0) == bench.counts
        scorer.value = 0.5
        proxy = service.open()
        await proxy.say(head(end=True))
        await proxy.hear(1)
        await proxy.finish()

    run(bench, test)


def test_stalled_requests_are_refused() -> None:
    """Those whose pieces stop coming; those that are answered stay."""
    bench = make_bench(request_timeout=0.05, clock=time.monotonic)

    async def test(service: Service) -> None:
        answered = service.open()
        await answered.say(head(end=True))
        await answered.hear(1)
        for mode in (FULL, STREAMED):
            proxy = service.open()
            await proxy.say(head(mode))
            if mode is STREAMED:
                await proxy.hear(1)
            (refusal,) = await proxy.hear(1)
            assert isinstance(refusal, ImmediateResponse)
            assert 408 == refusal.status
            assert (grpc.StatusCode.OK, "") == await proxy.status()
        first, second = await service.exchanges(2)
        assert isinstance(first.error, RequestTimeoutError)
        assert isinstance(second.error, RequestTimeoutError)
        assert 1 == bench.in_flight
        await answered.say(OK)
        assert [ResponseHeadersAnswer()] == await answered.hear(1)
        await answered.finish()

    run(bench, test)


def test_a_stalled_request_that_goes_away() -> None:
    """Nobody looks after it any more, and others are still looked after."""
    bench = make_bench(request_timeout=0.05, clock=time.monotonic)

    async def test(service: Service) -> None:
        gone, stays = service.open(), service.open()
        await gone.say(head())
        await stays.say(head())
        gone.call.cancel()
        (refusal,) = await stays.hear(1)
        assert isinstance(refusal, ImmediateResponse)
        await service.exchanges(2)

    run(bench, test)


def test_two_hundred_streams_at_once() -> None:
    """Each gets its own answers, and every pick is released."""
    bench = make_bench(response_phase="keep")

    async def converse(service: Service, number: int) -> None:
        data = body(prompt=f"{number} " * (number * 5 + 1))
        proxy = service.open()
        await proxy.say(head(FULL, FULL), RequestBody(data[:10]), RequestBody(data[10:], end_of_stream=True))
        answers = await proxy.hear(2)
        assert data == passed_on(answers)
        reply = b"reply %d" % number
        await proxy.say(OK, ResponseBody(reply), ResponseBody(end_of_stream=True))
        assert [
            ResponseHeadersAnswer(),
            StreamedResponseBody(reply),
            StreamedResponseBody(b"", end_of_stream=True),
        ] == await proxy.hear(3)
        await proxy.finish()

    async def test(service: Service) -> None:
        await asyncio.gather(*(converse(service, number) for number in range(200)))
        exchanges = await service.exchanges(200)
        assert 200 == sum(each.complete for each in exchanges)
        assert (0, 0, 0) == bench.counts
        assert [] == service.errors

    run(bench, test)


def test_a_server_that_stops_closes_its_sessions() -> None:
    """The requests go on without the picker, so what they reserved is held, and then taken back."""
    bench = make_bench()

    async def test(service: Service) -> None:
        proxy = service.open()
        await proxy.say(head(end=True))
        await proxy.hear(1)
        await service.server.stop(0)
        assert (grpc.StatusCode.OK, "") == await proxy.status()
        assert (0, 1, 1) == bench.counts

    run(bench, test)


def test_the_path_of_the_service() -> None:
    """As Envoy calls it."""
    assert ["/envoy.service.ext_proc.v3.ExternalProcessor/Process"] == list(extproc_routes(make_bench().processor))
    assert GrpcServer(extproc_routes(make_bench().processor)).statistics().streams == 0
