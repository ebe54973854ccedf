"""gRPC messages in the bytes of a stream: a byte that tells of compression, four with the length, the message."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

from inferencepool.runtime.grpc._status import Status

__all__ = ["PREFIX_SIZE", "MessageReader", "Packed", "prefix"]

#: Bytes before every message.
PREFIX_SIZE = 5

_PREFIX = struct.Struct(">BL")
# A message longer than this is put together as it comes: to copy it at its end would be a long step.
_LONG = 1 << 16
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


def prefix(message: bytes) -> bytes:
    """Give the bytes that go before *message*, which is sent as it is."""
    return _PREFIX.pack(0, len(message))


class Packed(bytes):
    """A message as it came, compressed by gzip."""

    __slots__ = ()


class MessageReader:
    """
    Finds the messages in the data of one RPC, however it is cut. One thread uses it.

    Attributes:
        failure: Status and text with which the RPC must end, once what came cannot be read; None before.
        gzip: Whether messages may be compressed.
        held: Bytes of a message that is not whole yet.

    Args:
        limit: Size of the largest message in bytes.
        unpacked: The same for a compressed one, once it is unpacked; None for *limit*.
        gzip: Whether compressed messages are compressed by gzip; if not, there must be none.
        room: Tells how many bytes may be held; compressed messages are not unpacked beyond that. None for any number.
    """

    __slots__ = ("_buffer", "_limit", "_long", "_missing", "_room", "_unpacked", "failure", "gzip", "held")

    def __init__(
        self, limit: int, *, gzip: bool, unpacked: int | None = None, room: Callable[[], int] | None = None
    ) -> None:
        self._limit = limit
        self._unpacked = limit if unpacked is None else min(limit, unpacked)
        self.gzip = gzip
        self._room = room
        self._buffer = bytearray()
        self._long: BytesIO | None = None
        self._missing = 0
        self.failure: tuple[Status, str] | None = None
        self.held = 0

    def clear(self) -> None:
        """Forget what is held."""
        self._buffer, self._long, self.held = bytearray(), None, 0

    def feed(self, data: bytes, start: int = 0, stop: int | None = None) -> list[bytes]:
        """
        Take the next data, from *start* to *stop* in *data*, and give the messages that it completes, in order.

        Those that are `Packed` are to be unpacked one by one, as each may take long.

        Once `failure` is set, everything that follows is dropped.
        """
        if self.failure is not None:
            return []
        if stop is None:
            stop = len(data)
        if not self.held and (size := stop - start - PREFIX_SIZE) >= 0:
            # Mostly it is one message, whole and as it is.
            flag, length = _PREFIX.unpack_from(data, start)
            if length == size <= self._limit and not flag:
                return [data[start + PREFIX_SIZE : stop]]
        messages = self._feed(data, start, stop)
        self.held = len(self._buffer) if self._long is None else PREFIX_SIZE + self._long.tell()
        return messages

    def _feed(self, data: bytes, start: int, stop: int) -> list[bytes]:
        """Take any data."""
        if self._long is not None:
            return self._feed_long(self._long, data, start, stop)
        if self._buffer:
            return self._feed_more(memoryview(data)[start:stop])
        messages: list[bytes] = []
        used = self._split(data, start, stop, messages)
        if used < stop:
            self._buffer += memoryview(data)[used:stop]
            self._set_apart()
        return messages

    def _set_apart(self) -> None:
        """Put the message that began apart if it is a long one."""
        buffer = self._buffer
        if len(buffer) >= PREFIX_SIZE:
            flag, length = _PREFIX.unpack_from(buffer)
            if length > _LONG and not flag:
                self._long, self._buffer = BytesIO(), bytearray()
                self._missing = length - self._long.write(memoryview(buffer)[PREFIX_SIZE:])

    def _feed_long(self, long: BytesIO, data: bytes, start: int, stop: int) -> list[bytes]:
        """Take more of a long message, and what follows it."""
        end = min(start + self._missing, stop)
        self._missing -= long.write(memoryview(data)[start:end])
        if self._missing:
            return []
        self._long = None
        message = long.getvalue()
        return [message, *self._feed(data, end, stop)] if end < stop else [message]

    def _feed_more(self, data: memoryview) -> list[bytes]:
        """Take more of a message that began before."""
        buffer = self._buffer
        buffer += data
        if len(buffer) < PREFIX_SIZE:
            return []
        messages: list[bytes] = []
        # Slices of a view are copied once, those of a bytearray twice.
        with memoryview(buffer) as view:
            used = self._split(view, 0, len(view), messages)
        del buffer[:used]
        if self.failure is None:
            self._set_apart()
        return messages

    def _split(self, data: bytes | memoryview, start: int, size: int, messages: list[bytes]) -> int:
        """
        Append the whole messages in *data*, from *start* to *size*, to *messages*.

        Returns:
            Where they end; *size* after a failure, so that nothing is kept.
        """
        while size - start >= PREFIX_SIZE:
            flag, length = _PREFIX.unpack_from(data, start)
            if length > self._limit:
                text = f"a message of {length} bytes is larger than the limit of {self._limit}"
                self.failure = Status.RESOURCE_EXHAUSTED, text
                return size
            stop = start + PREFIX_SIZE + length
            if stop > size:
                # A flag that cannot be must not wait for the rest of its message.
                return start if not flag or self._check_flag(flag) else size
            if flag and not self._check_flag(flag):
                return size
            message = data[start + PREFIX_SIZE : stop]
            messages.append(Packed(message) if flag else bytes(message))
            start = stop
        return start

    def _check_flag(self, flag: int) -> bool:
        if flag == 1 and self.gzip:
            return True
        text = "a compressed message without grpc-encoding" if flag == 1 else f"{flag} is no flag of compression"
        self.failure = Status.INTERNAL, text
        return False

    def unpack(self, message: Packed) -> bytes | None:
        """Unpack a message that `feed` gave; None if that cannot be done, and `failure` is set."""
        limit = self._unpacked
        if self._room is not None:
            limit = max(0, min(limit, self._room()))
        inflater = zlib.decompressobj(_GZIP_WINDOW)
        try:
            unpacked = inflater.decompress(message, limit + 1)
        except zlib.error:
            self.failure = Status.INTERNAL, "a message is not what gzip makes"
            return None
        if len(unpacked) > limit:
            text = f"a message is larger than the limit of {self._unpacked} after decompression"
            if limit < self._unpacked:
                text = "there is no room for a message after decompression"
            self.failure = Status.RESOURCE_EXHAUSTED, text
            return None
        if not inflater.eof or inflater.unused_data:
            self.failure = Status.INTERNAL, "a message is not what gzip makes"
            return None
        return unpacked
