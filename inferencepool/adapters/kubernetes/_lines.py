"""Lines out of bytes that are cut anywhere, and the events of a watch that they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, final

from inferencepool.adapters.bodies import Loads

__all__ = ["EventLines", "LineSplitter"]

# Events, and bytes of them, that are read before others have their turn.
_SLICE: Final = 200
_SLICE_BYTES: Final = 512 * 1024


@final
class LineSplitter:
    """Puts pieces of bytes together and cuts them into lines; each byte is copied a constant number of times."""

    def __init__(self, limit: int) -> None:
        """Begin; a line may have *limit* bytes."""
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def pending(self) -> bool:
        """Whether a line has begun and not ended."""
        return self._size > 0

    def feed(self, data: bytes) -> list[bytes]:
        """
        Give the lines that are complete with *data*, without their ends; empty ones are left out.

        Raises:
            ValueError: A line is longer than allowed.
        """
        first, *lines = data.split(b"\n")
        self._parts.append(first)
        self._size += len(first)
        if lines:
            rest = lines.pop()
            lines.insert(0, b"".join(self._parts))
            self._parts, self._size = [rest], len(rest)
        if self._size > self._limit:
            message = f"a line has more than {self._limit} bytes"
            raise ValueError(message)
        return [line for line in lines if line.strip()]


@final
class EventLines:
    """The events of a stream, one on a line, read in slices. Not thread-safe."""

    def __init__(self, loads: Loads, max_line: int) -> None:
        """Begin with none; *loads* reads the JSON of one, which may have *max_line* bytes."""
        self._loads = loads
        self._max_line = max_line
        self.begin()

    def begin(self) -> None:
        """Begin anew with another stream."""
        self._splitter = LineSplitter(self._max_line)
        self._lines: deque[bytes] = deque()

    def drop(self) -> None:
        """Leave aside what is not read yet."""
        self._lines.clear()

    @property
    def pending(self) -> bool:
        """Whether an event has begun and not ended."""
        return self._splitter.pending

    @property
    def unread(self) -> bool:
        """Whether there are events that are not read yet."""
        return bool(self._lines)

    def feed(self, data: bytes) -> None:
        """
        Take a piece of the stream, cut anywhere.

        Raises:
            ValueError: An event is longer than allowed.
        """
        self._lines.extend(self._splitter.feed(data))

    def read(self) -> Iterator[tuple[object, Any]]:
        """
        Read on, a slice: the type of each event, and its object.

        What is no event is an error of reading JSON, or of looking into a document of another shape.
        """
        size = count = 0
        while self._lines and count < _SLICE and size < _SLICE_BYTES:
            line = self._lines.popleft()
            count, size = count + 1, size + len(line)
            event = self._loads(line)
            yield event["type"], event["object"]
