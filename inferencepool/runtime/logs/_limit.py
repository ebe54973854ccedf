"""No more lines of a kind than somebody would read."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import final

from inferencepool.errors import ConfigurationError
from inferencepool.runtime.logs._formats import FIELDS

__all__ = ["LineLimit"]


@final
class LineLimit(logging.Filter):
    """
    Lets a number of lines of each event pass per second, and counts those that it leaves out.

    A flood of refused requests costs no more than that: writing a line takes longer than refusing a request does. The
    first line that passes afterwards has the count as field ``left_out``; `take_left_out` gives what nobody told yet.

    The handler's lock guards it.
    """

    def __init__(self, events: Iterable[str], most: int = 1000, *, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Limit *events*; all others pass.

        Args:
            events: The events that there may be many of.
            most: Lines of each of them that pass per second; 1 or more.
            clock: Seconds that never run backwards.

        Raises:
            ConfigurationError: *most* is not allowed.
        """
        super().__init__()
        if most < 1:
            message = f"line limit: most: {most!r} is not a number of lines of 1 or more"
            raise ConfigurationError(message)
        self._most = most
        self._clock = clock
        self._began = dict.fromkeys(events, float("-inf"))
        self._passed = dict.fromkeys(self._began, 0)
        self._left_out = dict.fromkeys(self._began, 0)

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether *record* passes."""
        event: object = record.msg
        if not isinstance(event, str) or event not in self._began:
            return True
        now = self._clock()
        if now - self._began[event] >= 1:
            self._began[event], self._passed[event] = now, 0
        if self._passed[event] >= self._most:
            self._left_out[event] += 1
            return False
        self._passed[event] += 1
        if self._left_out[event]:
            record.__dict__[FIELDS] = {**record.__dict__.get(FIELDS, {}), "left_out": self._left_out[event]}
            self._left_out[event] = 0
        return True

    def take_left_out(self) -> dict[str, int]:
        """Give how many lines of each event were left out and not told yet, and forget them."""
        left_out = {event: count for event, count in self._left_out.items() if count}
        self._left_out = dict.fromkeys(self._left_out, 0)
        return left_out
