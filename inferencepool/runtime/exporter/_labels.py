"""A bound on how many values a label takes: clients choose some of them, and no series is ever forgotten."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, final

__all__ = ["OTHER", "BoundedLabel"]

OTHER: Final = "other"
"""What stands for all values beyond the bound."""

# Longer values are told as `OTHER`: each stands on the page some seventy times, and nothing that is told is forgotten.
_LONGEST: Final = 256


def _nothing() -> Collection[str]:
    return ()


@final
class BoundedLabel:
    """
    The values of a label: the first ones as they are, all later ones and those that are long as `OTHER`.

    What no text format can say, such as half of a surrogate pair, is shown escaped. Its owner's lock guards it.

    Attributes:
        exempt: Gives the values that are always told as they are, and do not count.
    """

    def __init__(self, limit: int) -> None:
        """Admit *limit* values."""
        self.exempt: Callable[[], Collection[str]] = _nothing
        self._limit = limit
        self._admitted: set[str] = set()

    def bound(self, value: str) -> str:
        """Give *value*, or what stands for it. Nothing, where a request told none, is always told as it is."""
        if not value or value in self._admitted or value in self.exempt():
            return value
        value = value[: _LONGEST + 1].encode("utf-8", "backslashreplace").decode()
        if value in self._admitted:
            return value
        if len(self._admitted) >= self._limit or len(value) > _LONGEST:
            return OTHER
        self._admitted.add(value)
        return value
