"""How the texts of values show what must not get into logs: prompts, tokens, values of headers, queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["show_length", "show_names", "show_path", "without_query"]


def show_length(value: Sequence[Any] | memoryview | None) -> str:
    """Show how long a secret is; None as it is."""
    return "None" if value is None else f"<{len(value)} long>"


def show_names(values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> str:
    """Show the names of headers or of metadata, and none of the values."""
    return f"<{', '.join(map(str, dict(values)))}>"


def show_path(path: str) -> str:
    """Show a path without its query."""
    return repr(without_query(path))


def without_query(path: str) -> str:
    """Give *path* without its query, which may hold keys."""
    return path.partition("?")[0]
