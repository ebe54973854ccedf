"""Finding the few lines of a metrics page that matter, without parsing the others."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from inferencepool.adapters.exposition._grammar import Cursor, ExpositionError
from inferencepool.adapters.exposition._samples import Sample, is_open_metrics, read_comment, read_sample
from inferencepool.errors import InvalidMetricsError

__all__ = ["Line", "search"]

_TAIL = 16
_ABOUT = frozenset({"HELP", "TYPE", "UNIT"})


@attrs.frozen(eq=False)
class Line:
    """
    A line that names a metric.

    Attributes:
        start: Offset of its first byte.
        end: Offset of its line end.
        name: The metric that it is about; empty where it only mentions one.
        sample: What it holds; None for a comment.
    """

    start: int
    end: int
    name: str
    sample: Sample | None = None


def search(page: bytes, names: Iterable[bytes]) -> list[Line]:
    """
    Find every line of *page* that names one of the metrics *names*, in a sample, a comment or anywhere else.

    A name holds nothing that the format escapes, so a line of a metric holds the name as it is; all lines that hold it
    are read as the exact parser reads them. So the samples among them are those that the exact parser finds, on every
    page that it accepts. Lines that hold none of the names are not looked at, and need not make sense.

    Args:
        page: A page that ends with a line end or with ``# EOF``.
        names: Names of metrics.

    Raises:
        InvalidMetricsError: One of the lines found is not in the text format; the message names it.
    """
    open_metrics = is_open_metrics(page[-_TAIL:].decode("utf-8", "replace"))
    types: dict[str, str] = {}
    return [_read(page, start, end, types, open_metrics=open_metrics) for start, end in sorted(_spans(page, names))]


def _spans(page: bytes, names: Iterable[bytes]) -> set[tuple[int, int]]:
    """Find the lines that hold one of *names*; a page that is cut was refused before."""
    spans = set()
    for name in names:
        at = page.find(name)
        while at >= 0:
            end = page.find(b"\n", at)
            spans.add((page.rfind(b"\n", 0, at) + 1, end if end >= 0 else len(page)))
            at = page.find(name, end) if end >= 0 else -1
    return spans


def _read(page: bytes, start: int, end: int, types: dict[str, str], *, open_metrics: bool) -> Line:
    try:
        text = page[start:end].decode().removesuffix("\r")
        cursor = Cursor(text)
        cursor.skip_blanks()
        if cursor.peek() == "#":
            read_comment(text, types)
            return Line(start, end, _subject(text))
        sample = read_sample(cursor, types, open_metrics=open_metrics)
        return Line(start, end, sample.name, sample)
    except (ExpositionError, UnicodeDecodeError) as error:
        number = page.count(b"\n", 0, start) + 1
        message = f"metrics page, line {number}: {error} in {page[start : start + 80]!r}"
        raise InvalidMetricsError(message) from None


def _subject(comment: str) -> str:
    """Give the metric that a comment describes."""
    words = comment.split(maxsplit=3)
    return words[2].strip('"') if len(words) > 2 and words[0] == "#" and words[1] in _ABOUT else ""  # noqa: PLR2004
