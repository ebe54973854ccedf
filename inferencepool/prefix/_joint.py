"""Several prompts of one request, looked up each for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, final

import attrs

from inferencepool.prefix._index import PrefixIndex, PrefixMatch
from inferencepool.prefix._levels import count_levels

__all__ = ["JointMatch"]


@final
@attrs.define(eq=False)
class JointMatch(PrefixMatch):
    """
    How much of several prompts is believed to be cached, and where: all blocks of all of them together.

    So the share ``blocks / total`` of an endpoint is the mean over the prompts, each weighted by its blocks, as the
    reference has it (`approximateprefix/plugin.go` in llm-d/llm-d-router). *levels* counts leading blocks of each.

    Attributes:
        parts: The match of each prompt, all by one index.
    """

    parts: Sequence[PrefixMatch]

    @classmethod
    def of(cls, parts: Sequence[PrefixMatch]) -> Self:
        """Sum *parts*, in O(levels of all parts) and as many set operations as sums have digits."""
        total = sum(part.total for part in parts)
        return cls(total, count_levels(step for part in parts for step in _steps(part)), parts)

    def insert(self, index: PrefixIndex, slot: int) -> None:
        """
        Remember in *index* that all the prompts went to *slot*.

        Raises:
            StrategyError: Another index made the parts, or *slot* is no slot.
        """
        for part in self.parts:
            index.insert(part, slot)


def _steps(match: PrefixMatch) -> Sequence[tuple[int, int]]:
    """Give how many blocks more each level has than the next, and who holds these."""
    levels = match.levels
    following = (*levels[1:], (0, 0))
    return [(blocks - less, members) for (blocks, members), (less, _) in zip(levels, following, strict=False)]
