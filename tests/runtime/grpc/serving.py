"""A server with calls that keep a journal, and a check that nothing is left behind."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from inferencepool.runtime.grpc import Call, CallFactory, Closure, GrpcServer, Limits, Reason, Status, Stream
from tests.patience import PATIENCE

ECHO = "/test.Service/Echo"
SINK = "/test.Service/Sink"
LOOPBACK = "127.0.0.1"


class Kept:
    """A call that notes everything, and does nothing."""

    def __init__(self, journal: Journal, stream: Stream) -> None:
        self.stream = stream
        self.messages: list[bytes] = []
        self.events: list[str] = []
        self.closures: list[Closure] = []
        self._journal = journal

    def message(self, data: bytes) -> None:
        """Note a message."""
        self.messages.append(data)
        self.events.append("message")
        self._journal.changed()

    def half_closed(self) -> None:
        """Note that the client sends no more."""
        self.events.append("half_closed")
        self._journal.changed()

    def closed(self, closure: Closure) -> None:
        """Note the end."""
        self.events.append("closed")
        self.closures.append(closure)
        self._journal.changed()


class Echo(Kept):
    """Answers every message with itself, and ends when the client does."""

    def message(self, data: bytes) -> None:
        """Answer with the same."""
        super().message(data)
        self.stream.send(data)

    def half_closed(self) -> None:
        """End, as the client did."""
        super().half_closed()
        self.stream.end()


class Journal:
    """All calls of a server, in the order of their start."""

    def __init__(self) -> None:
        self.calls: list[Kept] = []
        self._news = asyncio.Event()

    def keep(self, kind: Callable[[Journal, Stream], Kept]) -> CallFactory:
        """Make a factory of calls of this *kind*."""

        def make(stream: Stream) -> Call:
            call = kind(self, stream)
            self.calls.append(call)
            self.changed()
            return call

        return make

    def changed(self) -> None:
        """Wake who waits."""
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds after something happened to a call."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def closed(self, count: int = 1) -> list[Closure]:
        """Wait until *count* calls are over; give how they ended."""
        await self.until(lambda: sum(bool(call.closures) for call in self.calls) >= count)
        return [closure for call in self.calls for closure in call.closures]


@asynccontextmanager
async def serving(
    journal: Journal,
    routes: Mapping[str, CallFactory] | None = None,
    *,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    host: str = LOOPBACK,
    errors: list[Exception] | None = None,
) -> AsyncIterator[GrpcServer]:
    """Start a server; at the end stop it, and see that nothing is left and every call was closed once."""
    failures: list[Exception] = [] if errors is None else errors
    own = {ECHO: journal.keep(Echo), SINK: journal.keep(Kept)}
    server = GrpcServer(own | dict(routes or {}), limits=limits, on_error=failures.append)
    await server.start(host, 0, tls=tls)
    try:
        yield server
    finally:
        async with asyncio.timeout(PATIENCE):
            await server.stop(0)
    statistics = server.statistics()
    assert (0, 0, 0, 0) == (
        statistics.connections,
        statistics.streams,
        statistics.partial_bytes,
        statistics.queued_bytes,
    )
    assert all(len(call.closures) == 1 and call.events[-1] == "closed" for call in journal.calls)
    assert [] == [task for task in asyncio.all_tasks() if "inferencepool" in repr(task.get_coro())]
    # Who expects errors looks at them.
    assert failures == [] or errors is not None


def ended(status: Status = Status.OK) -> Closure:
    """Give the closure of a call that was ended with *status*."""
    return Closure(Reason.ENDED, status=status)
