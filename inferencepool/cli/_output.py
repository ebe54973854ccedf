"""What commands print for people: one line per finding."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

__all__ = ["columns", "one_line", "report"]


def columns(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Lay out *rows* in columns, the first to the left and the others to the right, with an indent."""
    laid = list(rows)
    widths = [max(map(len, column)) for column in zip(*laid, strict=True)]
    for row in laid:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(["", row[0].ljust(len(first)), *others]).rstrip()


def one_line(text: str) -> str:
    """Escape line breaks and control characters, which names in a file may hold, so that *text* stays one line."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def report(text: str, prefix: str = "inferencepool: ") -> None:
    """Print each line of *text* to standard error, with *prefix* before it."""
    for line in text.split("\n"):
        print(one_line(f"{prefix}{line}"), file=sys.stderr)
