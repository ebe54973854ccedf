"""How the body of a response becomes HTTP chunks: one for each line, unless a fault wants otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import final

from inferencepool.lab.apiserver._faults import Fault

__all__ = ["Framer"]


@final
class Framer:
    """
    Takes the lines of one body and gives its chunks.

    Attributes:
        is_cut: Whether the body breaks off here: no more lines may be fed.
    """

    def __init__(self, fault: Fault) -> None:
        """Frame as *fault* says."""
        self.is_cut = False
        self._fault = fault
        self._sizes = cycle(fault.chunks)
        self._lines = 0
        self._waiting: list[bytes] = []

    def feed(self, line: bytes) -> Iterator[bytes]:
        """Give the chunks that *line*, which ends with a line feed, completes."""
        cut = self._fault.cut
        if cut is not None and self._lines == cut.lines:
            line = line[: cut.bytes]
            self.is_cut = True
        self._lines += 1
        self._waiting.append(line)
        if self.is_cut or len(self._waiting) >= self._fault.batch:
            yield from self.flush()

    def flush(self) -> Iterator[bytes]:
        """Give what waits for more lines to share a chunk with."""
        text, self._waiting = b"".join(self._waiting), []
        if not self._fault.chunks:
            if text:
                yield text
            return
        while text:
            size = next(self._sizes)
            yield text[:size]
            text = text[size:]
