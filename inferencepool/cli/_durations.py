"""Durations on the command line, as Go programs spell them."""

from __future__ import annotations

import argparse
import re
from math import inf, isfinite

__all__ = ["duration", "duration_or_off"]

_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "\N{MICRO SIGN}s": 1e-6, "ns": 1e-9}
_NUMBER = r"(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})"
_PART = re.compile(rf"({_NUMBER})(h|ms|m|s|us|\u00b5s|ns)")
_PARTS = re.compile(rf"(?:{_PART.pattern})+")
_MOST = 10 * 365 * 24 * 3600


def duration(text: str) -> float:
    """
    Read a duration such as ``30s``, ``500ms`` or ``1m30s``, or a plain number of seconds.

    Returns:
        Seconds, from 0 to ten years.

    Raises:
        argparse.ArgumentTypeError: *text* is no such duration.
    """
    seconds = -1.0
    if re.fullmatch(_NUMBER, text):
        seconds = float(text)
    elif _PARTS.fullmatch(text):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    if not (isfinite(seconds) and 0 <= seconds <= _MOST):
        message = f"{text!r} is not a duration such as 30s, 500ms, 1m30s or 30 (seconds), of at most ten years"
        raise argparse.ArgumentTypeError(message)
    return seconds


def duration_or_off(text: str) -> float:
    """Read the same, or ``off``, which is infinite."""
    return inf if text == "off" else duration(text)
