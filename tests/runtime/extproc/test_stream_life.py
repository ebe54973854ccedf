"""Streams that live as long as their gateway needs them, and what becomes of the load of those that tell no end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import pytest

from inferencepool import SchedulingProfile
from inferencepool.adapters.extproc import (
    RequestBody,
    RequestHeaders,
    RequestHeadersAnswer,
    ResponseBody,
    ResponseHeaders,
    ResponseHeadersAnswer,
    StreamedRequestBody,
    StreamedResponseBody,
)
from inferencepool.plugins import TokenLoadScorer
from tests.adapters.extproc.sessions import FULL, NONE, Bench, body, head, make_bench, routing_of
from tests.patience import PATIENCE
from tests.runtime.extproc.serving import PATH, Service, serving, written
from tests.runtime.grpc.peer import Peer, messages

DATA = body()
OK = ResponseHeaders({":status": "200"})
COUNT_TOKENS = "/v1/messages/count_tokens"
# What NGINX Gateway Fabric sends: no pseudo headers, no modes, one body.
ASKED = RequestHeaders({"content-type": "application/json"})


def run(bench: Bench, test: Callable[[Service], Awaitable[None]]) -> None:
    """Run *test* while the processor of *bench* is served."""

    async def main() -> None:
        async with serving(bench) as service:
            await test(service)

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/v1/completions", COUNT_TOKENS])
def test_full_duplex_in_both_directions(path: str) -> None:
    """As agentgateway speaks: the stream stays, chunks come back as they were, and its end releases the load."""
    bench = make_bench(["10.0.0.1"])
    data = DATA if path != COUNT_TOKENS else body(messages=[{"role": "user", "content": "Hi"}])

    async def test(service: Service) -> None:
        proxy = service.open()
        # It does not know that the chunk is the last one.
        await proxy.say(head(FULL, FULL, path=path), RequestBody(data), RequestBody(b"", end_of_stream=True))
        first, chunk = await proxy.hear(2)
        assert isinstance(first, RequestHeadersAnswer)
        assert StreamedRequestBody(data, end_of_stream=True) == chunk
        await proxy.say(OK, ResponseBody(b"one"), ResponseBody(b"two"))
        assert [ResponseHeadersAnswer(), *map(StreamedResponseBody, (b"one", b"two"))] == await proxy.hear(3)
        assert (1, 0, 1) == bench.counts
        await proxy.say(ResponseBody(b"", end_of_stream=True))
        assert [StreamedResponseBody(b"", end_of_stream=True)] == await proxy.hear(1)
        assert (1, 0, 0) == bench.counts
        await proxy.finish()

    run(bench, test)


def test_a_burst_of_requests_that_only_ask() -> None:
    """They run on behind their half-closes, so each one sees the load of those before it."""
    bench = make_bench(profile=SchedulingProfile(scorers=[TokenLoadScorer()]))
    asked = RequestHeaders({":path": "/v1/completions"})

    async def test(service: Service) -> None:
        served: Counter[str] = Counter()
        for _ in range(30):
            proxy = service.open()
            await proxy.say(asked, RequestBody(DATA, end_of_stream=True))
            await proxy.call.done_writing()
            served[routing_of(await proxy.hear(2)).destination] += 1
            assert (grpc.StatusCode.OK, "") == await proxy.status()
        await service.exchanges(30)
        assert (0, 30, 30) == bench.counts
        assert [10, 10, 10] == list(served.values())

    run(bench, test)


def test_held_load_is_taken_back_by_a_timer() -> None:
    """Not by the next request, which may never come."""
    loop = asyncio.new_event_loop()
    bench = make_bench(["10.0.0.1"], clock=loop.time, hold=0.1)

    async def test(service: Service) -> None:
        for _ in range(3):
            proxy = service.open()
            await proxy.say(head(end=True))
            await proxy.hear(1)
            proxy.call.cancel()
        await service.exchanges(3)
        async with asyncio.timeout(PATIENCE):
            while bench.counts != (0, 0, 0):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)

    async def main() -> None:
        async with serving(bench) as service:
            await test(service)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())


class TestTheServerStops:
    """While responses are on their way."""

    @staticmethod
    async def opened(service: Service, *requests: RequestHeaders) -> tuple[Peer, list[int]]:
        """Open a stream for each, with the first chunk of a response where its body passes through."""
        peer = await Peer.connect(service.server.port)
        streams = []
        for request in requests:
            stream = peer.open(PATH)
            peer.send(stream, written(request))
            peer.send(stream, written(RequestBody(DATA, end_of_stream=True)))
            streams.append(stream)
        await peer.flush()
        for stream in streams:
            await peer.until(lambda each=stream: bool(peer.data(each)))  # type: ignore[misc]  # its type cannot be inferred
        return peer, streams

    def test_streams_end_as_their_gateways_need_it(self) -> None:
        """An error where OK would be taken for the end of the body; OK where the proxy goes on without the picker."""
        bench = make_bench(["10.0.0.1"])

        async def test(service: Service) -> None:
            requests = [head(FULL, FULL), head(FULL, FULL), head(FULL, NONE), head(FULL, FULL)]
            peer, streams = await self.opened(service, *requests)
            under_way, not_begun, without_body, over = streams
            for stream in (under_way, without_body, over):
                peer.send(stream, written(OK))
            peer.send(under_way, written(ResponseBody(b"x")))
            peer.send(over, written(ResponseBody(b"x", end_of_stream=True)))
            await peer.flush()
            async with asyncio.timeout(PATIENCE):
                while bench.in_flight > 3 or not all(map(peer.data, streams)):
                    await asyncio.sleep(0.001)
                    await peer.flush()
            await peer.until(lambda: b"x" in peer.data(under_way))
            await service.server.stop(0)
            for stream in streams:
                await peer.over(stream)
            assert [14, 0, 0, 0] == [peer.status(each) for each in (under_way, not_begun, without_body, over)]
            await peer.close()

        run(bench, test)

    def test_what_is_cut_is_held(self) -> None:
        """The request was not seen to end, and its record says so."""
        bench = make_bench(["10.0.0.1"])

        async def test(service: Service) -> None:
            peer, (stream,) = await self.opened(service, head(FULL, FULL))
            peer.send(stream, written(OK))
            await peer.flush()
            await peer.until(lambda: len(messages(peer.data(stream))) > 2)
            await service.server.stop(0)
            assert [False] == [exchange.complete for exchange in await service.exchanges()]
            assert (0, 1, 1) == bench.counts
            await peer.close()

        run(bench, test)
