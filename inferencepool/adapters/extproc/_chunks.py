"""Bodies in pieces, and the status of a response."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from typing import TypeAlias, final

from inferencepool.adapters.bodies import Steps

__all__ = ["Chunks", "Pieces", "split", "to_status"]

Pieces: TypeAlias = tuple[bytes | memoryview, ...]
"""A body in pieces that follow each other."""

# Bytes that are copied in one step: most of the time goes to the system, which gives page after page for them.
_COPIED = 1 << 20
_STATUS = re.compile("[1-5][0-9][0-9]")


@final
class Chunks:
    """
    The chunks of a body that came so far. Its session guards it.

    Short ones are put together as they come, so that many of them take no more memory than one. Long ones stay as they
    are: to copy them would be a long step.

    Attributes:
        count: How many there are.
    """

    __slots__ = ("_last", "_long", "count")

    def __init__(self) -> None:
        self.count = 0
        self._long: list[bytes | memoryview] = []
        self._last: bytes | BytesIO = b""

    def add(self, chunk: bytes | memoryview) -> None:
        """Take the next chunk."""
        self.count += 1
        if isinstance(chunk, memoryview):
            self._set_apart()
            self._long.append(chunk)
        elif not self._last:
            self._last = chunk
        elif chunk:
            if isinstance(self._last, bytes):
                first, self._last = self._last, BytesIO()
                self._last.write(first)
            self._last.write(chunk)

    def _set_apart(self) -> None:
        last = self._last
        if last:
            self._long.append(last if isinstance(last, bytes) else last.getvalue())
            self._last = b""

    def take(self) -> bytes | Steps[bytes]:
        """Give the body, or the steps that put it together where it has long chunks, and begin anew."""
        if not self._long:
            body = self._last if isinstance(self._last, bytes) else self._last.getvalue()
            self.clear()
            return body
        self._set_apart()
        pieces = self._long
        self.clear()
        return _put_together(pieces)

    def clear(self) -> None:
        """Forget what came."""
        self.count, self._long, self._last = 0, [], b""


def _put_together(pieces: list[bytes | memoryview]) -> Steps[bytes]:
    """Copy *pieces* behind each other, and let go of each."""
    body = BytesIO()
    pieces.reverse()
    while pieces:
        piece = memoryview(pieces.pop())
        for start in range(0, len(piece), _COPIED):
            body.write(piece[start : start + _COPIED])
            yield
    return body.getvalue()


def split(body: bytes | memoryview, size: int) -> Iterator[tuple[bytes | memoryview, bool]]:
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
