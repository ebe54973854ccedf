"""What a server holds in memory for its clients."""

from __future__ import annotations

import attrs

__all__ = ["Holdings"]


@attrs.define(eq=False)
class Holdings:
    """
    What all connections of a server hold together. The event loop's thread guards it.

    Attributes:
        most: Bytes that may be held.
        unfinished: Bytes of requests that are not whole: messages in part, large headers, and what calls keep.
        queued: Bytes of answers that clients do not take yet.
    """

    most: int
    unfinished: int = 0
    queued: int = 0

    @property
    def room(self) -> int:
        """Bytes that may still be held; below 0 where it is too much already."""
        return self.most - self.unfinished - self.queued
