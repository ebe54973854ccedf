"""A request that is being read, a slice at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, TypeGuard, final

import attrs

from inferencepool.adapters.bodies import BodyParsers, Budget, ParsedBody, Steps
from inferencepool.adapters.extproc._chunks import Pieces
from inferencepool.adapters.extproc._decision import Decision
from inferencepool.adapters.extproc._messages import Answer, BodyMode
from inferencepool.errors import InvalidRequestError

__all__ = ["Answering", "Reading", "is_small", "read_at_once"]

_TINY = 2 << 10
_SMALL = 16 << 10
_MOST_OBJECTS = 1_000

Answering: TypeAlias = Callable[[Decision, bytes, Pieces | None], Iterator[Answer]]
"""Says what comes of a request: given the decision, the body, and what to send instead, if anything."""

# How long a slice takes, and how many steps it has at most, because a clock may stand still.
_SLICE_SECONDS = 0.002
_SLICE_STEPS = 16


def is_small(body: bytes | Steps[bytes], headers: Mapping[str, str]) -> TypeGuard[bytes]:
    """Tell whether a body may be read in one go: whatever is in it takes a few milliseconds at most."""
    if not isinstance(body, bytes) or len(body) > _SMALL or "content-encoding" in headers:
        return False
    return len(body) <= _TINY or body.count(b"{") <= _MOST_OBJECTS


def read_at_once(parsers: BodyParsers, headers: Mapping[str, str], body: bytes, *, may_be_cut: bool) -> ParsedBody:
    """
    Read a body that is small.

    Raises:
        InvalidRequestError: The body cannot be used, and its rest was not cut off.
    """
    try:
        return parsers.parse(headers, body)
    except InvalidRequestError as error:
        if not may_be_cut:
            raise
        return _perhaps_cut(parsers, headers, error)


def _perhaps_cut(parsers: BodyParsers, headers: Mapping[str, str], error: InvalidRequestError) -> ParsedBody:
    """Give what is known of a body that was refused for an *error*, which may be that the proxy cut it."""
    mode = BodyMode.BUFFERED_PARTIAL.name
    return parsers.unread(headers, f"{error}, unless the proxy cut the body in the mode {mode}")


@final
@attrs.define(eq=False)
class Reading:
    """
    A request that is being read. Its session guards it.

    Attributes:
        budget: How much of its prompt is read.
        answer: Says what comes of it.
        may_be_cut: Whether the rest of the body may have been cut off.
        body: Its body, once it was put together.
        parsed: What the body tells, once it was read.
    """

    _parsers: BodyParsers
    _headers: Mapping[str, str]
    _kept: bytes | Steps[bytes]
    budget: Budget
    answer: Answering
    may_be_cut: bool
    body: bytes = b""
    parsed: ParsedBody | None = None
    _steps: Steps[ParsedBody] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._steps = self._read()

    def _read(self) -> Steps[ParsedBody]:
        self.body = self._kept if isinstance(self._kept, bytes) else (yield from self._kept)
        return (yield from self._parsers.read(self._headers, self.body, self.budget))

    def go_on(self, clock: Callable[[], float]) -> bool:
        """
        Read for about 2 ms of *clock*.

        Returns:
            Whether it was read.

        Raises:
            InvalidRequestError: The body cannot be used, and its rest was not cut off.
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
        except InvalidRequestError as error:
            if not self.may_be_cut:
                raise
            self.parsed = _perhaps_cut(self._parsers, self._headers, error)
            return True
        return False

    def stop(self) -> None:
        """Read no further. Its steps refer to it, so that the collector would have to find a long body otherwise."""
        self._steps.close()
