"""Brackets in a stretch of JSON text, counted for all of it at once."""

from __future__ import annotations

import re
from array import array
from itertools import accumulate

__all__ = ["closing", "nesting"]

_QUOTE = ord('"')
_OPENING = b"[{"
# Below this a stretch is gone through bracket by bracket.
_FEW = 64
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


def closing(text: bytes, depth: int) -> tuple[int, int, bool, int]:
    """
    Find where *text*, which begins outside of strings and inside of *depth* arrays and objects, leaves them.

    Any depth will do. What lies side by side costs little; what lies deep in each other is told, as it costs more.

    Returns:
        Behind which byte the outermost is closed, 0 if it is not; the depth at the end of *text*, and whether that is
        inside of a string, if it is not; and how many brackets were gone through one after another.
    """
    leaves, rest, inside, dear = _leaves(text, depth)
    if not leaves:
        return 0, rest, inside, dear
    low, high, inside = 0, len(text), False
    while high - low > _FEW:
        middle = (low + high) // 2
        half = text[low:middle]
        if (len(half) - len(half.rstrip(b"\\"))) & 1:  # not between a backslash and what it escapes
            middle -= 1
            half = half[:-1]
        leaves, rest, ends_inside, more = _leaves(b'"' + half if inside else half, depth)
        dear += more
        if leaves:
            high = middle
        else:
            low, depth, inside = middle, rest, ends_inside
    piece = b'"' + text[low:high] if inside else text[low:high]
    for token in _TOKEN.finditer(piece):
        if piece[token.start()] != _QUOTE:
            depth += 1 if piece[token.start()] in _OPENING else -1
            if not depth:
                return low + token.end() - inside, 0, False, dear
    return high, 0, False, dear


def _leaves(text: bytes, depth: int) -> tuple[bool, int, bool, int]:
    """Tell whether *text* leaves *depth* brackets; how many are open at its end; and the last two of `closing`."""
    outside, inside = _outside(text)
    steps = outside.translate(_TO_STEP)
    opened = steps.count(1)
    rest = depth + 2 * opened - len(steps)
    if len(steps) - opened < depth:
        return False, rest, inside, 0
    # Pairs side by side may go, as long as that makes it shorter by much: no more is copied than four times all.
    size = 2 * len(steps) + 1
    while 4 * len(steps) < 3 * size:
        size, steps = len(steps), steps.replace(b"\x01\xff", b"")
    if b"\x01\xff" not in steps:
        return steps.count(0xFF) >= depth, rest, inside, 0
    return min(accumulate(array("b", steps))) <= -depth, rest, inside, len(steps)


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
