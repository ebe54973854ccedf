"""A bound on how many values a label takes: clients choose some of them, and no series is ever forgotten."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, final

__all__ = ["OTHER", "BoundedLabel"]

OTHER: Final = "other"
"""What stands for all values beyond the bound."""

# Longer values are told as `OTHER`: each stands on the page some seventy times, and nothing that is told is forgotten.
_LONGEST: Final = 256


@final
class BoundedLabel:
    """
    The values of a label: as many as there is place for as they are, all others and those that are long as `OTHER`.

    A value that is only claimed gets one of the places for claims, if one is free; one that is proven gets any place,
    and gives back that for claims. So claims alone leave room for what is proven later. What is told once is told from
    then on.

    What no text format can say, such as half of a surrogate pair, is shown escaped. Its owner's lock guards it.

    Attributes:
        exempt: Gives the values that are always told as they are, and do not count.
    """

    def __init__(self, limit: int, claims: int | None = None) -> None:
        """Admit *limit* values, of them *claims* that are not proven; None for no other limit."""
        self.exempt: Callable[[], Collection[str]] = tuple
        self._limit = limit
        self._claims = limit if claims is None else claims
        self._admitted: set[str] = set()
        self._claimed: set[str] = set()

    def bound(self, value: str) -> str:
        """Give *value*, or what stands for it. Nothing, where a request told none, is always told as it is."""
        if not value or value in self._admitted or value in self.exempt():
            return value
        value = _written(value)
        if value in self._admitted:
            return value
        if len(self._claimed) >= self._claims or not self._admit(value):
            return OTHER
        self._claimed.add(value)
        return value

    def prove(self, value: str) -> None:
        """Take note that somebody knows *value*, so that it is no mere claim; it is told from then on."""
        if value in self._admitted and value not in self._claimed:
            return
        if value and value not in self.exempt():
            value = _written(value)
            self._claimed.discard(value)
            self._admit(value)

    def is_proven(self, value: str) -> bool:
        """Tell whether *value* is told as it is, and is no mere claim."""
        return not value or (value in self._admitted and value not in self._claimed) or value in self.exempt()

    def _admit(self, value: str) -> bool:
        if len(value) > _LONGEST or (len(self._admitted) >= self._limit and value not in self._admitted):
            return False
        self._admitted.add(value)
        return True


def _written(value: str) -> str:
    return value[: _LONGEST + 1].encode("utf-8", "backslashreplace").decode()
