"""The exact parser of a metrics page in the text exposition format, one line at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import isinf
from typing import Protocol

import attrs

from inferencepool.adapters.exposition._grammar import Cursor, ExpositionError
from inferencepool.errors import InvalidMetricsError

__all__ = [
    "MAX_LINE_SIZE",
    "MAX_PAGE_SIZE",
    "Sample",
    "Series",
    "check_line",
    "check_size",
    "check_whole",
    "is_open_metrics",
    "iterate_samples",
    "parse_page",
    "read_comment",
    "read_sample",
]

#: The longest line that is read, in characters; longer ones are only passed over.
MAX_LINE_SIZE = 64 * 1024

#: The longest page that is read, in bytes or characters. Pages of model servers hold tens of kilobytes.
MAX_PAGE_SIZE = 16 * 1024 * 1024

# What the Go parser of the reference takes: decimal, and the names of what is no number. No two parts of these patterns
# can take the same characters, so matching is linear.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INFINITY = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
_TIMESTAMP = re.compile(r"[+-]?[0-9]{1,19}")
_TIMESTAMP_LIMIT = 2**63
# OpenMetrics tells seconds where the older format tells milliseconds.
_MILLISECONDS = 1000

# How a page in OpenMetrics ends; nothing may follow.
_ENDS = ("# EOF", "# EOF\n", "# EOF\r\n")
_MARK = "# EOF"
_LONGEST_END = len("\n# EOF\r\n")

# The types of the text format, and those that OpenMetrics adds.
_TYPES = frozenset(
    {"counter", "gauge", "histogram", "summary", "untyped", "gaugehistogram", "info", "stateset", "unknown"}
)
# How much of a line an error shows.
_SHOWN = 80


@attrs.frozen
class Sample:
    """
    One sample of a metrics page.

    Attributes:
        name: The name of its metric.
        labels: Its labels, in the order of the page.
        value: Its value; may be NaN or infinite.
        timestamp: When it was taken, in milliseconds since the epoch; None where the page does not say.
        type: What a ``# TYPE`` line above it declares for exactly this name; ``untyped`` where none does.
        line: Its line in the page, from 1.
    """

    name: str
    labels: Mapping[str, str] = attrs.field(hash=False)
    value: float
    timestamp: int | None = None
    type: str = attrs.field(default="untyped", kw_only=True)
    line: int = attrs.field(default=0, kw_only=True, eq=False)


class Series(Protocol):
    """**Protocol:** a `Sample`, or what is remembered of one."""

    @property
    def name(self) -> str:
        """Name of its metric."""
        ...

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        ...

    @property
    def value(self) -> float:
        """Its value; may be NaN or infinite."""
        ...

    @property
    def timestamp(self) -> int | None:
        """When it was taken, in milliseconds since the epoch."""
        ...

    @property
    def type(self) -> str:
        """Its declared type."""
        ...

    @property
    def line(self) -> int:
        """Its line in the page, from 1; 0 where that is not known."""
        ...


def parse_page(page: str | bytes) -> tuple[Sample, ...]:
    """
    Read every sample of a metrics page.

    Lines end in LF or CRLF, the last one too: a page whose last line is open has been cut, and a number at its end may
    lack digits. A page that is cut exactly between two lines cannot be told from a shorter page. Comments, blank
    lines and ``# HELP`` lines are skipped; a page without samples gives an empty tuple. A page whose last line is
    ``# EOF`` is in OpenMetrics text: its timestamps are in seconds, and exemplars behind samples are checked and
    skipped. A sample has at most 256 labels and stands in a line of at most 65,536 characters. Time and memory are
    linear in the page.

    Args:
        page: The text, or its bytes in UTF-8; a byte order mark is tolerated.

    Returns:
        The samples in the order of the page.

    Raises:
        InvalidMetricsError: The page is no text, longer than `MAX_PAGE_SIZE`, cut, or has a line that is not in the
            text format; the message names the line.
    """
    return tuple(iterate_samples(page))


def iterate_samples(page: str | bytes) -> Iterator[Sample]:
    """Give the samples of *page* one by one, as `parse_page` does; an error comes when its line is reached."""
    text = _decode(page)
    types: dict[str, str] = {}
    open_metrics = is_open_metrics(text)
    for number, line in _lines(text):
        try:
            sample = _read_line(line, types, number, open_metrics=open_metrics)
        except ExpositionError as error:
            message = f"metrics page, line {number}: {error} in {_shorten(line)!r}"
            raise InvalidMetricsError(message) from None
        if sample is not None:
            yield sample


def is_open_metrics(text: str) -> bool:
    """Tell whether *text*, a page or its end, ends with the line that only OpenMetrics has."""
    end = text[-_LONGEST_END:]
    return end.endswith(_ENDS) and end.rstrip("\r\n").rpartition("\n")[2] == _MARK


def check_size(page: str | bytes) -> None:
    """Raise InvalidMetricsError for a page that is longer than `MAX_PAGE_SIZE`."""
    if len(page) > MAX_PAGE_SIZE:
        message = f"metrics page: longer than {MAX_PAGE_SIZE} bytes"
        raise InvalidMetricsError(message)


def check_whole(page: bytes) -> None:
    """Raise InvalidMetricsError for a page that was cut, as `parse_page` tells."""
    if page.endswith(b"\n") or is_open_metrics(page[-_LONGEST_END:].decode("utf-8", "replace")):
        return
    rest = page[page.rfind(b"\n") + 1 :]
    if rest.strip(b" \t\r"):
        raise _cut(page.count(b"\n") + 1, rest[: _SHOWN + 1].decode("utf-8", "replace"))


def _cut(number: int, rest: str) -> InvalidMetricsError:
    message = f"metrics page, line {number}: the page is cut: no line end after {_shorten(rest)!r}"
    return InvalidMetricsError(message)


def _decode(page: str | bytes) -> str:
    check_size(page)
    if isinstance(page, str):
        return page.removeprefix("\ufeff")
    try:
        return page.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = page.count(b"\n", 0, error.start) + 1
        message = f"metrics page, line {line}: not UTF-8 text: byte 0x{page[error.start]:02x}"
        raise InvalidMetricsError(message) from None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    # `str.splitlines` would also split at characters that are allowed in label values, such as U+2028.
    start, number = 0, 1
    while (end := text.find("\n", start)) >= 0:
        yield number, text[start:end].removesuffix("\r")
        start, number = end + 1, number + 1
    rest = text[start:]
    # OpenMetrics lets its end mark, and nothing else, go without a line end.
    if rest.strip(" \t\r") and rest != "# EOF":
        raise _cut(number, rest)


def _shorten(line: str) -> str:
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def _read_line(line: str, types: dict[str, str], number: int, *, open_metrics: bool) -> Sample | None:
    cursor = Cursor(line)
    cursor.skip_blanks()
    if cursor.at_end():
        return None
    if cursor.peek() == "#":
        read_comment(line, types)
        return None
    return read_sample(cursor, types, number, open_metrics=open_metrics)


def read_sample(cursor: Cursor, types: dict[str, str], number: int = 0, *, open_metrics: bool) -> Sample:
    """
    Read the sample that a line holds.

    Raises:
        ExpositionError: The line holds no sample.
    """
    check_line(cursor.text)
    name, labels = cursor.read_series()
    value, timestamp = _read_point(cursor, open_metrics=open_metrics)
    if open_metrics and cursor.accept("#"):
        # An exemplar: labels without a name, and a point.
        cursor.read_labels()
        _read_point(cursor, open_metrics=open_metrics)
    if not cursor.at_end():
        message = "text after the timestamp"
        raise ExpositionError(message)
    return Sample(name, labels, value, timestamp, type=types.get(name, "untyped"), line=number)


def _read_point(cursor: Cursor, *, open_metrics: bool) -> tuple[float, int | None]:
    """Read a value and the timestamp that may follow."""
    value = _read_value(cursor.read_word())
    if cursor.at_end() or (open_metrics and cursor.peek() == "#"):
        return value, None
    word = cursor.read_word()
    return value, _read_seconds(word) if open_metrics else _read_timestamp(word)


def read_comment(line: str, types: dict[str, str]) -> None:
    """Add the type that a comment declares, if it does; raises ExpositionError as `iterate_samples` does."""
    cursor = Cursor(line)
    cursor.skip_blanks()
    if cursor.read_word() != "#" or cursor.read_word() != "TYPE":
        return
    check_line(line)
    name = cursor.read_name()
    declared = cursor.read_word()
    if declared not in _TYPES or not cursor.at_end():
        message = f"type not one of {', '.join(sorted(_TYPES))}"
        raise ExpositionError(message)
    if types.setdefault(name, declared) != declared:
        message = f"second type for {name}, which is a {types[name]}"
        raise ExpositionError(message)


def check_line(line: str) -> None:
    """Raise ExpositionError for a line with something to read that is longer than `MAX_LINE_SIZE`."""
    if len(line) > MAX_LINE_SIZE:
        message = f"longer than {MAX_LINE_SIZE} characters"
        raise ExpositionError(message)


def _read_value(word: str) -> float:
    if _NUMBER.fullmatch(word):
        value = float(word)
        if isinf(value):
            message = f"value {_shorten(word)!r} is too great for a number"
            raise ExpositionError(message)
        return value
    if _INFINITY.fullmatch(word) or word.lower() == "nan":
        return float(word)
    message = f"value {_shorten(word)!r} is not a number" if word else "no value"
    raise ExpositionError(message)


def _read_timestamp(word: str) -> int:
    if _TIMESTAMP.fullmatch(word) and -_TIMESTAMP_LIMIT <= int(word) < _TIMESTAMP_LIMIT:
        return int(word)
    message = f"timestamp {_shorten(word)!r} is not a whole number of milliseconds"
    raise ExpositionError(message)


def _read_seconds(word: str) -> int:
    if _NUMBER.fullmatch(word):
        milliseconds = float(word) * _MILLISECONDS
        if -_TIMESTAMP_LIMIT <= milliseconds < _TIMESTAMP_LIMIT:
            return int(milliseconds)
    message = f"timestamp {_shorten(word)!r} is not a number of seconds"
    raise ExpositionError(message)
