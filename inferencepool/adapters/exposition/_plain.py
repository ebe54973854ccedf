"""Samples as servers write nearly all of them, read by one regular expression at a tenth of the exact parser's cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf
from typing import Final

import attrs

from inferencepool.adapters.exposition._grammar import MAX_LABELS, unescape
from inferencepool.adapters.exposition._samples import Sample

__all__ = ["PlainLine", "is_plain_series", "read_plain"]

_NAME: Final = rb"[a-zA-Z_:][a-zA-Z0-9_:]*+"
_QUOTED: Final = rb'(?:[^"\\\n\x80-\xff]++|\\[\\"n])*+'
_PAIR_TEXT: Final = rb'(%s)[ \t]*+=[ \t]*+"(%s)"' % (_NAME, _QUOTED)
_LABEL: Final = rb"(?!__name__[ \t=])%s[ \t]*+" % _PAIR_TEXT.replace(b"(%s)" % _NAME, _NAME).replace(
    b"(%s)" % _QUOTED, _QUOTED
)
_LABELS: Final = rb"[ \t]*+(?:%s(?:,[ \t]*+|(?=\}))){0,%d}+" % (_LABEL, MAX_LABELS)
# No two parts of these patterns can take the same characters, and none gives back what it took: matching is linear, and
# takes no memory.
_SERIES: Final = rb"[ \t]*+(%s)(?:\{(%s)\})?+" % (_NAME, _LABELS)
_NUMBER: Final = rb"[+-]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+"
# A number of milliseconds that surely fits into 64 bits.
_TIMESTAMP: Final = rb"[+-]?+[0-9]{1,18}+"
_LINE: Final = re.compile(rb"%s[ \t]++(%s)(?:[ \t]++(%s))?+\r?+" % (_SERIES, _NUMBER, _TIMESTAMP))
_PAIR: Final = re.compile(_PAIR_TEXT)
_SERIES_ALONE: Final = re.compile(rb"%s[ \t]++" % _SERIES)


@attrs.define(eq=False)
class PlainLine:
    """
    A sample in ASCII that has a finite number, and nothing behind it but maybe a timestamp in milliseconds.

    Attributes:
        name: Its metric.
        value: Its value, which is finite.
        timestamp: When it was taken, as in `Sample`.
    """

    name: str
    value: float
    timestamp: int | None
    _labels: bytes | None

    def sample(self, types: Mapping[str, str]) -> Sample | None:
        """Give the sample; None where a label comes twice."""
        found = _PAIR.findall(self._labels) if self._labels else []
        labels = {key.decode("ascii"): unescape(value.decode("ascii")) for key, value in found}
        if len(labels) < len(found):
            return None
        return Sample(self.name, labels, self.value, self.timestamp, type=types.get(self.name, "untyped"))


def read_plain(page: bytes, start: int, end: int) -> PlainLine | None:
    """Read the line from *start* to *end*; None where it is written in any other way, which need not be wrong."""
    match = _LINE.fullmatch(page, start, end)
    if match is None:
        return None
    name, labels, number, timestamp = match.groups()
    value = float(number)
    if not -inf < value < inf:
        return None
    return PlainLine(name.decode("ascii"), value, int(timestamp) if timestamp else None, labels)


def is_plain_series(text: bytes) -> bool:
    """Tell whether *text* is surely a name with its labels and blanks behind them."""
    return _SERIES_ALONE.fullmatch(text) is not None
