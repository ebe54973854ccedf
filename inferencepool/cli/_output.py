"""What commands print for people: one line per finding."""

from __future__ import annotations

import sys

__all__ = ["one_line", "report"]


def one_line(text: str) -> str:
    """Escape line breaks and control characters, which names in a file may hold, so that *text* stays one line."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def report(text: str, prefix: str = "inferencepool: ") -> None:
    """Print each line of *text* to standard error, with *prefix* before it."""
    for line in text.split("\n"):
        print(one_line(f"{prefix}{line}"), file=sys.stderr)
