"""The nodes of prefix trees."""

from __future__ import annotations

from collections.abc import Hashable

import attrs

from inferencepool.model import EndpointSet

__all__ = ["Node", "Root"]


@attrs.define(eq=False, repr=False, weakref_slot=False)
class Node:
    """
    One piece of prompts that some endpoints hold.

    Attributes:
        key: The text between the parent and this node: one block or more.
        parent: The node above; None for the root of a space, and for a node that is no longer part of a tree.
        holders: All slots that hold the whole of *key*, and so everything above it.
        children: First block of a child's key to the child; None where there is none.
        claims: How often a slot holds this node beyond once. A slot holds it once for each child that it holds, and
            once if one of its prompts ends here.
        ends: Slots of which a remembered prompt ends here.
    """

    key: bytes
    parent: Node | None
    holders: EndpointSet
    children: dict[bytes, Node] | None = None
    claims: dict[int, int] | None = None
    ends: int = 0

    def claim(self, slot: int) -> None:
        """Count one more reason for which *slot*, a holder, holds this node."""
        if self.claims is None:
            self.claims = {slot: 1}
        else:
            self.claims[slot] = self.claims.get(slot, 0) + 1

    def unclaim(self, slot: int) -> bool:
        """Count one reason less; False, and nothing has changed, where it is the last one."""
        claims = self.claims
        if claims is None or slot not in claims:
            return False
        if claims[slot] > 1:
            claims[slot] -= 1
        elif len(claims) > 1:
            del claims[slot]
        else:
            self.claims = None
        return True


@attrs.define(eq=False, repr=False, weakref_slot=False)
class Root(Node):
    """The top of a space: an empty key, held by nobody."""

    space: Hashable = ()
    size: int = 0
