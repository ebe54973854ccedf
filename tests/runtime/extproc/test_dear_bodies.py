"""A request whose body takes long to read is read between the others, on our own server and on one of grpcio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import grpc.aio  # type: ignore[import-untyped]  # grpcio ships no types
import pytest

from inferencepool.adapters.bodies import BodyParsers, Budget, ParsedBody, Route, Steps, default_parsers, finished
from inferencepool.adapters.extproc import RequestBody, RequestHeadersAnswer
from inferencepool.runtime.extproc import extproc_routes
from tests.adapters.extproc.sessions import Bench, body, head, make_bench
from tests.patience import PATIENCE
from tests.runtime.aio.both_servers import SERVERS, serving
from tests.runtime.extproc.serving import PATH, Proxy


class Patient:
    """Reads its bodies until it is told that it is enough."""

    name = "patient-parser"
    claims = ("slow",)

    def __init__(self) -> None:
        self.budgets: list[Budget] = []
        self.steps: list[int] = []
        self.enough = False
        self.error: Exception | None = None

    def has_begun(self, number: int) -> bool:
        """Tell whether the body of that number is being read."""
        return len(self.budgets) > number

    def parse(self, body: bytes, route: Route) -> ParsedBody:
        """Read at once."""
        return finished(self.read(body, route, Budget()))

    def read(self, body: bytes, route: Route, budget: Budget) -> Steps[ParsedBody]:  # noqa: ARG002 - a parser
        """Read in steps."""
        number = len(self.budgets)
        self.budgets.append(budget)
        while not self.enough:
            self.steps.append(number)
            yield
        if self.error is not None:
            raise self.error
        return ParsedBody(model="llama")


def make_patient() -> tuple[Bench, Patient]:
    """Make a processor whose clock moves, with a patient parser."""
    bench, patient = make_bench(), Patient()
    bench.processor.parsers = BodyParsers([patient, *default_parsers()])
    return bench, patient


async def until(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nobody tells when it does
            await asyncio.sleep(0.001)


async def begin(channel: grpc.aio.Channel, patient: Patient, count: int = 1) -> list[Proxy]:
    """Send *count* requests that take long, one after another; wait until all are being read."""
    proxies = []
    for number in range(count):
        proxy = Proxy(channel.stream_stream(PATH)(timeout=PATIENCE))
        await proxy.say(head(path="/slow"), RequestBody(bytes(20_000), end_of_stream=True))
        await until(partial(patient.has_begun, number))
        proxies.append(proxy)
    return proxies


async def ask(channel: grpc.aio.Channel) -> None:
    """Have a request answered that is cheap to read."""
    proxy = Proxy(channel.stream_stream(PATH)(timeout=PATIENCE))
    await proxy.say(head(), RequestBody(body(), end_of_stream=True))
    (answer, _) = await proxy.hear(2)
    assert isinstance(answer, RequestHeadersAnswer)
    await proxy.finish()


@pytest.mark.parametrize("server", SERVERS)
def test_others_are_answered_in_between(server: str) -> None:
    """Requests that come behind a dear one are answered while that is read; it is answered when that is over."""

    async def main() -> None:
        bench, patient = make_patient()
        async with serving(server, extproc_routes(bench.processor)) as channel:
            (dear,) = await begin(channel, patient)
            for _ in range(3):
                await ask(channel)
            patient.enough = True
            (answer, _) = await dear.hear(2)
            await dear.finish()

        assert isinstance(answer, RequestHeadersAnswer)
        assert answer.routing.destination
        assert bench.counts == (0, 0, 0)

    asyncio.run(main())


@pytest.mark.parametrize("server", SERVERS)
def test_a_half_close_waits_for_the_answer(server: str) -> None:
    """A client that ends its side at once gets its answer all the same."""

    async def main() -> None:
        bench, patient = make_patient()
        async with serving(server, extproc_routes(bench.processor)) as channel:
            (dear,) = await begin(channel, patient)
            await dear.call.done_writing()
            await ask(channel)
            patient.enough = True
            assert 2 == len(await dear.hear(2))
            assert (grpc.StatusCode.OK, "") == await dear.status()

        assert bench.counts == (0, 0, 0)

    asyncio.run(main())


@pytest.mark.parametrize("server", SERVERS)
def test_a_failure_between_other_work(server: str) -> None:
    """What is raised while a request is read between others ends its RPC alone, and is told."""

    async def main() -> None:
        bench, patient = make_patient()
        patient.error = ZeroDivisionError("of a parser")
        told: list[Exception] = []
        async with serving(server, extproc_routes(bench.processor), on_error=told.append) as channel:
            (dear,) = await begin(channel, patient)
            patient.enough = True
            code, _ = await dear.status()
            await ask(channel)

        assert grpc.StatusCode.INTERNAL == code
        assert [patient.error] == told
        assert bench.counts == (0, 0, 0)

    asyncio.run(main())


@pytest.mark.parametrize("server", SERVERS)
def test_a_client_that_goes_away(server: str) -> None:
    """The request of a client that is gone is read no further."""

    async def main() -> None:
        bench, patient = make_patient()
        async with serving(server, extproc_routes(bench.processor)) as channel:
            (dear,) = await begin(channel, patient)
            dear.call.cancel()
            await until(lambda: not bench.processor.statistics().sessions)
            count = len(patient.steps)
            await ask(channel)
            assert count == len(patient.steps)

    asyncio.run(main())


def test_few_take_turns_and_many_lose_their_prompt() -> None:
    """The oldest four go on, the others wait; the 33rd and those behind it are read without their prompt."""

    async def main() -> None:
        bench, patient = make_patient()
        async with serving("own", extproc_routes(bench.processor)) as channel:
            proxies = await begin(channel, patient, 34)
            patient.steps.clear()
            await until(lambda: len(patient.steps) >= 1_000)
            assert {0, 1, 2, 3} == set(patient.steps)
            assert [True] * 32 + [False] * 2 == [budget.prompt_bytes > 0 for budget in patient.budgets]
            patient.enough = True
            for proxy in proxies:
                assert 2 == len(await proxy.hear(2))
                await proxy.finish()

        assert bench.counts == (0, 0, 0)

    asyncio.run(main())
