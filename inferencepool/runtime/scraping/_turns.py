"""The pages that take long to read: a slice of one, then whatever else there is to do, then a slice of the next."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol, final

__all__ = ["Reading", "Turns"]

# Most bytes of the pages that wait, as they came.
_MOST_BYTES: Final = 64 * 1024 * 1024


class Reading(Protocol):
    """**Protocol:** a page that is being read."""

    def step(self) -> bool:
        """Read a slice, which takes about a millisecond; False where nothing is left to read."""
        ...


@final
class Turns:
    """
    Reads pages in turn, one slice in each round of the event loop, however many wait.

    The event loop's thread guards it.
    """

    def __init__(self) -> None:
        """Wait for pages."""
        self._waiting: deque[tuple[Reading, int]] = deque()
        self._bytes = 0

    def add(self, reading: Reading, size: int) -> bool:
        """Read on with *reading*, whose page has *size* bytes; False where too many bytes wait already."""
        if self._waiting and self._bytes + size > _MOST_BYTES:
            return False
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._turn)
        self._waiting.append((reading, size))
        self._bytes += size
        return True

    def _turn(self) -> None:
        reading, size = self._waiting.popleft()
        is_left = False
        try:
            is_left = reading.step()
        finally:
            # Whatever goes wrong with one page, the others are read on.
            if is_left:
                self._waiting.append((reading, size))
            else:
                self._bytes -= size
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._turn)
