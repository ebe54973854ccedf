"""Chunks of a response that go back as they came take a short cut: it must come to what the session makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import product

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.extproc import (
    BodyMode,
    Exchange,
    Message,
    RequestBody,
    ResponseBody,
    ResponseHeaders,
    ResponsePhase,
    StreamedResponseBody,
    decode,
    encode,
    hand_back,
)
from inferencepool.adapters.extproc._wire import delimited
from inferencepool.errors import InvalidMessageError
from inferencepool.runtime.extproc import EXT_PROC_SERVICE, extproc_routes
from inferencepool.runtime.grpc import Closure, Reason, Status
from tests.adapters.extproc.sessions import FULL, Bench, body, head, make_bench
from tests.runtime.extproc.serving import written
from tests.strategies.extproc import wire_messages, write_varint

CHUNK_SIZE = 20_000
EVENT = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
TOLD = b'data: {"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}\n\n'
SIZES = [0, 1, 2, 126, 127, 128, 129, 16_383, 16_384, 16_385, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 70_000]
BODIES = (
    st.sampled_from([EVENT, TOLD, TOLD[:30], TOLD[30:]]) | st.sampled_from(SIZES).map(bytes) | st.binary(max_size=9)
)
# The second is read, and then known; the last two cannot be read.
TAILS = [
    b"",
    b"\x42\x00",
    delimited(0x42, delimited(0x0A, delimited(0x0A, b"envoy.lb"))),
    delimited(0x42, delimited(0x0A, delimited(0x0A, b"a" * 200))),
    delimited(0x42, delimited(0x0A, delimited(0x0A, b"a" * 600))),
    b"\x42\x00\x42\x00",
    b"\x42\x80\x00",
    b"\x4a\x00",
    b"\x78\x01",
    b"\x2a\x00",
    b"\x42\x05",
    b"\x42",
]


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    """Make a chunk of a response: mostly as proxies write it, else in some way that says the same, or says too much."""

    def field(tag: int, content: bytes) -> bytes:
        return bytes((tag,)) + write_varint(len(content), draw(st.sampled_from([0] * 12 + [1, 2]))) + content

    content = field(0x0A, draw(BODIES)) if draw(st.integers(0, 9)) else b""
    content += draw(st.sampled_from([b""] * 6 + [b"\x10\x01"] * 2 + [b"\x10\x00", b"\x10\x81\x00", b"\x18\x01"]))
    content += draw(st.sampled_from([b""] * 12 + [b"\x0a\x01x", b"\x7a\x01x"]))
    data = field(0x2A, content) + draw(st.sampled_from(TAILS[:2]) | st.sampled_from(TAILS))
    cut = draw(st.integers(0, 40))
    return data[:-cut] if 0 < cut < 4 else data


ANY = chunks() | chunks() | wire_messages() | st.sampled_from([written(ResponseBody(TOLD, end_of_stream=True))])


class Recorder:
    """A stream that keeps what is sent, and how it ends."""

    headers: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.ended: list[Status] = []

    def send(self, *messages: bytes) -> None:
        """Keep *messages*."""
        if not self.ended:
            self.sent += messages

    def hold(self, _: int) -> bool:
        """Have room."""
        return True

    def end(self, status: Status = Status.OK, text: str = "") -> None:  # noqa: ARG002 - a protocol
        """Keep *status*."""
        self.ended.append(status)

    def fail(self, error: Exception) -> None:
        """Have nothing fail."""
        raise error


def opening(response: BodyMode | None, *, headers: bool) -> list[bytes]:
    """Give what a proxy says before the response's body."""
    events = ResponseHeaders({":status": "200", "content-type": "text/event-stream"})
    said: list[Message] = [
        head(FULL if response is not None else None, response),
        RequestBody(body(), end_of_stream=True),
    ]
    return [written(message) for message in [*said, *([events] if headers else [])]]


def told(bench: Bench) -> tuple[Exchange, str]:
    """Give what became of the request, with its error as a text."""
    (exchange,) = bench.kept.exchanges
    return attrs.evolve(exchange, error=None), repr(exchange.error)


def by_call(bench: Bench, said: Sequence[bytes]) -> tuple[list[bytes], list[Status], tuple[Exchange, str]]:
    """Give the answers of a call, how it ended, and what became of the request."""

    async def run() -> tuple[list[bytes], list[Status], tuple[Exchange, str]]:
        stream = Recorder()
        call = extproc_routes(bench.processor)[f"/{EXT_PROC_SERVICE}/Process"](stream)
        for data in said:
            bench.clock.advance(1)
            if not stream.ended:
                call.message(data)
        call.closed(Closure(Reason.ENDED))
        return stream.sent, stream.ended, told(bench)

    return asyncio.run(run())


def by_session(bench: Bench, said: Sequence[bytes]) -> tuple[list[bytes], list[Status], tuple[Exchange, str]]:
    """Give the same of a session, which reads and writes everything as values."""
    sent: list[bytes] = []
    ended: list[Status] = []
    session = bench.session()
    for data in said:
        bench.clock.advance(1)
        if not ended:
            try:
                sent += map(encode, session.receive(decode(data)))
            except InvalidMessageError:
                ended.append(Status.INVALID_ARGUMENT)
            if session.done:
                ended.append(Status.OK)
    session.close(finished=False)
    return sent, ended, told(bench)


@given(
    said=st.lists(ANY, max_size=8),
    response=st.sampled_from([FULL, FULL, FULL, None, *BodyMode]),
    headers=st.sampled_from([True, True, True, False]),
    usage=st.booleans(),
    phase=st.sampled_from([ResponsePhase.KEEP, ResponsePhase.KEEP, *ResponsePhase]),
)
def test_same_as_the_session(
    said: list[bytes], response: BodyMode | None, headers: bool, usage: bool, phase: ResponsePhase
) -> None:
    """The same answers to the byte, the same end, and the same told of the request, for whatever a proxy sends."""
    whole = [*opening(response, headers=headers), *said]
    first, second = (make_bench(usage=usage, response_phase=phase, chunk_size=CHUNK_SIZE) for _ in range(2))

    assert by_session(first, whole) == by_call(second, whole)
    assert first.in_flight == second.in_flight


@given(data=chunks(), most=st.sampled_from([1, 127, CHUNK_SIZE]))
def test_what_goes_back_is_what_came(data: bytes, most: int) -> None:
    """What takes the short cut is a chunk, and its answer is the usual one."""
    found = hand_back(data, most)
    if found is None:
        return
    answer, start, stop, ends = found
    message = decode(data)
    assert isinstance(message, ResponseBody)
    assert (data[start:stop], ends) == (message.body, message.end_of_stream)
    assert encode(StreamedResponseBody(message.body, message.end_of_stream)) == answer
    assert 0 < stop - start + ends
    assert stop - start <= most


@pytest.mark.parametrize(("size", "ends"), [*product([4, 127, 128, 16_383, 16_384, 62_000], [False, True]), (0, True)])
@pytest.mark.parametrize("tail", TAILS[:2])
def test_chunks_as_proxies_write_them_take_the_short_cut(size: int, ends: bool, tail: bytes) -> None:
    """No length of a usual chunk is left to the long way, and neither is the end."""
    found = hand_back(written(ResponseBody(bytes(size), ends)) + tail, 62_000)
    assert found is not None
    assert ends == found[3]


def test_known_metadata_takes_the_short_cut() -> None:
    """Metadata that was read once needs no other look."""
    tail = delimited(0x42, delimited(0x0A, delimited(0x0A, b"seen by this test only")))
    chunk = written(ResponseBody(EVENT))
    assert hand_back(chunk + tail, CHUNK_SIZE) is None
    decode(chunk + tail)

    assert hand_back(chunk + tail, CHUNK_SIZE) is not None
