"""A clock that stands still until a test moves it."""

from __future__ import annotations

from math import isfinite
from typing import final

from inferencepool.errors import ConfigurationError

__all__ = ["ManualClock"]


@final
class ManualClock:
    """
    A clock for the ``clock`` argument of registries, schedulers and the like: called, it tells the time in seconds.

    Not thread-safe: one thread moves it.
    """

    def __init__(self, start: float = 0.0) -> None:
        """Begin at *start* seconds."""
        self._now = start

    def __call__(self) -> float:
        """Tell the time, in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """
        Let *seconds* pass.

        Raises:
            ConfigurationError: *seconds* is negative or not finite: time does not run backwards.
        """
        if not (isfinite(seconds) and seconds >= 0):
            message = f"manual clock: advance: {seconds!r} is not a finite number of seconds of 0 or more"
            raise ConfigurationError(message)
        self._now += seconds

    def __repr__(self) -> str:
        return f"<ManualClock at {self._now:g} s>"
