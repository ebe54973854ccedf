"""Strategies that call the picker that is asking them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

from inferencepool.errors import StrategyError
from inferencepool.scheduling._profile import SchedulingProfile
from inferencepool.scheduling._strategies import strategy_name

__all__ = ["blame_for_recursion", "who_calls"]

_OWN = ("inferencepool.scheduling.", "inferencepool.model.", "inferencepool.picker", "inferencepool._lock")


def who_calls(profile: SchedulingProfile, is_asking: Callable[[FrameType], bool]) -> str:
    """
    Name the strategy, if any, through which this thread came here, in O(frames).

    To look when a lock is found taken costs a pick nothing; to note who holds it would cost every pick.

    Args:
        profile: Has the names.
        is_asking: Tells of a frame whether it asks strategies.

    Returns:
        The name; empty where no frame of this thread asks strategies.
    """
    asked: FrameType | None = None
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - documented, and `inspect` costs a hundred times as much
    while frame is not None:
        if asked is not None and is_asking(frame):
            return _name_of(profile, asked)
        if not frame.f_globals.get("__name__", "").startswith(_OWN):
            asked = frame
        frame = frame.f_back
    return ""


def blame_for_recursion(profile: SchedulingProfile, picker: object) -> None:
    """
    Look for a strategy that calls ``picker.pick`` for every pick, where such calls are nested too deep.

    Raises:
        StrategyError: There is one; the message has its name.
    """

    def picks(frame: FrameType) -> bool:
        return frame.f_code.co_name == "pick" and frame.f_locals.get("self") is picker

    name = who_calls(profile, picks)
    if name:
        message = f"profile {profile.name}: {name}: calls the picker for every pick"
        raise StrategyError(message) from None


def _name_of(profile: SchedulingProfile, frame: FrameType) -> str:
    code = frame.f_code
    strategy = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    for item in profile.filters:
        if item.filter is strategy:
            return f"filter {item.name}"
    for scorer in profile.scorers:
        if scorer.scorer is strategy:
            return f"scorer {scorer.name}"
    if strategy is profile.picker:
        return f"picker {strategy_name(strategy)}"
    return strategy_name(strategy) if any(strategy is part for part in profile.parts) else code.co_qualname
