"""Plain data takes a short way past h2: it must come to what h2 makes of it, wherever reads cut the frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import hpack
import pytest
from h2.exceptions import FrameTooLargeError, ProtocolError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.runtime.grpc._hpack import HeaderEncoder, ReadyHeaders
from inferencepool.runtime.grpc._http2 import Http2, PlainData

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STREAMS = st.sampled_from([1, 3, 5, 7])
REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/s/M"), (":authority", "a")]


def make_server() -> Http2:
    """Make the server's side, with windows that a few frames fill."""
    http2 = Http2(streams=10, header_bytes=1 << 14, stream_window=70_000, connection_window=100_000)
    http2.take_output()
    return http2


class Wire(bytes):
    """A frame that is short to print."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes: {self[:12].hex()}...>"


def headers_frame(stream_id: int, *, length: int | None, ends: bool, whole: bool = True) -> bytes:
    """Open a stream; the list is never indexed, so that frames can be left out or come twice."""
    fields = [*REQUEST, *([("content-length", str(length))] if length is not None else [])]
    block = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(name, value) for name, value in fields])
    frame = HeadersFrame(stream_id)
    frame.data = block if whole else block[:5]
    if whole:
        frame.flags.add("END_HEADERS")
    if ends:
        frame.flags.add("END_STREAM")
    rest = b""
    if not whole:
        more = ContinuationFrame(stream_id, block[5:])
        more.flags.add("END_HEADERS")
        rest = more.serialize()
    return Wire(frame.serialize() + rest)


def data_frame(stream_id: int, size: int, *, pad: int, ends: bool) -> bytes:
    """Send data; more of it than a frame may hold is one frame all the same."""
    frame = DataFrame(stream_id, bytes(index % 251 for index in range(size)), pad_length=pad)
    if pad:
        frame.flags.add("PADDED")
    if ends:
        frame.flags.add("END_STREAM")
    return Wire(frame.serialize())


def serialized(frame: Frame) -> bytes:
    """Give the bytes of *frame*."""
    return Wire(frame.serialize())


DATA = st.builds(
    data_frame,
    STREAMS,
    st.sampled_from([0, 1, 5, 1000, 16_128]),
    pad=st.sampled_from([0, 0, 0, 1, 255]),
    ends=st.sampled_from([False, False, False, True]),
)
FRAMES = st.one_of(
    DATA,
    DATA,
    DATA,
    st.builds(
        headers_frame,
        STREAMS,
        length=st.sampled_from([None, None, 5, 1001]),
        ends=st.sampled_from([False, False, False, True]),
        whole=st.booleans(),
    ),
    st.builds(lambda stream_id: serialized(RstStreamFrame(stream_id, error_code=stream_id)), STREAMS),
    st.builds(lambda stream_id: serialized(WindowUpdateFrame(stream_id, window_increment=9)), STREAMS | st.just(0)),
    st.just(serialized(PingFrame(opaque_data=b"12345678"))),
    st.just(serialized(SettingsFrame(settings={}))),
)
OPENING = [PREFACE, serialized(SettingsFrame(settings={}))]
ALL_OPEN = [headers_frame(stream_id, length=None, ends=False) for stream_id in (1, 3, 5, 7)]


def told(events: Sequence[Any]) -> list[object]:
    """Give what events say, those of the short way like those of h2; nothing for data without bytes before an end."""
    found: list[object] = []
    for event in events:
        if isinstance(event, PlainData):
            size = event.stop - event.start
            found.append(("data", event.stream_id, event.data[event.start : event.stop], size, False))
        elif hasattr(event, "flow_controlled_length"):
            ended = event.stream_ended is not None
            if ended and not event.flow_controlled_length:
                continue
            found.append(("data", event.stream_id, bytes(event.data), event.flow_controlled_length, ended))
        else:
            found.append((type(event).__name__, getattr(event, "stream_id", None)))
    return found


def receiver(server: Http2) -> Callable[[bytes], list[Any]]:
    """Give what has *server* receive, all frames at once."""

    def receive(data: bytes) -> list[Any]:
        server.receive(data)
        events: list[Any] = []
        while (found := server.read()) is not None:
            events += (found,) if isinstance(found, PlainData) else found
        return events

    return receive


def run(receive: Any, chunks: Sequence[bytes]) -> tuple[list[object], type[Exception] | None]:
    """Give what was told, and how it ended, if it did."""
    found: list[object] = []
    for chunk in chunks:
        try:
            found += told(receive(chunk))
        except ProtocolError as error:
            return found, type(error)
    return found, None


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut *data* at *places*, which are shares of 1,000."""
    ends = sorted({len(data) * place // 1000 for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def windows(http2: Http2) -> list[int]:
    """Give the receive windows."""
    streams = [http2.remote_flow_control_window(key) for key, stream in sorted(http2.streams.items()) if stream.open]
    return [http2.inbound_flow_control_window, *streams]


def check_same(chunks: Sequence[bytes], *, said_goodbye: bool = False) -> list[object]:
    """Check that *chunks* come to the same with the short way as with h2 alone; give what was told."""
    ours, theirs = make_server(), make_server()
    if said_goodbye:
        for server in (ours, theirs):
            server.receive_data(b"".join([*OPENING, *ALL_OPEN]))
            server.close_connection()

    expected, found = run(theirs.receive_data, chunks), run(receiver(ours), chunks)

    assert expected == found
    assert theirs.take_output() == ours.take_output()
    assert windows(theirs) == windows(ours)
    return found[0]


PLAIN = data_frame(1, 1000, pad=0, ends=False)
FULL = data_frame(1, 16_384, pad=0, ends=False)
UNFINISHED, CONTINUED = (
    headers_frame(3, length=None, ends=False, whole=False)[:14],
    headers_frame(3, length=None, ends=False, whole=False)[14:],
)
ODD = {
    "after the end": [*OPENING, *ALL_OPEN, data_frame(1, 5, pad=0, ends=True), PLAIN],
    "after a reset": [*OPENING, *ALL_OPEN, serialized(RstStreamFrame(1)), PLAIN],
    "before the headers": [*OPENING, PLAIN],
    "more than was announced": [*OPENING, headers_frame(1, length=1001, ends=False), PLAIN, PLAIN],
    "as much as was announced": [*OPENING, headers_frame(1, length=1000, ends=False), PLAIN],
    "between parts of headers": [*OPENING, ALL_OPEN[0], UNFINISHED, PLAIN, CONTINUED],
    "as much as the window": [*OPENING, *ALL_OPEN, *[FULL] * 4, data_frame(1, 4464, pad=0, ends=False)],
    "more than the window": [*OPENING, *ALL_OPEN, *[FULL] * 4, data_frame(1, 4465, pad=0, ends=False)],
    "more than the connection's window": [
        *OPENING,
        *ALL_OPEN,
        *[data_frame(stream_id, 16_384, pad=0, ends=False) for stream_id in (1, 3, 5, 7) * 2],
    ],
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_odd_is_left_to_h2(case: str) -> None:
    """Data where it must not be, or of a size that must be checked."""
    check_same([b"".join(ODD[case])])
    check_same(ODD[case])


def test_data_after_a_goodbye() -> None:
    """A connection that said goodbye takes no more."""
    assert [] == check_same([PLAIN], said_goodbye=True)


@given(frames=st.lists(FRAMES, max_size=25), opened=st.booleans(), places=st.lists(st.integers(0, 1000), max_size=12))
def test_same_as_h2(frames: list[bytes], opened: bool, places: list[int]) -> None:
    """The same events, errors, answers and windows, for any frames on any streams, whole or cut by reads."""
    check_same(cut(b"".join([*OPENING, *(ALL_OPEN if opened else []), *frames]), places))


@given(size=st.integers(1, 40_000), steps=st.lists(st.integers(1, 9000), min_size=1, max_size=9))
def test_data_comes_whole_from_any_reads(size: int, steps: list[int]) -> None:
    """Frames that reads cut come as plain data, with all their bytes."""
    sent = [data_frame(1, min(16_384, size - start), pad=0, ends=False) for start in range(0, size, 16_384)]
    data = b"".join([*OPENING, ALL_OPEN[0], *sent])
    ours = make_server()
    found: list[bytes] = []
    start = index = 0
    while start < len(data):
        step = steps[index % len(steps)]
        events = receiver(ours)(data[start : start + step])
        found += [event.data[event.start : event.stop] for event in events if isinstance(event, PlainData)]
        start, index = start + step, index + 1

    assert b"".join(frame[9:] for frame in sent) == b"".join(found)
    assert len(sent) == len(found)


def test_frame_that_is_too_large_is_not_awaited() -> None:
    """Its header is enough to end the connection."""
    ours = make_server()
    receiver(ours)(b"".join([*OPENING, ALL_OPEN[0]]))
    ours.take_output()
    found = run(receiver(ours), [data_frame(1, 16_385, pad=0, ends=False)[:9]])

    assert ([], FrameTooLargeError) == found
    assert b"\x00\x00\x00\x06" == bytes(ours.take_output())[-4:]


def test_several_changes_of_the_table() -> None:
    """Only the smallest and the last one are told, as the peer would refuse what is above the last."""
    encoder, decoder = HeaderEncoder(), hpack.Decoder()
    encoder.header_table_size = 8000
    encoder.header_table_size = 100
    encoder.header_table_size = 4096
    decoder.max_allowed_table_size = 4096

    assert [(b"a", b"b")] == [tuple(header) for header in decoder.decode(encoder.encode([("a", "b")]), raw=True)]
    assert 4096 == decoder.header_table_size


def test_headers_of_an_answer_after_a_change_of_the_table() -> None:
    """The block that follows tells of the new size, the one after it is the ready one."""
    ours, ready = make_server(), ReadyHeaders([(b":status", b"200")])
    receiver(ours)(b"".join([*OPENING, *ALL_OPEN[:2]]))
    receiver(ours)(serialized(SettingsFrame(settings={SettingsFrame.HEADER_TABLE_SIZE: 100})))
    ours.take_output()
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 100
    blocks = []
    for stream_id in (1, 3):
        stream = ours.live_stream(stream_id)
        assert stream is not None
        ours.write_headers(stream, ready)
        blocks.append(bytes(ours.take_output())[9:])

    assert ready.block != blocks[0]
    assert ready.block == blocks[1]
    assert [[(b":status", b"200")]] * 2 == [list(map(tuple, decoder.decode(block, raw=True))) for block in blocks]


def test_trailers_end_the_stream_as_those_of_h2_do() -> None:
    """The same fields to the peer and the same state, for ready trailers, others, and behind a change of the table."""
    ready = ReadyHeaders([(b"grpc-status", b"0")])
    changed = serialized(SettingsFrame(settings={SettingsFrame.HEADER_TABLE_SIZE: 100}))
    for before, ended in product((b"", changed), (False, True)):
        opening = b"".join([*OPENING, *ALL_OPEN[:2], data_frame(1, 0, pad=0, ends=True) if ended else b"", before])
        for headers in (ready, [(b"grpc-status", b"0")]):
            ours, theirs = make_server(), make_server()
            sent = []
            for server in (ours, theirs):
                receiver(server)(opening)
                server.take_output()
            stream = ours.live_stream(1)
            assert stream is not None
            ours.write_trailers(stream, headers)
            theirs.send_headers(1, headers, end_stream=True)
            for server in (ours, theirs):
                output = bytes(server.take_output())
                sent.append((output[3:5], hpack.Decoder().decode(output[9:], raw=True)))

            assert sent[0] == sent[1]
            assert theirs.streams[1].state_machine.state is ours.streams[1].state_machine.state
