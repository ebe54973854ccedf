"""Where a server's metrics stand in its pages, remembered from one page to the next."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from math import inf
from operator import attrgetter
from typing import Self

import attrs

from inferencepool.adapters.exposition._grammar import Cursor, ExpositionError, escape
from inferencepool.adapters.exposition._plain import is_plain_series
from inferencepool.adapters.exposition._samples import Sample
from inferencepool.adapters.exposition._search import Line

__all__ = ["Passage", "RememberedSeries", "Use", "find_passages", "latest_of"]

# A value with nothing behind it; all else is for the exact parser.
_PLAIN = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# A line's last word, and what stands before it.
_LAST_WORD = re.compile(rb"(.*[ \t}])([^ \t}]+)", re.DOTALL)
# Most gauges are small counts: to look one up takes a third of the time of reading it.
_SMALL = {b"%d.0" % number: (float(number), number) for number in range(1024)}
# How far a passage may have moved to be found without searching the whole page.
_NEAR = 1024
# How many passages are looked for in the whole page when they are not where they were.
_MOST_LOST = 4
# Longest value, and longest comment behind a passage, that are remembered.
_LONGEST_VALUE = 64
_LONGEST_COMMENT = 4096
_BLANKS = " \t"
_VALUE = attrgetter("value")


class Use(Enum):
    """What the value of a series decides."""

    RULES = "rules"
    COUNT = "count"
    SHARE = "share"
    ADAPTERS = "adapters"
    NOTHING = "nothing"


@attrs.define(eq=False)
class RememberedSeries:
    """
    A series as it stood in the last page. Its value changes from page to page, all else stays.

    Attributes:
        text: The text of the value.
        count: The value as a whole number, where it is small.
        use: What the value decides.
        field: Which field of the load it decides, where it decides one alone.
    """

    name: str
    labels: Mapping[str, str]
    type: str
    value: float
    text: bytes
    timestamp: None = None
    line: int = 0
    use: Use = Use.RULES
    field: int = 0
    count: int | None = None

    def renew(self, text: bytes) -> bool:
        """Take over another value; False if *text* is more, or something else, than a plain number."""
        small = _SMALL.get(text)
        if small is not None:
            self.value, self.count = small
        else:
            if len(text) > _LONGEST_VALUE or not _PLAIN.fullmatch(text):
                return False
            value = float(text)
            if not -inf < value < inf:
                return False
            self.value, self.count = value, None
        self.text = text
        return True


@attrs.define(eq=False)
class Passage:
    """
    Lines of one or more metrics that stand together in a page.

    Everything but the values is remembered as bytes, from the line end before the first line to what follows the last.
    The passage is found again where those bytes are; that costs one comparison of bytes for each value, and a single
    one where nothing changed.

    Attributes:
        names: The metrics.
        series: The samples.
        at: Offset of its first byte.
        whole: All its bytes in the last page; empty where the lines around it have to be looked at each time.
        tail: The same where the last page ended with them, and nothing but more lines behind it could matter.
    """

    names: frozenset[str]
    series: list[RememberedSeries]
    at: int
    whole: bytes
    tail: bytes
    _lead: bytes
    _values: Sequence[tuple[RememberedSeries, bytes]]
    _ending: bytes
    _is_bare: bool
    _is_open: bool
    _may_be_last: bool
    _intruders: tuple[bytes, ...]

    @classmethod
    def remember(cls, page: bytes, lines: Sequence[Line], wanted: Iterable[str]) -> Self | None:
        """Remember *lines* of metrics that are *wanted*, one behind the other; None if they hold more than numbers."""
        ending = b"\r\n" if page.endswith(b"\r", 0, lines[-1].end) else b"\n"
        start = position = max(0, lines[0].start - 1)
        series: list[RememberedSeries] = []
        literals: list[bytes] = []
        for line in lines:
            if line.sample is None:
                continue
            found = _remember(page, line, line.sample, ending)
            if found is None:
                return None
            series.append(found)
            end = line.end + 1 - len(ending)
            literals.append(page[position : end - len(found.text)])
            position = end
        end = lines[-1].end + 1
        # Comments around it stay as they are, and tell that no other series of the metric came.
        is_bare = start > 0 and lines[0].sample is not None
        is_open = page[end : end + 1] != b"#"
        if not is_open:
            end = page.find(b"\n", end, end + _LONGEST_COMMENT) + 1
            if not end:
                return None
        literals.append(page[position:end])
        whole = b"" if is_bare or is_open else page[start:end]
        may_be_last = is_open and not is_bare and start > 0
        tail = page[start:] if may_be_last and end == len(page) else b""
        # Another series may be written in an unusual way, too.
        intruders = (*(escape(name).encode() for name in wanted), b" ", b"\t", b"{")
        names = frozenset(line.name for line in lines)
        lead, *literals = literals
        values = tuple(zip(series, literals, strict=True))
        form = (lead, values, ending, is_bare, is_open, may_be_last, intruders)
        return cls(names, series, start, whole, tail, *form)

    def follow(self, page: bytes, at: int, changed: list[RememberedSeries], lost: int = 0) -> bool:
        """
        Find the passage in the next *page*, at the offset *at* or near it, and take over the values.

        The series whose values changed are added to *changed*. False where the passage is not what it was, or is far
        from there: the whole page is searched for it unless as many as four were *lost* before.
        """
        lead = self._lead
        if not page.startswith(lead, at):
            at = self._locate(page, lead, at, lost)
            if at < 0:
                return False
            if self.whole and page.startswith(self.whole, at):
                self.at = at
                return True
        end = self._renew(page, at + len(lead), changed)
        if end < 0:
            return False
        if self.whole:
            self.whole = page[at:end]
        elif self._may_be_last and end == len(page):
            self.tail = page[at:]
        elif self._has_intruder(page, at, end):
            return False
        else:
            self.tail = b""
        self.at = at
        return True

    def _renew(self, page: bytes, position: int, changed: list[RememberedSeries]) -> int:
        """Take over the values from *position* on; give where the passage ends, -1 where it is not what it was."""
        ending = self._ending
        for series, literal in self._values:
            end = page.find(ending, position)
            text = page[position:end]
            if text != series.text:
                if not series.renew(text):
                    return -1
                changed.append(series)
            if not page.startswith(literal, end):
                return -1
            position = end + len(literal)
        return position

    def _has_intruder(self, page: bytes, at: int, end: int) -> bool:
        if self._is_open and page.startswith(self._intruders, end):
            return True
        return self._is_bare and page.startswith(self._intruders, page.rfind(b"\n", 0, at) + 1)

    @staticmethod
    def _locate(page: bytes, lead: bytes, at: int, lost: int) -> int:
        # Without the line end before it, it could be the end of another line.
        if not lead.startswith(b"\n"):
            return -1
        near = page.find(lead, max(0, at - _NEAR), at + len(lead) + _NEAR)
        return near if near >= 0 or lost >= _MOST_LOST else page.find(lead)


def latest_of(series: Iterable[RememberedSeries]) -> RememberedSeries:
    """Give the one that counts of an engine's LoRA series, as `latest_adapters` does; none is NaN."""
    return max(series, key=_VALUE)


def find_passages(page: bytes, lines: Iterable[Line], names: Collection[str]) -> list[Passage] | None:
    """
    Put the lines of the metrics *names* into passages, in the order of the page.

    The format wants all lines of a metric together; None where they are not, or where a value comes with more.
    """
    runs: list[list[Line]] = []
    seen: dict[str, list[Line]] = {}
    for line in lines:
        if line.name not in names:
            continue
        if not runs or runs[-1][-1].end + 1 != line.start:
            runs.append([])
        if seen.setdefault(line.name, runs[-1]) is not runs[-1]:
            return None
        runs[-1].append(line)
    passages = [Passage.remember(page, run, names) for run in runs]
    found = [passage for passage in passages if passage is not None]
    return found if len(found) == len(runs) else None


def _remember(page: bytes, line: Line, sample: Sample, ending: bytes) -> RememberedSeries | None:
    """Split a line before its value; None if there is more than a name, labels and a plain number."""
    raw = page[line.start : line.end + 1]
    match = _LAST_WORD.fullmatch(raw.removesuffix(ending))
    if match is None or not raw.endswith(ending) or not _is_series(match[1], sample):
        return None
    series = RememberedSeries(sample.name, sample.labels, sample.type, sample.value, match[2])
    return series if series.renew(match[2]) else None


def _is_series(text: bytes, sample: Sample) -> bool:
    """Tell whether *text* is a name with its labels and nothing else."""
    if is_plain_series(text):
        return True
    head = text.decode().strip(_BLANKS)
    if head == sample.name:
        return True
    try:
        cursor = Cursor(head)
        cursor.read_series()
    except ExpositionError:
        return False
    return cursor.at_end()
