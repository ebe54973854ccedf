"""Bodies in pieces, and the status of a response."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["split", "to_status"]

_STATUS = re.compile("[1-5][0-9][0-9]")


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
