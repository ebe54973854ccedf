"""RPCs as a client of HTTP/2 sees them, frame by frame."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from inferencepool.runtime.grpc import Closure, Limits, Reason, Status, Stream, _connection, _writer
from tests.patience import PATIENCE
from tests.runtime.grpc.peer import Peer, message, messages
from tests.runtime.grpc.serving import ECHO, SINK, Journal, Kept, ended, serving


def test_messages_come_back_and_headers_are_text() -> None:
    """The usual RPC: metadata, messages, half-close, end."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            stream = peer.open(ECHO, ("x-twice", "a"), ("x-twice", "b"), ("x-bin", "\u00ff"))
            peer.send(stream, b"one", b"", b"three", end=True)
            await peer.flush()
            await peer.over(stream)

            assert [b"one", b"", b"three"] == messages(peer.data(stream))
            assert 0 == peer.status(stream)
            assert "application/grpc" == peer.headers(stream)["content-type"]
            assert [ended()] == await journal.closed()
            assert ["message", "message", "message", "half_closed", "closed"] == journal.calls[0].events
            headers = journal.calls[0].stream.headers
            assert (ECHO, "a,b", "\u00c3\u00bf") == (headers[":path"], headers["x-twice"], headers["x-bin"])
            assert headers is journal.calls[0].stream.headers
            await peer.close()

    asyncio.run(run())


def test_answers_of_one_read_leave_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Envoy takes an end that comes later than the answers as the end of the response."""
    # On a busy machine any of them may take a turn's time.
    for module in (_connection, _writer):
        monkeypatch.setattr(module, "_TURN_SECONDS", PATIENCE)

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            await peer.settled()
            streams = [peer.open() for _ in range(20)]
            for stream in streams:
                peer.send(stream, b"x" * 100, end=True)
            await peer.flush()
            await peer.until(lambda: all(peer.ended(stream) for stream in streams))

            assert 1 == len(peer.reads)
            await peer.close()

    asyncio.run(run())


def test_what_is_sent_outside_a_read_leaves_in_one_write() -> None:
    """Messages and the end leave together, and nothing after them."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            stream = peer.open(SINK)
            await peer.flush()
            await journal.until(lambda: bool(journal.calls))
            await peer.settled()
            call = journal.calls[0]
            call.stream.send(b"a", b"b")
            call.stream.end(Status.NOT_FOUND, "kein Gerät: 100 %\n")
            call.stream.send(b"ignored")
            call.stream.end()
            await peer.over(stream)

            assert 1 == len(peer.reads)
            assert [b"a", b"b"] == messages(peer.data(stream))
            assert 5 == peer.status(stream)
            assert "kein Ger%C3%A4t: 100 %25%0A" == peer.headers(stream)["grpc-message"]
            assert [ended(Status.NOT_FOUND)] == await journal.closed()
            call.stream.send(b"ignored")
            call.stream.end()
            await peer.close()

    asyncio.run(run())


def test_end_before_the_client_ends_asks_it_to_stop() -> None:
    """After trailers comes a reset without error, and what is still under way is dropped without an answer."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            stream = peer.open(SINK)
            peer.send(stream, b"first")
            await peer.flush()
            await journal.until(lambda: bool(journal.calls and journal.calls[0].messages))
            journal.calls[0].stream.end()
            assert [ended()] == await journal.closed()
            # The client has read nothing of that yet.
            for _ in range(50):
                peer.h2.send_data(stream, bytes(1000))
            peer.h2.end_stream(stream)
            other = peer.open()
            peer.send(other, b"other", end=True)
            await peer.flush()
            await peer.over(other)

            assert 0 == peer.status(stream)
            assert peer.ended(stream)
            assert [b"first"] == journal.calls[0].messages
            assert [b"other"] == messages(peer.data(other))
            assert [] == peer.gone()
            wire = b"".join(peer.reads)
            reset = b"\0\0\4\3\0" + stream.to_bytes(4, "big")
            assert 1 == wire.count(reset)
            assert reset + bytes(4) in wire
            await peer.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("prepare", "events", "closure"),
    [
        (lambda p, s: p.h2.reset_stream(s, ErrorCodes.CANCEL), [], Closure(Reason.RESET, code=8)),
        (
            lambda p, s: (p.h2.end_stream(s), p.h2.reset_stream(s, ErrorCodes.INTERNAL_ERROR)),
            ["half_closed"],
            Closure(Reason.RESET, code=2),
        ),
        (
            lambda p, s: (p.send(s, b"x", end=True), p.h2.reset_stream(s, 77)),
            ["message", "half_closed"],
            Closure(Reason.RESET, code=77),
        ),
    ],
)
@pytest.mark.parametrize("path", [ECHO, SINK])
def test_resets_of_the_client(
    prepare: Callable[[Peer, int], object], events: list[str], closure: Closure, path: str
) -> None:
    """What Envoy says with END_STREAM and RST_STREAM in one read arrives in this order."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            prepare(peer, peer.open(path))
            await peer.flush()

            assert [closure] == await journal.closed()
            assert [*events, "closed"] == journal.calls[0].events
            await peer.close()

    asyncio.run(run())


def test_window_of_a_stream_that_was_reset_in_the_same_read_is_not_opened() -> None:
    """The library is ahead of the events that are handled."""

    async def run() -> None:
        journal = Journal()
        limits = Limits(stream_window=16384)
        async with serving(journal, limits=limits) as server:
            peer = await Peer.connect(server.port)
            await peer.settled()
            stream = peer.open(SINK)
            peer.h2.send_data(stream, message(bytes(12_000)))
            peer.h2.reset_stream(stream)
            await peer.flush()
            assert [Closure(Reason.RESET, code=0)] == await journal.closed()
            other = peer.open()
            peer.send(other, b"x", end=True)
            await peer.flush()
            await peer.over(other)
            assert 0 == peer.status(other)
            await peer.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("changes", "status", "http", "more"),
    [
        ({"pseudo_path": "/test.Service/Nothing"}, 12, "200", {}),
        ({"pseudo_path": None}, 12, "200", {}),
        ({"pseudo_method": "GET"}, None, "405", {"allow": "POST"}),
        ({"content_type": "application/json"}, None, "415", {}),
        ({"content_type": "application/grpcx"}, None, "415", {}),
        ({"content_type": None}, None, "415", {}),
        ({"grpc_encoding": "snappy"}, 12, "200", {"grpc-accept-encoding": "identity,gzip"}),
        ({"grpc_timeout": "soon"}, 13, "200", {}),
        ({"grpc_timeout": "123456789S"}, 13, "200", {}),
        ({"grpc_timeout": "1"}, 13, "200", {}),
        ({"grpc_timeout": "0n"}, 4, "200", {}),
    ],
)
def test_requests_that_cannot_be_served(
    changes: dict[str, str | None], status: int | None, http: str, more: dict[str, str]
) -> None:
    """Each kind of unusable request gets the answer that gRPC or HTTP has for it."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            stream = peer.open(SINK, end=True, **changes)
            await peer.flush()
            await peer.over(stream)

            headers = peer.headers(stream)
            assert (status, http) == (peer.status(stream), headers[":status"])
            assert more.items() <= headers.items()
            await peer.close()

    asyncio.run(run())


@pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc+proto", "application/grpc;charset=x"])
def test_kinds_of_grpc(content_type: str) -> None:
    """The content type may name a format."""

    async def run() -> None:
        async with serving(Journal()) as server:
            peer = await Peer.connect(server.port)
            stream = peer.open(content_type=content_type, end=True)
            await peer.flush()
            await peer.over(stream)
            assert 0 == peer.status(stream)
            await peer.close()

    asyncio.run(run())


def test_compressed_messages() -> None:
    """Gzip is read within the limit; anything else that is marked as compressed is refused."""

    async def run() -> None:
        async with serving(Journal(), limits=Limits(message_bytes=100_000)) as server:
            peer = await Peer.connect(server.port)
            good = peer.open(grpc_encoding="gzip")
            peer.h2.send_data(good, message(gzip.compress(b"abc" * 20_000), 1) + message(b"plain"), end_stream=True)
            bomb = peer.open(grpc_encoding="gzip")
            peer.h2.send_data(bomb, message(gzip.compress(bytes(1_000_000)), 1), end_stream=True)
            wrong = peer.open(grpc_encoding="gzip")
            peer.h2.send_data(wrong, message(b"no gzip", 1), end_stream=True)
            cut = peer.open(grpc_encoding="gzip")
            peer.h2.send_data(cut, message(gzip.compress(b"abc")[:-3], 1), end_stream=True)
            unannounced = peer.open()
            peer.h2.send_data(unannounced, message(gzip.compress(b"abc"), 1), end_stream=True)
            flag = peer.open()
            peer.h2.send_data(flag, b"\2\0\0\0\1")
            await peer.flush()
            for stream in (good, bomb, wrong, cut, unannounced, flag):
                await peer.over(stream)

            assert [b"abc" * 20_000, b"plain"] == messages(peer.data(good))
            assert [0, 8, 13, 13, 13, 13] == [peer.status(s) for s in (good, bomb, wrong, cut, unannounced, flag)]
            await peer.close()

    asyncio.run(run())


def test_messages_that_are_too_large_or_not_whole() -> None:
    """Size is limited for each message and for all parts together."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=Limits(message_bytes=1000, partial_bytes=1000)) as server:
            peer = await Peer.connect(server.port)
            large = peer.open(SINK)
            peer.h2.send_data(large, message(b"before") + message(bytes(1001))[:20])
            cut = peer.open(SINK)
            peer.h2.send_data(cut, message(b"before") + b"\0\0\0\0\3ab", end_stream=True)
            await peer.flush()
            await peer.over(large)
            await peer.over(cut)
            assert [8, 13] == [peer.status(large), peer.status(cut)]
            assert [[b"before"], [b"before"]] == [call.messages for call in journal.calls]

            # Two messages in part are together too large.
            first, second = peer.open(SINK), peer.open(SINK)
            peer.h2.send_data(first, message(bytes(900))[:600])
            peer.h2.send_data(second, message(bytes(900))[:600])
            await peer.flush()
            await peer.over(second)
            assert 8 == peer.status(second)
            assert 600 == server.statistics().partial_bytes
            peer.h2.send_data(first, message(bytes(900))[600:])
            await peer.flush()
            await journal.until(lambda: [bytes(900)] == journal.calls[2].messages)
            await peer.close()

    asyncio.run(run())


class Failing(Kept):
    """Fails where the first message, or the lack of any, tells it to."""

    def message(self, data: bytes) -> None:
        """Fail if told so."""
        super().message(data)
        if data == b"fail":
            raise KeyError(data)

    def half_closed(self) -> None:
        """Fail without a message."""
        super().half_closed()
        if not self.messages:
            raise OSError

    def closed(self, closure: Closure) -> None:
        """Fail at the end if told so."""
        super().closed(closure)
        if self.messages == [b"at the end"]:
            raise ArithmeticError


def test_failing_calls_end_their_rpc_alone() -> None:
    """An exception ends one RPC with INTERNAL, and is reported."""

    async def run() -> None:
        def no_call(_: Stream) -> Kept:
            raise LookupError

        journal = Journal()
        errors: list[Exception] = []
        routes = {"/x/Fail": journal.keep(Failing), "/x/None": no_call}
        async with serving(journal, routes, errors=errors) as server:
            peer = await Peer.connect(server.port)
            streams = [peer.open("/x/Fail"), peer.open("/x/Fail"), peer.open("/x/Fail"), peer.open("/x/None")]
            peer.send(streams[0], b"fail", b"never delivered")
            peer.h2.end_stream(streams[1])
            peer.send(streams[2], b"at the end")
            peer.h2.reset_stream(streams[2])
            peer.send(streams[3], b"for nobody", end=True)
            await peer.flush()
            for stream in (streams[0], streams[1], streams[3]):
                await peer.over(stream)

            assert [13, 13, 13] == [peer.status(stream) for stream in (streams[0], streams[1], streams[3])]
            assert "the server failed: KeyError" == peer.headers(streams[0])["grpc-message"]
            other = peer.open()
            peer.send(other, b"x", end=True)
            await peer.flush()
            await peer.over(other)
            assert 0 == peer.status(other)
            assert [b"fail"] == journal.calls[0].messages
            await peer.close()
        assert [LookupError, KeyError, OSError, ArithmeticError] == [type(error) for error in errors]

    asyncio.run(run())


class Late(Kept):
    """Ends at the first message, without waiting for more."""

    def message(self, data: bytes) -> None:
        """Answer and end."""
        super().message(data)
        self.stream.send(data)
        self.stream.end()


def test_nothing_is_delivered_after_the_end() -> None:
    """Messages after the end are dropped; the half-close is told all the same."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, {"/x/Late": journal.keep(Late)}) as server:
            peer = await Peer.connect(server.port)
            stream = peer.open("/x/Late")
            peer.send(stream, b"one", b"two")
            peer.send(stream, b"three", end=True)
            await peer.flush()
            await peer.over(stream)
            assert [b"one"] == messages(peer.data(stream))
            await journal.closed()
            assert ["message", "half_closed", "closed"] == journal.calls[0].events
            await peer.close()

    asyncio.run(run())


def test_deadline_drops_what_waits() -> None:
    """The deadline holds also for an RPC whose answer the client does not take."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port, settings={SettingCodes.INITIAL_WINDOW_SIZE: 10})
            peer.opens_windows = False
            ended_stream = peer.open(ECHO, grpc_timeout="50m")
            peer.send(ended_stream, b"x" * 100, end=True)
            await peer.flush()
            await peer.over(ended_stream)

            # The call had ended with OK, but the client did not take its answer: it must not look whole.
            assert 4 == peer.status(ended_stream)
            assert 10 == len(peer.data(ended_stream))
            assert [ended(Status.DEADLINE_EXCEEDED)] == await journal.closed()
            await peer.close()

    asyncio.run(run())


def test_more_streams_than_allowed_are_refused() -> None:
    """One RPC too many is refused so that the client may try again; the others stay."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal, limits=Limits(streams=2)) as server:
            peer = await Peer.connect(server.port)
            streams = [peer.open(SINK) for _ in range(3)]
            gone = peer.open(SINK)
            peer.h2.reset_stream(gone)
            await peer.flush()
            await peer.over(streams[2])

            assert ErrorCodes.REFUSED_STREAM == peer.reset(streams[2])
            assert 2 == server.statistics().streams_refused
            assert 2 == len(journal.calls)
            await peer.close()
            assert [Closure(Reason.LOST), Closure(Reason.LOST)] == await journal.closed(2)

    asyncio.run(run())


def test_many_short_rpcs_on_one_connection() -> None:
    """What h2 remembers of old streams is dropped; the counts stay right."""

    async def run() -> None:
        journal = Journal()
        async with serving(journal) as server:
            peer = await Peer.connect(server.port)
            kept = peer.open(SINK)
            for _ in range(10):
                streams = [peer.open() for _ in range(50)]
                for stream in streams:
                    peer.send(stream, b"x", end=True)
                await peer.flush()
                await peer.until(lambda: all(peer.ended(stream) for stream in streams))  # noqa: B023 - used at once
            assert (1, 501, 1) == (
                server.statistics().streams,
                server.statistics().streams_total,
                server.statistics().connections_total,
            )
            peer.h2.end_stream(kept)
            await peer.close()

    asyncio.run(run())
