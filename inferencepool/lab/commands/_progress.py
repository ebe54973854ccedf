"""How far a long command is, on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, final

__all__ = ["ProgressBar"]

_WIDTH = 30
_EVERY = 0.1


@final
class ProgressBar:
    """
    One line on standard error that tells how far something is; nothing at all where that is no terminal.

    Used as a context manager: at the end the line is wiped.
    """

    def __init__(self, total: int) -> None:
        """Begin at nothing of *total*, 1 or more."""
        self._total = total
        self._shown = sys.stderr.isatty()
        self._next = 0.0
        self._length = 0

    def tell(self, done: int, label: str) -> None:
        """Show that *done* is done, and what is being done; at most a few times in a second."""
        now = time.monotonic()
        if not self._shown or now < self._next:
            return
        self._next = now + _EVERY
        share = min(1.0, done / self._total)
        full = round(share * _WIDTH)
        self._write(f"[{'#' * full}{'.' * (_WIDTH - full)}] {share:4.0%} {label}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._length:
            self._write("")
            self._write("")

    def _write(self, line: str) -> None:
        # Spaces wipe what is left of a longer line.
        sys.stderr.write(f"\r{line.ljust(self._length)}")
        sys.stderr.flush()
        self._length = len(line)
