"""What a call is told and what a client gets: the same on our own server and on one of grpcio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import grpc.aio  # type: ignore[import-untyped]  # grpcio ships no types
import pytest

from inferencepool.runtime.grpc import Call, Closure, Reason, Status, Stream
from tests.patience import PATIENCE
from tests.runtime.aio.both_servers import SERVERS, Recorder, Recording, serving

PATH = "/tests.Service/Method"
EOF = grpc.aio.EOF


def talk(server: str, factory: Any, conversation: Callable[[Any], Awaitable[None]], **options: Any) -> None:
    """Serve *factory* and run *conversation* with a channel to it."""

    async def run() -> None:
        async with serving(server, {PATH: factory}, **options) as channel:
            await asyncio.wait_for(conversation(channel), PATIENCE)

    asyncio.run(run())


def echo(stream: Stream, what: object) -> None:
    """Send every message back, and end when the client does."""
    if isinstance(what, bytes):
        stream.send(what)
    else:
        stream.end()


async def read_all(client: Any) -> list[bytes]:
    """Read until the end, whatever the status."""
    messages = []
    # grpcio raises at an end with another status than OK, and gives EOF otherwise.
    with suppress(grpc.aio.AioRpcError):
        while (message := await client.read()) is not EOF:
            messages.append(message)
    return messages


class Failing:
    """A call that raises at one place, or while it is made."""

    def __init__(self, stream: Stream, where: str) -> None:
        self._stream = stream
        self._where = where
        self._fail("factory")

    def message(self, data: bytes) -> None:
        """Send back, then fail."""
        self._stream.send(data)
        self._fail("message")

    def half_closed(self) -> None:
        """Fail, or end."""
        self._fail("half_closed")
        self._stream.end()

    def closed(self, closure: Closure) -> None:
        """Fail, or not."""
        assert closure.reason is Reason.ENDED
        self._fail("closed")

    def _fail(self, here: str) -> None:
        if here == self._where:
            raise LookupError(here)


@pytest.mark.parametrize("server", SERVERS)
def test_messages_arrive_whole_and_in_order_then_the_half_close(server: str) -> None:
    """Empty, small and large messages; the end is told last, and with its status."""
    messages = [b"", b"a", b"b" * 100_000, b"", b"c" * 3_000_000]
    recorder = Recorder(echo)

    async def conversation(channel: Any) -> None:
        client = channel.stream_stream(PATH)()
        for message in messages:
            await client.write(message)
            assert await client.read() == message
        await client.done_writing()
        assert await client.read() is EOF
        assert await client.code() == grpc.StatusCode.OK
        call = await recorder.calls.get()
        await call.is_closed.wait()
        assert call.told == [*messages, "half-closed", "closed"]
        assert call.closure == Closure(Reason.ENDED, status=Status.OK)

    talk(server, recorder, conversation)


@pytest.mark.parametrize("server", SERVERS)
def test_several_messages_of_one_send_keep_their_order(server: str) -> None:
    """What is sent before the end arrives before it; what is sent after it does not."""

    def answer(stream: Stream, what: object) -> None:
        if isinstance(what, bytes):
            stream.send(b"1", b"2")
            stream.send()
            stream.send(b"3")
            stream.end(Status.NOT_FOUND, "näh, 100 %\n")
            stream.end(Status.OK)
            stream.send(b"4")

    recorder = Recorder(answer)

    async def conversation(channel: Any) -> None:
        client = channel.stream_stream(PATH)()
        await client.write(b"go")
        assert await read_all(client) == [b"1", b"2", b"3"]
        assert await client.code() == grpc.StatusCode.NOT_FOUND
        assert await client.details() == "näh, 100 %\n"
        call = await recorder.calls.get()
        await call.is_closed.wait()
        assert call.closure == Closure(Reason.ENDED, status=Status.NOT_FOUND)
        call.stream.send(b"5")
        call.stream.end()
        assert call.told[0] == b"go"
        assert call.told[-1] == "closed"
        assert call.told.count("closed") == 1

    talk(server, recorder, conversation)


@pytest.mark.parametrize("server", SERVERS)
def test_a_call_may_end_before_it_is_told_anything(server: str) -> None:
    """A factory sends and ends, and returns the call afterwards."""

    class Early:
        def __init__(self, stream: Stream) -> None:
            stream.send(b"early")
            stream.end(Status.UNAVAILABLE, "x" * 5000)

        def message(self, data: bytes) -> None:
            raise AssertionError(data)

        def half_closed(self) -> None:
            """May come."""

        def closed(self, closure: Closure) -> None:
            closures.put_nowait(closure)

    closures: asyncio.Queue[Closure] = asyncio.Queue()

    async def conversation(channel: Any) -> None:
        client = channel.stream_stream(PATH)()
        assert await read_all(client) == [b"early"]
        assert await client.code() == grpc.StatusCode.UNAVAILABLE
        assert await client.details() == "x" * 1024
        assert await closures.get() == Closure(Reason.ENDED, status=Status.UNAVAILABLE)

    talk(server, Early, conversation)


@pytest.mark.parametrize("server", SERVERS)
def test_a_reset_is_told_and_no_half_close(server: str) -> None:
    """A client that cancels has not finished."""
    recorder = Recorder(echo)

    async def conversation(channel: Any) -> None:
        clients = [channel.stream_stream(PATH)() for _ in range(20)]
        for client in clients:
            await client.write(b"x")
            assert await client.read() == b"x"
        for client in clients:
            client.cancel()
        for _ in clients:
            call = await recorder.calls.get()
            await call.is_closed.wait()
            assert call.told == [b"x", "closed"]
            assert call.closure is not None
            assert call.closure.reason is Reason.RESET

    talk(server, recorder, conversation)


@pytest.mark.parametrize("server", SERVERS)
def test_a_half_close_before_a_reset_is_told(server: str) -> None:
    """A client that ends its side and cancels later had finished."""
    finished = asyncio.Event()

    def answer(_stream: Stream, what: object) -> None:
        if what == "half-closed":
            finished.set()

    recorder = Recorder(answer)

    async def conversation(channel: Any) -> None:
        client = channel.stream_stream(PATH)()
        await client.write(b"x")
        await client.done_writing()
        await finished.wait()
        client.cancel()
        call = await recorder.calls.get()
        await call.is_closed.wait()
        assert call.told == [b"x", "half-closed", "closed"]
        assert call.closure is not None
        assert call.closure.reason is Reason.RESET

    talk(server, recorder, conversation)


@pytest.mark.parametrize("server", SERVERS)
def test_a_client_may_send_all_before_it_reads(server: str) -> None:
    """Reading and writing go on side by side."""
    recorder = Recorder(echo)
    messages = [bytes([number]) * 10_000 for number in range(200)]

    async def conversation(channel: Any) -> None:
        client = channel.stream_stream(PATH)()
        for message in messages:
            await client.write(message)
        await client.done_writing()
        assert await read_all(client) == messages
        assert await client.code() == grpc.StatusCode.OK

    talk(server, recorder, conversation)


@pytest.mark.parametrize("server", SERVERS)
def test_answers_may_come_at_any_time(server: str) -> None:
    """A call that was told nothing for a while sends all the same."""
    recorder = Recorder()

    async def conversation(channel: Any) -> None:
        client = channel.stream_stream(PATH)()
        await client.write(b"x")
        call = await recorder.calls.get()
        for number in range(5):
            call.stream.send(b"%d" % number)
            assert await client.read() == b"%d" % number
        call.stream.end()
        assert await client.read() is EOF
        assert await client.code() == grpc.StatusCode.OK

    talk(server, recorder, conversation)


@pytest.mark.parametrize("server", SERVERS)
def test_answers_that_nobody_reads_are_given_up(server: str) -> None:
    """Beyond the limit the RPC is over, and takes nothing more."""

    def flood(stream: Stream, what: object) -> None:
        if isinstance(what, bytes):
            for _ in range(40):
                stream.send(b"x" * 1_000_000)

    recorder = Recorder(flood)

    async def conversation(channel: Any) -> None:
        client = channel.stream_stream(PATH)()
        await client.write(b"go")
        call = await recorder.calls.get()
        await call.is_closed.wait()
        assert call.closure == Closure(Reason.OVERFLOW)
        call.stream.send(b"more")
        call.stream.end()
        assert len(await read_all(client)) < 40
        assert await client.code() != grpc.StatusCode.OK
        assert call.told.count("closed") == 1

    talk(server, recorder, conversation, queued_bytes=20_000_000)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("where", ["factory", "message", "half_closed", "closed"])
def test_what_a_call_raises_ends_it_and_is_reported(server: str, where: str) -> None:
    """The client gets INTERNAL without the text of the error, and other RPCs go on."""
    errors: asyncio.Queue[Exception] = asyncio.Queue()

    async def conversation(channel: Any) -> None:
        for _ in range(2):
            client = channel.stream_stream(PATH)()
            if where != "factory":
                await client.write(b"x")
                assert await client.read() == b"x"
            if where in {"half_closed", "closed"}:
                await client.done_writing()
            assert await read_all(client) == []
            failed = (grpc.StatusCode.INTERNAL, "the server failed: LookupError")
            assert (await client.code(), await client.details()) == (
                (grpc.StatusCode.OK, "") if where == "closed" else failed
            )
            assert repr(await errors.get()) == f"LookupError('{where}')"
        assert errors.empty()

    talk(server, partial(Failing, where=where), conversation, on_error=errors.put_nowait)


@pytest.mark.parametrize("server", SERVERS)
def test_errors_are_logged_if_nobody_asks_for_them(server: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without `on_error` nothing is lost."""

    def fail(_stream: Stream) -> Call:
        raise LookupError(PATH)

    async def conversation(channel: Any) -> None:
        assert await read_all(channel.stream_stream(PATH)()) == []

    with caplog.at_level(logging.ERROR, "inferencepool"):
        talk(server, fail, conversation)
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == [PATH]


@pytest.mark.parametrize("server", SERVERS)
def test_headers_are_text(server: str) -> None:
    """Repeated names are joined, and bytes stay in base64."""
    recorder = Recorder(echo)
    metadata = (("x-one", "1"), ("x-two", "a"), ("x-two", "b"), ("x-bytes-bin", b"\0\xff~"))

    async def conversation(channel: Any) -> None:
        client = channel.stream_stream(PATH)(metadata=metadata)
        await client.done_writing()
        assert await client.read() is EOF
        headers = (await recorder.calls.get()).stream.headers
        assert {name: headers[name] for name in ("x-one", "x-two", "x-bytes-bin", ":path", ":method")} == {
            "x-one": "1",
            "x-two": "a,b",
            "x-bytes-bin": "AP9+",
            ":path": PATH,
            ":method": "POST",
        }
        assert headers["user-agent"].startswith("grpc-python")

    talk(server, recorder, conversation)


@pytest.mark.parametrize("server", SERVERS)
def test_a_path_without_route_is_unimplemented(server: str) -> None:
    """Unknown methods are refused, and known ones served."""
    recorder = Recorder(echo)

    async def conversation(channel: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/tests.Service/Other")(b"x")
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert recorder.calls.empty()
        assert await channel.unary_unary(PATH)(b"x") == b"x"

    talk(server, recorder, conversation)


@pytest.mark.parametrize("server", SERVERS)
def test_many_at_once_do_not_mix(server: str) -> None:
    """Each of 100 RPCs gets its own answers."""
    recorder = Recorder(echo)

    async def one(channel: Any, number: int) -> None:
        client = channel.stream_stream(PATH)()
        for index in range(10):
            await client.write(b"%d-%d" % (number, index))
            assert await client.read() == b"%d-%d" % (number, index)
        await client.done_writing()
        assert await client.read() is EOF

    async def conversation(channel: Any) -> None:
        await asyncio.gather(*(one(channel, number) for number in range(100)))
        calls: list[Recording] = [await recorder.calls.get() for _ in range(100)]
        for call in calls:
            await call.is_closed.wait()
        assert {call.told.count("closed") for call in calls} == {1}

    talk(server, recorder, conversation)


@pytest.mark.parametrize("server", SERVERS)
def test_a_deadline_ends_the_call(server: str) -> None:
    """The client gets DEADLINE_EXCEEDED, and the call is told that it is over."""
    recorder = Recorder()

    async def conversation(channel: Any) -> None:
        # Where the machine is so busy that the time is up before the server has read the message, with more of it.
        for seconds in (0.2, 2, 20):
            client = channel.stream_stream(PATH)(timeout=seconds)
            with suppress(grpc.aio.AioRpcError):
                await client.write(b"x")
            assert await client.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            while not recorder.calls.empty():
                call = await recorder.calls.get()
                await call.is_closed.wait()
                if call.told == [b"x", "closed"]:
                    return
        raise AssertionError(recorder)

    talk(server, recorder, conversation)
