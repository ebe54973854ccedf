"""A request that is being read, a slice at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import attrs

from inferencepool.adapters.bodies import Budget, Steps
from inferencepool.adapters.extproc._decision import Decision, Inquiry
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
        body: Its body, as far as that is read.
        budget: How much of its prompt is read.
        answer: Says what comes of it: given the decision, and the body to send instead, if any.
    """

    body: bytes | None
    budget: Budget
    answer: Callable[[Decision, bytes | None], Sequence[Answer]]
    _steps: Steps[Inquiry]

    def go_on(self, clock: Callable[[], float]) -> Inquiry | None:
        """
        Read for about 2 ms of *clock*.

        Returns:
            What the request asks for; None if there is more to read.

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
            inquiry: Inquiry = stop.value
            return inquiry
        return None
