"""Lines out of bytes that are cut anywhere."""

from __future__ import annotations

from typing import final

__all__ = ["LineSplitter"]


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
