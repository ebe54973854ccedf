"""How many tokens a response of vLLM's gRPC service took, by its messages in their frames."""

from __future__ import annotations

import re
import struct
from collections import deque
from typing import final

import attrs

from inferencepool.adapters.bodies._protobuf import fields
from inferencepool.adapters.bodies._usage import UNKNOWN, Usage

__all__ = ["HEADER_LENGTH", "FrameReader"]

#: In front of a message in its frame: a flag for compression, and a length of 4 bytes.
HEADER_LENGTH = 5
_MOST_FIELDS = 64

# Each token comes in a frame, and all that count are alike: of those that come together the last ones tell.
_MOST_READ = 64
# So many frames come together only from who sends none that mean anything.
_MOST_FRAMES = 4_096
_HEADER = struct.Struct(">BI")
_EMPTY = re.compile(rb"(?:.\x00{4})++", re.DOTALL)

_Fields = dict[int, int | bytes]


@final
@attrs.define(eq=False)
class FrameReader:
    """
    Reads the usage from frames that come in chunks, wherever they are cut.

    A frame that is compressed, longer than allowed or no message tells nothing; nothing here raises. Of the frames that
    end in a chunk the last 64 that are not empty are read, and behind a chunk of more than 4,096 none at all. One
    response belongs to one reader; it is not safe for threads.

    Attributes:
        is_embedding: Whether the messages are ``EmbedResponse``; ``GenerateResponse`` otherwise.
        max_frame_size: Longest message that is read, in bytes.
        usage: What is known so far.
    """

    is_embedding: bool
    max_frame_size: int
    usage: Usage = UNKNOWN
    _pending: bytearray = attrs.field(factory=bytearray)
    _skipped: int = 0
    _is_over: bool = False

    def give_up(self) -> None:
        """Read nothing of what follows."""
        self._is_over = True
        self._pending.clear()

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the response."""
        if self._is_over:
            return
        if self._skipped:
            skipped = min(self._skipped, len(chunk))
            self._skipped -= skipped
            chunk = chunk[skipped:]
        self._pending += chunk
        messages, at, is_last = self._whole()
        for start, stop in messages:
            self._read(bytes(self._pending[start:stop]))
        del self._pending[:at]
        if is_last:
            self.give_up()

    def _whole(self) -> tuple[deque[tuple[int, int]], int, bool]:
        """Find the last messages that are there, where what is not whole begins, and whether there are too many."""
        pending, size = self._pending, len(self._pending)
        messages: deque[tuple[int, int]] = deque(maxlen=_MOST_READ)
        at = count = 0
        while size - at >= HEADER_LENGTH:
            count += 1
            if count > _MOST_FRAMES:
                return messages, at, True
            flag, length = _HEADER.unpack_from(pending, at)
            start = at + HEADER_LENGTH
            stop = start + length
            if not length:
                empty = _EMPTY.match(pending, at)
                at = empty.end() if empty else start
            elif length > self.max_frame_size:
                self._skipped = max(0, stop - size)
                at = min(size, stop)
            elif stop > size:
                break
            else:
                if not flag:
                    messages.append((start, stop))
                at = stop
        return messages, at, False

    def _read(self, message: bytes) -> None:
        try:
            found = _read_embedding(message) if self.is_embedding else _read_generation(message)
        except ValueError:
            return
        if found != UNKNOWN:
            self.usage = found


def _fields(message: bytes) -> _Fields:
    """Give the last value of each field; of a message of very many fields the first of them."""
    found: _Fields = {}
    for count, (number, value) in enumerate(fields(message)):
        if count >= _MOST_FIELDS:
            break
        found[number] = value
    return found


def _read_generation(message: bytes) -> Usage:
    """
    Read a ``GenerateResponse``, of either version.

    Older messages have an id, a part or the whole, in the fields 1 to 3; newer ones have no id, so that the part is 1
    and the whole is 2. A whole tells itself by the reason why it ended, in its field 2.
    """
    outer = _fields(message)
    inner = next((value for number in (3, 2, 1) if isinstance(value := outer.get(number), bytes)), b"")
    told = _fields(inner)
    is_whole = isinstance(told.get(2), bytes) or 3 in outer  # noqa: PLR2004 - the older whole
    prompt, output, cached = (told.get(number + is_whole, 0) for number in (2, 3, 4))
    if not isinstance(prompt, int) or not isinstance(output, int) or not isinstance(cached, int):
        return UNKNOWN
    # Nothing is written for 0, so a message that counts nothing is one that tells nothing.
    return Usage(prompt, output, cached, prompt + output) if prompt or output else UNKNOWN


def _read_embedding(message: bytes) -> Usage:
    """Read an ``EmbedResponse``: older ones have the embedding in their field 2, newer ones are it themselves."""
    outer = _fields(message)
    inner = outer.get(2)
    prompt = _fields(inner).get(2) if isinstance(inner, bytes) else inner
    return Usage(prompt, 0, None, prompt) if isinstance(prompt, int) and prompt else UNKNOWN
