"""
HTTP/2 for a gRPC server: the `h2` library, with what it leaves open.

What `h2` leaves to its caller is done in `Connection`: queues for what the peer's windows do not allow, limits against
floods, deadlines. What would cost too much or end too much inside it is changed here:

- It counts open streams by walking over all of them for each new one. The caller counts its own; here closed ones are
  dropped now and then.
- It refuses to speak once it sent or received a GOAWAY. RPCs in flight go on: a notice of GOAWAY is written beside it,
  and the peer's is an event only.
- It answers every frame of a stream that was reset by another reset. Such frames were under way and are ignored.
- It makes a text of every frame for a log that is off.
- It parses the head of each frame. Most requests come as one frame of headers with nothing but their end set, and end
  with an empty one of data or a reset.
- It takes a DATA frame through two state machines, four objects and three copies. Most frames are plain data on an open
  stream, which change nothing but the windows; the same holds for the headers of an answer. The trailers of an answer
  change nothing but the state of their stream.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, final

from inferencepool.errors import MissingExtraError
from inferencepool.runtime.grpc._framing import PREFIX_SIZE
from inferencepool.runtime.grpc._hpack import HeaderDecoder, HeaderEncoder, ReadyHeaders

try:
    from h2 import events
    from h2.config import H2Configuration
    from h2.connection import ConnectionState, H2Connection
    from h2.errors import ErrorCodes
    from h2.exceptions import FrameTooLargeError, ProtocolError, StreamClosedError, StreamIDTooLowError
    from h2.settings import SettingCodes, Settings
    from h2.stream import H2Stream, StreamInputs, StreamState
    from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame
except ImportError:
    _MESSAGE = 'the gRPC server needs h2: pip install "inferencepool[epp]"'
    raise MissingExtraError(_MESSAGE) from None

__all__ = [
    "DRAIN_NOTICE",
    "FAREWELL",
    "FAREWELL_ANSWER",
    "ErrorCodes",
    "H2Stream",
    "Http2",
    "PlainData",
    "ProtocolError",
    "events",
]

#: A GOAWAY that refuses nothing yet: the client should open no more streams (RFC 9113, section 6.8).
DRAIN_NOTICE: bytes = GoAwayFrame(0, last_stream_id=2**31 - 1, error_code=0).serialize()
#: A PING after everything else, and its answer: a peer that answers has read all that came before.
FAREWELL: bytes = PingFrame(0, opaque_data=b"farewell").serialize()
FAREWELL_ANSWER: bytes = PingFrame(0, opaque_data=b"farewell", flags=["ACK"]).serialize()

_INITIAL_WINDOW = 65_535
# Frame header: 24 bits of length, type, flags, stream.
_FRAME_HEADER = struct.Struct(">HBBBL")
# The same to be read, with length and type as one.
_FRAME_WORDS = struct.Struct(">LBL")
_HEADER_SIZE = _FRAME_WORDS.size
# The same, and what goes before a gRPC message: a byte that tells of compression, 32 bits of length.
_MESSAGE_HEADER = struct.Struct(">HBBBLBL")
_DATA_FRAME = 0
_HEADERS_FRAME = 1
_RESET_FRAME = 3
_RESET_SIZE = 4
_FRAME_TYPE = 3
_END_STREAM = 0x1
_END_HEADERS = 0x4
_END_OF_STREAMS = 1 << 31
# How many closed streams may lie about before they are dropped.
_SWEEP = 64

# The headers of answers are made here and of requests are checked by the server; h2's checks cost a quarter of an RPC.
_CONFIG = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


# States of a stream in which its data may come.
_READABLE = (StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL)


@final
class PlainData:
    """
    An event beside those of h2: data without padding that ends no stream.

    Attributes:
        stream_id: The stream.
        data: What holds the data.
        start: Where in it the data begins.
        stop: Where it ends.
    """

    __slots__ = ("data", "start", "stop", "stream_id")

    def __init__(self, stream_id: int, data: bytes, start: int, stop: int) -> None:
        self.stream_id = stream_id
        self.data = data
        self.start = start
        self.stop = stop


class Http2(H2Connection):
    """
    The server's side of one connection of HTTP/2, without I/O.

    Attributes:
        silent_frames: Frames received so far that led to no event.

    Args:
        streams: How many streams the peer is told to open at most; the caller refuses more.
        header_bytes: The largest list of headers, after decompression.
        stream_window: Receive window of a stream.
        connection_window: Receive window of the connection.
    """

    # Enough to know what is still under way on streams that were reset.
    MAX_CLOSED_STREAMS = 4096

    def __init__(self, *, streams: int, header_bytes: int, stream_window: int, connection_window: int) -> None:
        super().__init__(_CONFIG)
        self.silent_frames = 0
        # What came last, behind what was left before it, and how far it was read.
        self._received = b""
        self._is_new = True
        self._at = 0
        self._sweep_at = _SWEEP
        # h2 keeps no frame, so that one does for all whole lists of headers, and one for all resets.
        self._headers_frame = HeadersFrame(1, flags=["END_HEADERS"])
        self._reset_frame = RstStreamFrame(1)
        self._header_bytes = header_bytes
        self.encoder = HeaderEncoder()
        # Settings changed later would not be announced by the first frame, but counted on by h2 once it is answered.
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.INITIAL_WINDOW_SIZE: stream_window,
                SettingCodes.MAX_CONCURRENT_STREAMS: streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: header_bytes,
            },
        )
        self.decoder = HeaderDecoder()
        self.decoder.max_header_list_size = header_bytes
        self.initiate_connection()
        if connection_window > _INITIAL_WINDOW:
            self.increment_flow_control_window(connection_window - _INITIAL_WINDOW)

    @property
    def open_inbound_streams(self) -> int:
        """Always 0, so that h2 leaves the limit to the caller, who can refuse a stream without ending all others."""
        if len(self.streams) >= self._sweep_at:
            for stream_id, stream in list(self.streams.items()):
                if stream.state_machine.state is StreamState.CLOSED:
                    del self.streams[stream_id]
                    self._closed_streams[stream_id] = stream.closed_by
            self._sweep_at = max(_SWEEP, 2 * len(self.streams))
        return 0

    @property
    def output_size(self) -> int:
        """Bytes waiting to be written."""
        return len(self._data_to_send)

    def take_output(self) -> bytearray:
        """Give what is to be written; it is the caller's then."""
        data = self._data_to_send
        self._data_to_send = bytearray()
        return data

    def receive(self, data: bytes) -> None:
        """Take in what the peer sent; `read` gives what comes of it. All before it must have been read."""
        # Only whole frames go further, so that plain data is recognised wherever reads cut it.
        self._received = self._received + data if self._received else data

    def let_go(self) -> None:
        """Refer to itself no more; when the connection is gone."""
        self._frame_dispatch_table.clear()

    def read(self) -> PlainData | Sequence[Any] | None:
        """
        Give what the next frame of what was received led to: plain data, or events; None where no whole one is left.

        Raises:
            ProtocolError: The peer broke the protocol; the GOAWAY is made.
        """
        received, start = self._received, self._at
        size = len(received)
        body = start + _HEADER_SIZE
        if self._is_new and start < size:
            return self._read_preface()
        if body > size:
            if start:
                self._received, self._at = received[start:], 0
            return None
        word, flags, stream_id = _FRAME_WORDS.unpack_from(received, start)
        length = word >> 8
        if length > self.max_inbound_frame_size:
            self._terminate_connection(ErrorCodes.FRAME_SIZE_ERROR)
            message = f"a frame of {length} bytes is larger than allowed"
            raise FrameTooLargeError(message)
        stop = body + length
        if stop > size:
            if start:
                self._received, self._at = received[start:], 0
            return None
        self._at = stop
        if word & 0xFF == _DATA_FRAME:
            return self._read_data(stream_id, flags, body, stop)
        frame = self._read_frame(word & 0xFF, flags, stream_id, body, stop)
        return self.receive_data(received[start:stop]) if frame is None else self._receive_whole(frame)

    def _read_preface(self) -> Sequence[Any]:
        left = self.incoming_buffer._preamble_len  # noqa: SLF001 - what is left of it
        start, self._at = self._at, min(self._at + left, len(self._received))
        self._is_new = left > self._at - start
        return self.receive_data(self._received[start : self._at])

    def _read_frame(self, kind: int, flags: int, stream_id: int, start: int, stop: int) -> Frame | None:
        """Read the frames that come with every request, which takes no parser; None for any other."""
        # Nothing may come between parts of headers.
        if not 0 < stream_id < _END_OF_STREAMS or self.incoming_buffer._headers_buffer:  # noqa: SLF001 - as above
            return None
        content = self._received[start:stop]
        if kind == _HEADERS_FRAME and flags == _END_HEADERS:
            headers = self._headers_frame
            headers.stream_id, headers.data = stream_id, content
            return headers
        if kind == _RESET_FRAME and not flags and len(content) == _RESET_SIZE:
            reset = self._reset_frame
            reset.stream_id, reset.error_code = stream_id, int.from_bytes(content)
            return reset
        return None

    def _receive_whole(self, frame: Frame) -> Sequence[Any]:
        """Have h2 handle a frame as if it had parsed it."""
        try:
            return self._receive_frame(frame)
        except ProtocolError as error:
            self._terminate_connection(error.error_code)
            raise

    def _read_data(self, stream_id: int, flags: int, start: int, stop: int) -> PlainData | Sequence[Any]:
        """Take a frame of data into account, if nothing is odd about it; else have h2 judge it."""
        size = stop - start
        stream = self.streams.get(stream_id)
        windows = self._inbound_flow_control_window_manager
        if (
            (flags and (flags != _END_STREAM or size))
            or stream is None
            or stream.state_machine.state not in _READABLE
            or self.state_machine.state is not ConnectionState.SERVER_OPEN
            or stream._expected_content_length is not None  # noqa: SLF001 - h2 compares it
            or self.incoming_buffer._headers_buffer  # noqa: SLF001 - nothing may come between
            or size > windows.current_window_size
            or size > (own := stream._inbound_window_manager).current_window_size  # noqa: SLF001 - as above
        ):
            return self.receive_data(self._received[start - _HEADER_SIZE : stop])
        if flags:
            return stream.state_machine.process_input(StreamInputs.RECV_END_STREAM)
        windows.current_window_size -= size
        own.current_window_size -= size
        return PlainData(stream_id, self._received, start, stop)

    def has_unfinished_headers(self) -> bool:
        """Tell whether a list of headers began and did not end yet."""
        if self.incoming_buffer._headers_buffer:  # noqa: SLF001 - h2 tells of whole lists only
            return True
        # What was read is let go of, so that this begins with the frame that is not whole.
        rest = self._received
        return len(rest) > _FRAME_TYPE and rest[_FRAME_TYPE] == _HEADERS_FRAME

    def has_oversized_headers(self) -> bool:
        """Tell whether the unfinished list of headers is already larger than any that is allowed."""
        frames = self.incoming_buffer._headers_buffer  # noqa: SLF001 - as above
        return sum(len(frame.data) for frame in frames) > 2 * self._header_bytes

    def live_stream(self, stream_id: int) -> H2Stream | None:
        """Give the stream if it can still be written to. While events are handled, h2 may be ahead of them."""
        stream = self.streams.get(stream_id)
        return None if stream is None or stream.state_machine.state is StreamState.CLOSED else stream

    def reset(self, stream_id: int, code: ErrorCodes) -> None:
        """Reset a stream, unless it is closed already."""
        if self.live_stream(stream_id) is not None:
            self.reset_stream(stream_id, code)

    def room(self, stream: H2Stream) -> int:
        """Give how many bytes of data the peer's windows allow on *stream*."""
        return max(0, min(self.outbound_flow_control_window, stream.outbound_flow_control_window))

    def write_data(self, stream: H2Stream, data: bytes | memoryview) -> None:
        """
        Write *data*, not more than `room`, in as many frames as it takes.

        Data changes nothing but the windows, and h2's own way to write it copies it four times.
        """
        output = self._data_to_send
        size = len(data)
        most = self.max_outbound_frame_size
        for start in range(0, size, most):
            length = min(most, size - start)
            output += _FRAME_HEADER.pack(length >> 8, length & 0xFF, _DATA_FRAME, 0, stream.stream_id)
            output += data if length == size else data[start : start + length]
        stream.outbound_flow_control_window -= size
        self.outbound_flow_control_window -= size

    def write_message(self, stream: H2Stream, message: bytes) -> None:
        """Write a gRPC *message* as one frame, with what goes before it; it must fit a frame and the windows."""
        length = len(message)
        size = PREFIX_SIZE + length
        output = self._data_to_send
        output += _MESSAGE_HEADER.pack(size >> 8, size & 0xFF, _DATA_FRAME, 0, stream.stream_id, 0, length)
        output += message
        stream.outbound_flow_control_window -= size
        self.outbound_flow_control_window -= size

    def write_headers(self, stream: H2Stream, headers: ReadyHeaders) -> None:
        """
        Write the *headers* of an answer, without an end.

        The state of the stream stays as it is: all that h2 would note is that the next headers are trailers.
        """
        if self.encoder.table_size_changes:
            self.send_headers(stream.stream_id, headers)
            return
        self._write_block(stream, headers.block, _END_HEADERS)

    def write_trailers(self, stream: H2Stream, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Write the last *headers* of an answer, or the only ones, which end the stream on this side."""
        if not isinstance(headers, ReadyHeaders) or self.encoder.table_size_changes:
            self.send_headers(stream.stream_id, headers, end_stream=True)
            return
        stream.state_machine.process_input(StreamInputs.SEND_END_STREAM)
        self._write_block(stream, headers.block, _END_HEADERS | _END_STREAM)

    def _write_block(self, stream: H2Stream, block: bytes, flags: int) -> None:
        output, size = self._data_to_send, len(block)
        output += _FRAME_HEADER.pack(size >> 8, size & 0xFF, _HEADERS_FRAME, flags, stream.stream_id)
        output += block

    def _receive_frame(self, frame: Frame) -> list[events.Event]:
        frames: list[Frame]
        found: list[events.Event]
        try:
            frames, found = self._frame_dispatch_table[frame.__class__](frame)
        except StreamClosedError as error:
            if not self._stream_is_closed_by_reset(error.stream_id):
                raise
            frames, found = [], error._events  # noqa: SLF001 - not empty if the stream was open until now
            if found:
                frames.append(self._reset_for(error))
        except StreamIDTooLowError as error:
            if self._stream_is_closed_by_end(error.stream_id):
                raise StreamClosedError(error.stream_id) from error
            if not self._stream_is_closed_by_reset(error.stream_id):
                raise
            frames, found = [], []
        if frames:
            self._prepare_for_sending(frames)
        if not found:
            self.silent_frames += 1
        return found

    @staticmethod
    def _reset_for(error: StreamClosedError) -> RstStreamFrame:
        frame = RstStreamFrame(error.stream_id)
        frame.error_code = error.error_code
        return frame

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[events.Event]]:
        event = events.ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        event.additional_data = frame.additional_data or None
        return [], [event]

    def _handle_data_on_closed_stream(
        self, events: list[Any], exc: StreamClosedError, frame: DataFrame
    ) -> tuple[list[Frame], list[events.Event]]:
        frames, found = super()._handle_data_on_closed_stream(events, exc, frame)
        if not exc._events:  # noqa: SLF001 - as above
            frames = [answer for answer in frames if not isinstance(answer, RstStreamFrame)]
        return frames, found
