"""The radix trees themselves: their shape, and who holds which part."""

from __future__ import annotations

from collections.abc import Hashable
from sys import getsizeof
from typing import TypeAlias

import attrs

from inferencepool.model import EndpointSet
from inferencepool.prefix._node import Node, Root

__all__ = ["Forest"]

# What things take besides the text, in bytes, on a 64-bit build of CPython: a node with its place among the children of
# its parent; a prompt end with its place in the endpoint's order, its tick and maybe a claim; a space with its root; a
# set besides its bits. Found by measuring; `benchmarks/prefix.py` compares their sum with the memory that is taken.
_NODE_BYTES = 240
_END_BYTES = 190
_SPACE_BYTES = 400
_SET_BYTES = 28


Levels: TypeAlias = list[tuple[int, EndpointSet]]
"""Pairs of a number of blocks and the slots that hold at least so many of a text, deepest first (see `PrefixMatch`)."""


@attrs.define(eq=False)
class Forest:
    """
    One radix tree for each space, its edges cut at block boundaries.

    What a node's holders hold shrinks going down: a child's holders are a subset of its parent's. A node below the root
    always has a holder, and there is a reason for it to be a node: a remembered prompt ends at it, or it has several
    children. So there are less than twice as many nodes as different prompt ends, whatever came and went.

    Knows nothing of recency or capacity. Not thread-safe: the tree's lock guards it.

    Attributes:
        width: Bytes of text in a block.
        roots: Space to the top of its tree; only spaces that hold something are there.
        nodes: Nodes below the roots.
        text: Bytes of all keys.
        ends: Prompt ends, summed over nodes.
        shared: Nodes with two or more holders; each has a set of its own.
        slots: How many slots there may be: one more than the highest that was seen.
        version: Changes whenever the shape does, so that a walk that was made before is known to be stale.
        loose: Nodes that may have lost their reason to be nodes, see `tidy`.
    """

    width: int
    roots: dict[Hashable, Root] = attrs.field(factory=dict)
    nodes: int = 0
    text: int = 0
    ends: int = 0
    shared: int = 0
    slots: int = 0
    version: int = 0
    loose: list[Node] = attrs.field(factory=list)
    _spaces_size: int = 0

    @property
    def size(self) -> int:
        """Bytes of memory that everything takes, estimated."""
        return (
            self.text
            + self.nodes * (_NODE_BYTES + self.width)
            + self.ends * _END_BYTES
            + self.shared * (_SET_BYTES + (self.slots >> 3))
            + self._spaces_size
        )

    @property
    def slack(self) -> int:
        """Bytes of *size* that `tidy` may free, at most."""
        return len(self.loose) * (_NODE_BYTES + self.width + _SET_BYTES + (self.slots >> 3))

    def walk(self, text: bytes, space: Hashable) -> tuple[Levels, Node | None, int, int]:
        """
        Follow *text* down the tree of *space*, block by block.

        Returns:
            Who holds how much of the text; the node where it ends, a root where nothing matches, None where the space
            is not known; how many bytes of the text match; and how many of them are in the key of that node, where it
            is not the whole key, else 0.
        """
        levels: Levels = []
        node: Node | None = self.roots.get(space)
        if node is None:
            return levels, None, 0, 0
        width, begins = self.width, text.startswith
        position, last, inside, known = 0, len(text) - width, 0, 0
        while position <= last and node.children is not None and not inside:
            child = node.children.get(text[position : position + width])
            if child is None:
                break
            node, key = child, child.key
            if node.holders != known:
                if known:
                    levels.append((position // width, known))
                known = node.holders
            if begins(key, position):
                position += len(key)
            else:
                inside = _common_bytes(key, text, position, width)
                position += inside
        if known:
            levels.append((position // width, known))
            levels.reverse()
        return levels, node, position, inside

    def add_space(self, space: Hashable) -> Root:
        """Give a root to *space*, which is not known; it must be extended."""
        size = _SPACE_BYTES + _size_of(space)
        root = self.roots[space] = Root(b"", None, 0, space=space, size=size)
        self._spaces_size += size
        return root

    def extend(self, node: Node, inside: int, tail: bytes) -> Node:
        """
        Give the node at which a text ends, a new one where there is none.

        Args:
            node: The last node of the text's path.
            inside: How much of that node's key the text has, where it is not the whole key; else 0.
            tail: What the text has beyond. A new node for it has no holder yet; it must get one.
        """
        if inside:
            node = self._split(node, inside)
        if not tail:
            return node
        leaf = Node(tail, node, 0)
        if node.children is None:
            node.children = {}
        node.children[tail[: self.width]] = leaf
        self.nodes += 1
        self.text += len(tail)
        self.version += 1
        return leaf

    def hold(self, node: Node, bit: EndpointSet) -> None:
        """Add the slot of *bit* to the holders of *node*."""
        holders = node.holders
        if not holders:
            # The very same int for all nodes of one endpoint alone: sets of large fleets are long.
            node.holders = bit
            return
        if holders.bit_count() == 1:
            self.shared += 1
        node.holders = holders | bit

    def release(self, node: Node, bit: EndpointSet) -> Node | None:
        """
        Take the slot of *bit* from the holders of *node*, which goes with the last one.

        Returns:
            The parent, which the slot holds for one reason less; None where that is a root.
        """
        parent = node.parent
        holders = node.holders = node.holders ^ bit
        if not holders:
            self._detach(node)
        else:
            if holders.bit_count() == 1:
                self.shared -= 1
            if node.children is not None:
                self.loose.append(node)
        return None if isinstance(parent, Root) else parent

    def shorten(self, node: Node, blocks: int, bit: EndpointSet) -> Node:
        """Let the slot of *bit* hold only the first *blocks* blocks of *node*; gives the node that ends there."""
        length = blocks * self.width
        if node.holders == bit:
            # Its children's holders would be a subset, and the slot holds none of them: there are none.
            self.text -= len(node.key) - length
            node.key = node.key[:length]
            self.version += 1
            return node
        upper = self._split(node, length)
        self.release(node, bit)
        return upper

    def add_end(self, node: Node) -> None:
        """Count a prompt end at *node*."""
        node.ends += 1
        self.ends += 1

    def drop_end(self, node: Node) -> None:
        """Count a prompt end less at *node*."""
        node.ends -= 1
        self.ends -= 1
        if node.children is not None:
            self.loose.append(node)

    def tidy(self) -> None:
        """
        Merge nodes that lost their reason to be nodes into the one below.

        At the end of an operation and not step by step: the texts of a long chain are then joined once, in all.
        """
        for node in self.loose:
            if _is_needless(node):
                lowest = node
                while _is_needless(lowest):
                    (lowest,) = (lowest.children or {}).values()
                self._absorb(lowest)
        self.loose.clear()

    def _split(self, node: Node, length: int) -> Node:
        """
        Cut the key of *node* after *length* bytes; gives the new upper part.

        The node stays the lower part: who remembers it as the end of a prompt remembers the same prompt.
        """
        key, width = node.key, self.width
        parent, siblings = _place_of(node)
        upper = siblings[key[:width]] = Node(key[:length], parent, node.holders, {key[length : length + width]: node})
        node.key, node.parent = key[length:], upper
        self.nodes += 1
        self.shared += node.holders.bit_count() > 1
        self.version += 1
        return upper

    def _absorb(self, node: Node) -> None:
        """Merge the needless nodes right above *node* into it."""
        keys = [node.key]
        above = node.parent
        while above is not None and _is_needless(above):
            keys.append(above.key)
            above.parent, above = None, above.parent
        merged = len(keys) - 1
        node.key, node.parent = b"".join(reversed(keys)), above
        _place_of(node)[1][node.key[: self.width]] = node
        self.nodes -= merged
        if node.holders.bit_count() > 1:
            self.shared -= merged
        self.version += 1

    def _detach(self, node: Node) -> None:
        """Take out a node that nobody holds, and its space with the last one."""
        parent, siblings = _place_of(node)
        key = node.key
        node.parent = None
        del siblings[key[: self.width]]
        self.nodes -= 1
        self.text -= len(key)
        self.version += 1
        if siblings:
            if len(siblings) == 1:
                self.loose.append(parent)
            return
        parent.children = None
        if isinstance(parent, Root):
            del self.roots[parent.space]
            self._spaces_size -= parent.size


def _place_of(node: Node) -> tuple[Node, dict[bytes, Node]]:
    """Give the parent of a node below a root, and all of its children."""
    parent = node.parent
    if parent is None or parent.children is None:
        message = "a node of a prefix tree lost its parent"
        raise AssertionError(message)
    return parent, parent.children


def _is_needless(node: Node) -> bool:
    """Tell whether nothing ends at a node of a tree and it leads to one other only; both then have equal holders."""
    return not node.ends and node.parent is not None and node.children is not None and len(node.children) == 1


def _common_bytes(key: bytes, text: bytes, position: int, width: int) -> int:
    """
    Find how many whole blocks of *key* the text has at *position*, in bytes, by bisection.

    The first block is known to be equal, and the whole key not to be there.
    """
    begins, view = text.startswith, memoryview(key)
    low, high = 1, min(len(key), len(text) - position + width) // width
    while high - low > 1:
        middle = (low + high) >> 1
        if begins(view[low * width : middle * width], position + low * width):
            low = middle
        else:
            high = middle
    return low * width


def _size_of(space: Hashable) -> int:
    """Estimate the bytes that the key of a space takes; of nested values only one level of a tuple counts."""
    return getsizeof(space) + (sum(map(getsizeof, space)) if isinstance(space, tuple) else 0)
