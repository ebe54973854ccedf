"""How many tokens a response took, read while it passes by."""

from __future__ import annotations

from inferencepool.adapters.bodies._body import UsageKind
from inferencepool.adapters.bodies._decoding import BYTE_ORDER_MARK, Loads, loads_json
from inferencepool.adapters.bodies._frames import FrameReader
from inferencepool.adapters.bodies._usage import (
    LONGEST_TAIL,
    NEEDLES,
    UNKNOWN,
    Usage,
    merge_event,
    read_tail,
    read_usage,
)

__all__ = ["MAX_SIZE", "UsageReader"]

#: Longest event, and longest response in JSON, that are read as a whole, in bytes.
MAX_SIZE = 2**20

# Usage is told once, or with each of the tokens that come together.
_MOST_EVENTS = 64
_MOST_LINES = 1_024

# Where one line ends and the next is empty, as far as two bytes can tell: lines end with CR, LF, or both, and both
# together are one end. The LF that may follow then begins the next event with an empty line, which says nothing.
_BOUNDARIES = (b"\n\n", b"\n\r", b"\r\r")
_WHOLE = (b"\n\n", b"\n\r\n", b"\r\r")


class UsageReader:
    """
    Reads the usage from a response that comes in chunks, wherever they are cut.

    A stream of events follows the standard of server-sent events: lines end with LF, CR LF or CR, an event may have
    several lines of data, comments are passed over. Of events, only those are read as JSON that have what is looked
    for. Frames of gRPC are read message by message. A response, or a part of it, that cannot be read tells nothing;
    nothing here raises.

    One response belongs to one reader; it is not safe for threads.

    Args:
        kind: Where the usage stands.
        event_stream: Whether the response is a stream of events (``text/event-stream``); JSON otherwise.
        loads: Reads JSON text.
        max_size: Longest event, and longest response in JSON, that is read as a whole, in bytes; up to twice as many
            are kept. Of a longer response the last 16 KiB are read.
    """

    def __init__(
        self,
        kind: UsageKind,
        *,
        event_stream: bool,
        loads: Loads = loads_json,
        max_size: int = MAX_SIZE,
    ) -> None:
        self._kind = kind
        self._event_stream = event_stream
        self._loads = loads
        self._max_size = max_size
        self._needle = NEEDLES[kind][0] if kind in NEEDLES else None
        self._frames = _frame_reader(kind, max_size)
        # What came and was not read yet: a response in JSON or its end, or the beginning of an event.
        self._pending = bytearray()
        # Whether the response, or the event that is under way, is longer than what is read as a whole.
        self._skipping = False
        self._usage = UNKNOWN

    @property
    def usage(self) -> Usage:
        """What is known so far."""
        return self._usage if self._frames is None else self._frames.usage

    def feed(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes of the response. Of a view that is longer than *max_size* its ends are read."""
        if isinstance(chunk, memoryview):
            self._feed_ends(chunk)
        elif self._needle is None:
            if self._frames is not None:
                self._frames.feed(chunk)
        elif not self._event_stream:
            self._keep(chunk)
        elif self._pending or not chunk.endswith(_WHOLE):
            self._feed_part(chunk)
        elif self._needle in chunk:
            self._read_events(chunk)

    def _feed_ends(self, chunk: memoryview) -> None:
        """Take a chunk that would be dear to copy: its first and its last bytes."""
        size = self._max_size
        self.feed(bytes(chunk[:size]))
        if len(chunk) <= size:
            return
        if self._frames is not None:
            self._frames.give_up()
        elif self._event_stream and len(chunk) > 2 * size:
            # What lies between is as an event that is too long.
            self._pending.clear()
            self._skipping = True
        self.feed(bytes(chunk[max(size, len(chunk) - size) :]))

    def finish(self) -> Usage:
        """Take the end of the response, and give what is known then. An event without its end counts as whole."""
        pending, self._pending = bytes(self._pending), bytearray()
        if self._needle is None or not pending:
            return self.usage
        if not self._event_stream:
            read = read_tail if self._skipping else read_usage
            self._usage = read(pending, self._kind, self._loads)
        elif not self._skipping:
            self._read_events(pending)
        return self.usage

    def _keep(self, chunk: bytes) -> None:
        """Keep a response in JSON, or its end once that is all that will be read."""
        pending = self._pending
        pending += chunk
        # What is cut off is twice as long as what stays, so that it is moved once on the average.
        if len(pending) > (3 * LONGEST_TAIL if self._skipping else self._max_size):
            self._skipping = True
            del pending[:-LONGEST_TAIL]

    def _feed_part(self, chunk: bytes) -> None:
        pending = self._pending
        # A boundary has two bytes, of which one may have come before.
        searched = max(0, len(pending) - 1)
        pending += chunk
        if self._skipping:
            end = min((at for at in (pending.find(mark) for mark in _BOUNDARIES) if at >= 0), default=-1)
            if end < 0:
                del pending[:-1]
                return
            del pending[: end + 2]
            self._skipping = False
            searched = 0
        end = max(pending.rfind(mark, searched) for mark in _BOUNDARIES)
        if end >= 0:
            whole = bytes(pending[: end + 2])
            del pending[: end + 2]
            self._read_events(whole)
        # Ends of lines of two bytes count as one below, so that an event may be twice as long here.
        if len(pending) > 2 * self._max_size + 4:
            self._skipping = True
            del pending[:-1]

    def _read_events(self, text: bytes) -> None:
        needle, pattern = NEEDLES[self._kind]
        if needle not in text:
            return
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        for event in _last_events(text, needle):
            if len(event) <= self._max_size and event.count(b"\n") <= _MOST_LINES:
                data = _data_of(event)
                if pattern.search(data):
                    self._usage = merge_event(self._usage, data, self._kind, self._loads)


def _frame_reader(kind: UsageKind, max_frame_size: int) -> FrameReader | None:
    if kind not in (UsageKind.VLLM_GRPC, UsageKind.VLLM_GRPC_EMBED):
        return None
    return FrameReader(kind is UsageKind.VLLM_GRPC_EMBED, max_frame_size)


def _last_events(text: bytes, needle: bytes) -> list[bytes]:
    """Give the last events of *text* that hold *needle*, in order: so many that nobody sends more at once."""
    events: list[bytes] = []
    end = len(text)
    while len(events) < _MOST_EVENTS and (at := text.rfind(needle, 0, end)) >= 0:
        start = text.rfind(b"\n\n", 0, at) + 1
        stop = text.find(b"\n\n", at)
        events.append(text[start : len(text) if stop < 0 else stop].strip(b"\n"))
        end = start
    return events[::-1]


def _data_of(event: bytes) -> bytes:
    """Put the lines of data of *event* together."""
    values = []
    for line in event.removeprefix(BYTE_ORDER_MARK).split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            values.append(value.removeprefix(b" "))
    return b"\n".join(values)
