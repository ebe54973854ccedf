"""Requests of which very many are late, or let go of, at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import MappingProxyType

from inferencepool.adapters.extproc import ImmediateResponse
from inferencepool.runtime.extproc import extproc_routes
from inferencepool.runtime.grpc import Call, Closure, Reason, Status
from inferencepool.testing import ManualClock
from tests.adapters.extproc.oracle import parse_response, to_answer
from tests.adapters.extproc.sessions import FULL, Bench, head, make_bench
from tests.patience import PATIENCE
from tests.runtime.extproc.serving import PATH, written

MANY = 500
AT_ONCE = 64


class Sent:
    """A stream that keeps what is sent."""

    headers = MappingProxyType[str, str]({})

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.ends: list[Status] = []

    def send(self, *messages: bytes) -> None:
        """Keep *messages*."""
        self.messages += messages

    def hold(self, size: int) -> bool:
        """Find room for all."""
        return size >= 0

    def end(self, status: Status = Status.OK, text: str = "") -> None:  # noqa: ARG002 - a protocol
        """Keep the status."""
        self.ends.append(status)

    def fail(self, error: Exception) -> None:
        """Fail the test."""
        raise error


class CountingClock:
    """Counts how often it is looked at."""

    def __init__(self) -> None:
        self.looks = 0
        self._clock = ManualClock()
        self.advance = self._clock.advance

    def __call__(self) -> float:
        """Give the time."""
        self.looks += 1
        return self._clock()


def opened(bench: Bench) -> tuple[list[Sent], list[Call]]:
    """Begin very many requests."""
    streams = [Sent() for _ in range(MANY)]
    route = extproc_routes(bench.processor)[PATH]
    return streams, [route(stream) for stream in streams]


async def most_at_once(count: Callable[[], int], goal: int) -> int:
    """Wait until *count* gives *goal*; give by how much it changed most in one round of the event loop."""
    most, before = 0, count()
    async with asyncio.timeout(PATIENCE):
        while before != goal:
            await asyncio.sleep(0)
            now = count()
            most, before = max(most, abs(now - before)), now
    return most


def test_requests_that_are_late_at_once_are_refused_in_turns() -> None:
    """Some at each turn of the event loop, and none twice."""

    async def main() -> None:
        clock = CountingClock()
        bench = make_bench(clock=clock, request_timeout=0.02)
        streams, calls = opened(bench)
        for call in calls:
            call.message(written(head(FULL)))
        clock.advance(0.05)
        assert await most_at_once(lambda: sum(bool(stream.ends) for stream in streams), MANY) <= AT_ONCE
        for stream in streams:
            (answer,) = map(to_answer, map(parse_response, stream.messages))
            assert isinstance(answer, ImmediateResponse)
            assert 408 == answer.status
            assert [Status.OK] == stream.ends
        for call in calls:
            call.closed(Closure(Reason.ENDED))
        assert (0, 0, 0) == bench.counts

    asyncio.run(main())


def test_requests_that_are_not_late_are_left_alone() -> None:
    """However many wait, a look at those that are late costs nothing for them."""

    async def main() -> None:
        clock = CountingClock()
        bench = make_bench(clock=clock, request_timeout=0.02)
        streams, calls = opened(bench)
        for call in calls:
            call.message(written(head(FULL)))
        clock.advance(0.01)
        before = clock.looks
        async with asyncio.timeout(PATIENCE):
            while clock.looks < before + 5:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
        assert clock.looks < before + MANY // 2
        assert not any(stream.ends for stream in streams)
        for call in calls:
            call.closed(Closure(Reason.RESET))

    asyncio.run(main())


def test_load_that_is_due_at_once_is_taken_back_in_turns() -> None:
    """As after a gateway's restart: some of it at each turn of the event loop."""

    async def main() -> None:
        clock = ManualClock()
        bench = make_bench(clock=clock, hold=0.02)
        _, calls = opened(bench)
        for call in calls:
            call.message(written(head(end=True)))
            call.closed(Closure(Reason.LOST))
        assert (0, MANY, MANY) == bench.counts
        clock.advance(1)
        assert await most_at_once(lambda: bench.in_flight, 0) <= AT_ONCE
        assert (0, 0, 0) == bench.counts

    asyncio.run(main())
