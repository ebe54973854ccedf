"""The JSON of a page, decoded a piece at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, final

from inferencepool.adapters.bodies import Loads

__all__ = ["PageSlices"]

# Bytes that are decoded before others have their turn; shorter pages are decoded whole.
_SLICE: Final = 256 * 1024
# Bytes of what stands before the items.
_MAX_HEAD: Final = 64 * 1024
# Places in a row that look like the end of an item, and are inside of one.
_MAX_TRIES: Final = 16
_FIRST_ITEM: Final = re.compile(rb'"items"\s*:\s*\[\s*(?=(\{\s*"[^"\\]{1,100}"\s*:))')


@final
class PageSlices:
    """
    A page of a list as documents, each of which is that page with some of its items.

    Decoders of JSON run to their end, however long that takes. So a page is cut where an item ends and one that begins
    with the same key as the first one follows: servers write all items in one order. That a cut is between two items is
    never guessed: what stands before it is decoded as the page's beginning, closed by ``]}``, and that is JSON only
    there. Not thread-safe.

    Attributes:
        ended: Whether all was given; what is beside the items (the metadata) is that of the last document.
    """

    def __init__(self, body: bytes, loads: Loads, max_item: int) -> None:
        """
        Begin with a page.

        Args:
            body: The page.
            loads: Decodes JSON.
            max_item: Bytes of an item, at most.
        """
        self.ended = False
        self._body = body
        self._loads = loads
        self._max_item = max_item
        self._head = b""
        self._border: re.Pattern[bytes] | None = None
        self._at = self._goal = self._tries = 0

    def read(self) -> Mapping[str, Any] | None:
        """
        Decode the next piece, in O(bytes of a slice or of one item); None where that takes another step.

        Raises:
            ValueError: It is no JSON, or cannot be cut into pieces.
        """
        if self._border is None:
            if len(self._body) <= _SLICE:
                return self._read_rest()
            self._border = self._begin()
        found = self._border.search(self._body, self._goal, self._goal + self._max_item)
        if found is None:
            return self._read_rest()
        try:
            document: Mapping[str, Any] = self._loads(self._head + self._body[self._at : found.start() + 1] + b"]}")
        except ValueError:
            self._tries += 1
            if self._tries == _MAX_TRIES:
                raise
            self._goal = found.start(1)
            return None
        self._at = found.start(1)
        self._goal, self._tries = self._at + _SLICE, 0
        return document

    def _begin(self) -> re.Pattern[bytes]:
        """Find the first item, and what the border between two items looks like."""
        found = _FIRST_ITEM.search(self._body, 0, _MAX_HEAD)
        if found is None:
            message = f"it has more than {_SLICE} bytes, and no items that begin in the first {_MAX_HEAD}"
            raise ValueError(message)
        self._at = found.end()
        self._head = self._body[: self._at]
        self._goal = self._at + _SLICE
        return re.compile(rb"\}\s*,\s*(" + re.escape(found[1]) + b")")

    def _read_rest(self) -> Mapping[str, Any]:
        if len(self._body) - self._at > _SLICE + self._max_item:
            message = f"one of its items has more than {self._max_item} bytes"
            raise ValueError(message)
        document: Mapping[str, Any] = self._loads(self._head + self._body[self._at :])
        self.ended = True
        return document
