"""Finding the few lines of a metrics page that matter, in slices, without parsing the others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, final

import attrs

from inferencepool.adapters.exposition._candidates import Candidates
from inferencepool.adapters.exposition._engines import Engine
from inferencepool.adapters.exposition._grammar import Cursor, ExpositionError, escape
from inferencepool.adapters.exposition._plain import read_plain
from inferencepool.adapters.exposition._samples import (
    MAX_LINE_SIZE,
    Sample,
    check_line,
    is_open_metrics,
    read_comment,
    read_sample,
)
from inferencepool.errors import InvalidMetricsError

__all__ = ["MAX_LINES", "Line", "Search"]

#: Most lines that are kept to remember where things stand, and most bytes of them.
MAX_LINES: Final = 256
_MOST_BYTES: Final = 64 * 1024

_TAIL: Final = 16
_ABOUT: Final = frozenset({"HELP", "TYPE", "UNIT"})
_COMMENT: Final = re.compile(rb"[ \t]*+#")
_TYPE: Final = re.compile(rb"[ \t]*+#[ \t]++TYPE[ \t]")
_PLAIN_TYPE: Final = re.compile(rb"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*+) ([a-z]++)\r?+")
# What is looked at of a comment, to see which metric it describes.
_GLANCE: Final = 1024
_LONGEST_CHARACTER: Final = 4
# How far names are looked for at a time.
_WINDOW: Final = 128 * 1024
# A slice ends when this much was done. One is about what a microsecond is enough for: a window, a line, so many bytes.
_SLICE: Final = 1000
_WINDOW_WORK: Final = 250
_PLAIN_WORK, _PLAIN_BYTES = 5, 32
_EXACT_WORK, _EXACT_BYTES = 40, 3
_COMMENT_WORK, _COMMENT_BYTES = 2, 4096


@attrs.define(eq=False)
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


@final
class Search:
    """
    A search for every line of a page that names one of an engine's metrics, in a sample, a comment or anywhere else.

    A name stands in a page as it is, or, inside quotes, escaped in the only way that there is. So the samples among
    these lines are those that the exact parser finds, on every page that it accepts. Lines that hold none of the names
    are not looked at, and need not make sense; the same goes for help texts, and, behind the lines that are kept, for a
    label that is given twice in a series that does not count. Time is linear in the page.

    Attributes:
        lines: The lines; None where there are more than are kept.
        candidates: The series that count.
    """

    def __init__(self, page: bytes, engine: Engine) -> None:
        """Search *page*, which ends with a line end or with ``# EOF``."""
        self.lines: list[Line] | None = []
        self.candidates: Candidates[Sample] = Candidates(engine)
        self._page = page
        self._names = engine.names
        self._types: dict[str, str] = {}
        self._open_metrics = is_open_metrics(page[-_TAIL:].decode("utf-8", "replace"))
        self._kept = 0

    def steps(self) -> Iterator[None]:
        """
        Search, one slice with each step, which takes about a millisecond.

        Raises:
            InvalidMetricsError: One of the lines found is not in the text format; the message names it.
        """
        work = 0
        for start, end in self._spans():
            if start < 0:
                work += _WINDOW_WORK
            else:
                try:
                    work += self._read(start, end)
                except (ExpositionError, UnicodeDecodeError) as error:
                    number = self._page.count(b"\n", 0, start) + 1
                    message = f"metrics page, line {number}: {error} in {self._page[start : start + 80]!r}"
                    raise InvalidMetricsError(message) from None
            if work >= _SLICE:
                work = 0
                yield

    def _spans(self) -> Iterator[tuple[int, int]]:
        """Give the lines that hold a name, in order, and (-1, -1) at the end of each window."""
        page, names = self._page, [escape(name).encode() for name in self._names]
        position = 0
        for window in range(0, len(page), _WINDOW):
            limits = [(name, window + _WINDOW + len(name) - 1) for name in names]
            found = {}
            for name, limit in limits:
                found[name] = page.find(name, max(window, position), limit)
            while (at := min([at for at in found.values() if at >= 0], default=-1)) >= 0:
                start = page.rfind(b"\n", position, at) + 1 or position
                end = page.find(b"\n", at)
                end = end if end >= 0 else len(page)
                yield start, end
                position = end + 1
                for name, limit in limits:
                    if 0 <= found[name] < position:
                        found[name] = page.find(name, position, limit)
            yield -1, -1

    def _read(self, start: int, end: int) -> int:
        """Read a line; give the work that it was."""
        line = read_plain(self._page, start, end) if end - start <= MAX_LINE_SIZE else None
        if line is None and _COMMENT.match(self._page, start, end):
            return self._read_comment(start, end)
        if line is not None and line.timestamp is not None and self._open_metrics:
            # Seconds there.
            line = None
        work = _PLAIN_WORK + (end - start) // _PLAIN_BYTES
        sample = None
        if line is not None:
            if self.lines is None and not self.candidates.may_count(line):
                return work
            sample = line.sample(self._types)
        if sample is None:
            self._check_length(start, end)
            work += _EXACT_WORK + (end - start) // _EXACT_BYTES
            cursor = Cursor(self._text(start, end))
            cursor.skip_blanks()
            sample = read_sample(cursor, self._types, open_metrics=self._open_metrics)
        self.candidates.offer(sample)
        self._keep(Line(start, end, sample.name, sample))
        return work + _PLAIN_WORK

    def _read_comment(self, start: int, end: int) -> int:
        work = _COMMENT_WORK + (end - start) // _COMMENT_BYTES
        is_type = _TYPE.match(self._page, start, end) is not None
        if self.lines is None and (not is_type or self._is_known(start, end)):
            return work
        name = _subject(self._page[start : min(end, start + _GLANCE)].decode("utf-8", "replace"))
        if is_type and name in self._names:
            self._check_length(start, end)
            read_comment(self._text(start, end), self._types)
        self._keep(Line(start, end, name))
        return work + _EXACT_WORK

    def _is_known(self, start: int, end: int) -> bool:
        """Tell whether a comment surely declares a type as it was declared before."""
        match = _PLAIN_TYPE.fullmatch(self._page, start, end)
        return match is not None and self._types.get(match[1].decode("ascii")) == match[2].decode("ascii")

    def _keep(self, line: Line) -> None:
        if self.lines is None:
            return
        self.lines.append(line)
        self._kept += line.end - line.start
        if len(self.lines) > MAX_LINES or self._kept > _MOST_BYTES:
            self.lines = None

    def _check_length(self, start: int, end: int) -> None:
        # Before anything is made of it.
        if end - start > MAX_LINE_SIZE * _LONGEST_CHARACTER:
            check_line(self._page[start : start + MAX_LINE_SIZE + 1].decode("latin-1"))

    def _text(self, start: int, end: int) -> str:
        return self._page[start:end].decode().removesuffix("\r")


def _subject(comment: str) -> str:
    """Give the metric that a comment describes."""
    cursor = Cursor(comment)
    cursor.skip_blanks()
    if cursor.read_word() != "#" or cursor.read_word() not in _ABOUT:
        return ""
    try:
        return cursor.read_name()
    except ExpositionError:
        return ""
