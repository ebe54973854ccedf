"""Bodies in pieces, and the status of a response."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from typing import final

__all__ = ["Chunks", "split", "to_status"]

_STATUS = re.compile("[1-5][0-9][0-9]")


@final
class Chunks:
    """
    The chunks of a body that came so far. Its session guards it.

    They are put together as they come: at the end of a large body that would be a long step.

    Attributes:
        count: How many there are.
    """

    __slots__ = ("_first", "_joined", "count")

    def __init__(self) -> None:
        self.count = 0
        self._first = b""
        self._joined: BytesIO | None = None

    def add(self, chunk: bytes) -> None:
        """Take the next chunk."""
        self.count += 1
        if self.count == 1:
            self._first = chunk
            return
        if self._joined is None:
            self._joined = BytesIO()
            self._joined.write(self._first)
            self._first = b""
        self._joined.write(chunk)

    def take(self) -> bytes:
        """Give the body, and begin anew. That copies nothing."""
        body = self._first if self._joined is None else self._joined.getvalue()
        self.clear()
        return body

    def clear(self) -> None:
        """Forget what came."""
        self.count, self._first, self._joined = 0, b"", None


def split(body: bytes, size: int) -> Iterator[tuple[bytes | memoryview, bool]]:
    """Cut *body* into chunks of at most *size* bytes, each with whether it is the last; an empty one gives one."""
    if len(body) <= size:
        yield body, True
        return
    view = memoryview(body)
    for start in range(0, len(body), size):
        yield view[start : start + size], start + size >= len(body)


def to_status(text: str) -> int:
    """Read an HTTP status; 0 where there is none."""
    return int(text) if _STATUS.fullmatch(text) else 0
