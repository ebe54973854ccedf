"""A request that is being read, a slice at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, final

import attrs

from inferencepool.adapters.bodies import BodyParsers, Budget, ParsedBody, Steps
from inferencepool.adapters.extproc._decision import Decision
from inferencepool.adapters.extproc._messages import Answer
from inferencepool.errors import InvalidRequestError

__all__ = ["Answering", "Reading", "is_small", "read_at_once"]

_SMALL = 16 << 10

Answering: TypeAlias = Callable[[Decision, bytes | None], Iterator[Answer]]
"""Says what comes of a request: given the decision, and the body to send instead, if any."""

# How long a slice takes, and how many steps it has at most, because a clock may stand still.
_SLICE_SECONDS = 0.002
_SLICE_STEPS = 16


def is_small(headers: Mapping[str, str], body: bytes) -> bool:
    """Tell whether a body may be read in one go: whatever is in it takes a few milliseconds at most."""
    return len(body) <= _SMALL and "content-encoding" not in headers


def read_at_once(
    parsers: BodyParsers, headers: Mapping[str, str], body: bytes, *, may_be_cut: bool
) -> ParsedBody | None:
    """
    Read a body that is small; None if it cannot be read, and its rest may have been cut off.

    Raises:
        InvalidRequestError: The body cannot be used.
    """
    try:
        return parsers.parse(headers, body)
    except InvalidRequestError:
        if not may_be_cut:
            raise
        return None


@final
@attrs.define(eq=False)
class Reading:
    """
    A request that is being read. Its session guards it.

    Attributes:
        body: Its body; None once it turned out that its rest was cut off, so that nothing can be read.
        budget: How much of its prompt is read.
        answer: Says what comes of it.
        may_be_cut: Whether the rest of the body may have been cut off.
        parsed: What the body tells, once it was read.
    """

    body: bytes | None
    budget: Budget
    answer: Answering
    may_be_cut: bool
    _steps: Steps[ParsedBody]
    parsed: ParsedBody | None = None

    def go_on(self, clock: Callable[[], float]) -> bool:
        """
        Read for about 2 ms of *clock*.

        Returns:
            Whether it was read.

        Raises:
            InvalidRequestError: The body cannot be used.
        """
        steps = self._steps
        try:
            next(steps)
            end = clock() + _SLICE_SECONDS
            for _ in range(_SLICE_STEPS):
                if clock() >= end:
                    break
                next(steps)
        except StopIteration as stop:
            self.parsed = stop.value
            return True
        except InvalidRequestError:
            if not self.may_be_cut:
                raise
            self.body = None
            return True
        return False
