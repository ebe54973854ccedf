"""A request that is being read, a slice at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import final

import attrs

from inferencepool.adapters.bodies import Budget, ParsedBody, Steps
from inferencepool.adapters.extproc._decision import Decision
from inferencepool.adapters.extproc._messages import Answer

__all__ = ["Reading"]

# How long a slice takes, and how many steps it has at most, because a clock may stand still.
_SLICE_SECONDS = 0.002
_SLICE_STEPS = 16


@final
@attrs.define(eq=False)
class Reading:
    """
    A request that is being read. Its session guards it.

    Attributes:
        body: Its body.
        budget: How much of its prompt is read.
        answer: Says what comes of it: given the decision, and the body to send instead, if any.
    """

    body: bytes
    budget: Budget
    answer: Callable[[Decision, bytes | None], Iterable[Answer]]
    _steps: Steps[ParsedBody]

    def go_on(self, clock: Callable[[], float]) -> ParsedBody | None:
        """
        Read for about 2 ms of *clock*.

        Returns:
            What the body tells; None if there is more to read.

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
            parsed: ParsedBody = stop.value
            return parsed
        return None
