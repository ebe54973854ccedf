"""What one endpoint is believed to hold."""

from __future__ import annotations

from collections import OrderedDict

import attrs

from inferencepool.model import EndpointSet
from inferencepool.prefix._forest import Node

__all__ = ["Holding"]


@attrs.define(eq=False)
class Holding:
    """
    The prompt ends of one endpoint, least recently used first.

    Ends are in order and not blocks: a prompt is used with all its blocks, so those that were used last with one prompt
    go one after the other, from the end towards the front.

    Attributes:
        slot: The endpoint's slot.
        bit: The set of this slot alone.
        capacity: How many blocks it has room for.
        ends: Node that a prompt ends at to the tick at which it was last used. No prompt that a younger one begins with
            is there: all its blocks are younger too. Not a dict, which gets slow at taking off its first entry.
        used: Blocks it holds: those of all nodes from these ends up to the roots.
    """

    slot: int
    bit: EndpointSet
    capacity: int
    ends: OrderedDict[Node, int] = attrs.field(factory=OrderedDict)
    used: int = 0

    def oldest_tick(self) -> int | None:
        """Tell when the prompt that was left unused longest was used last; None where there is none."""
        return next(iter(self.ends.values()), None)
