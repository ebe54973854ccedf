"""What is asked for, and what is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import attrs

__all__ = ["Page", "PageHandler", "PageRequest"]


@attrs.frozen(kw_only=True)
class PageRequest:
    """
    A request for a page.

    Attributes:
        path: Its path, decoded and without the query.
        query: The query's names and values, decoded; of a name that comes twice, the last.
        headers: Names in lower case; of a name that comes twice, the last.
        local_address: The address of this machine that the connection came in at.
    """

    path: str
    query: Mapping[str, str] = attrs.field(factory=dict)
    headers: Mapping[str, str] = attrs.field(factory=dict)
    local_address: str = ""


@attrs.frozen
class Page:
    """
    A page.

    Attributes:
        body: Its content.
        content_type: Of which type that is.
        status: HTTP status.
        headers: Further headers.
    """

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def text(cls, status: int, text: str, *headers: tuple[str, str]) -> Page:
        """Make a page of one line of *text*."""
        return cls(f"{text}\n".encode(), status=status, headers=headers)


PageHandler: TypeAlias = Callable[[PageRequest], Page]
"""Makes a page. Called in a thread beside the event loop, one call at a time; what it raises becomes a status 500."""
