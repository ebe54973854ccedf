"""Brackets in a stretch of JSON text, counted for all of it at once."""

from __future__ import annotations

import re
from array import array
from itertools import accumulate

__all__ = ["nesting"]

_QUOTE = ord('"')
_TOKEN = re.compile(rb'[\[{\]}]|"(?:[^"\\]++|\\.)*+(?:"|\Z)', re.DOTALL)

_NO_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
# As signed bytes, an opening bracket is 1 and a closing one -1.
_TO_STEP = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


def nesting(text: bytes, depth: int, deepest: int) -> tuple[int, int, bool] | None:
    """
    Go through *text*, which begins outside of strings and inside of *depth* arrays and objects.

    Returns:
        Behind which byte the outermost of these is closed, 0 if it is not; the depth at the end of *text*; and whether
        that is inside of a string. None where it gets deeper than *deepest*.
    """
    outside, inside = _outside(text)
    steps = outside.translate(_TO_STEP)
    opened = steps.count(1)
    closed = len(steps) - opened
    if closed >= depth or depth + opened > deepest:
        depths = list(accumulate(array("b", steps)))
        end = depths.index(-depth) if -depth in depths else len(depths)
        if depth + max(depths[:end], default=0) > deepest:
            return None
        if end < len(depths):
            return _bracket(text, end), 0, False
    return 0, depth + opened - closed, inside


def _outside(text: bytes) -> tuple[bytes, bool]:
    """Give the brackets of *text* outside of strings, where it begins outside, and whether it ends inside of one."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes side by side may go, whichever they are: what is inside of a string stays inside.
    text = text.translate(None, _NO_STRUCTURE).replace(b'""', b"")
    if b'"' not in text:
        return text, False
    pieces = text.split(b'"')
    return b"".join(pieces[::2]), not len(pieces) & 1


def _bracket(text: bytes, index: int) -> int:
    """Find the end of the bracket of that *index* among those outside of strings, where *text* begins outside."""
    for token in _TOKEN.finditer(text):
        if text[token.start()] != _QUOTE:
            if not index:
                return token.end()
            index -= 1
    return len(text)
