"""One string of a JSON text replaced while the text passes by."""

from __future__ import annotations

import re
from typing import final

import attrs

from inferencepool.adapters.bodies._decoding import LETTERS, STRING, loads_json
from inferencepool.adapters.bodies._nesting import closing

__all__ = ["ValueRestorer"]

# Commas and colons tell keys from values, and matter only in objects whose keys are looked at.
_MARK_WATCHED = re.compile(rb'["\[\]{},:]')
_MARK = re.compile(rb'["\[\]{}]')

# How many bytes are gone through at once in a string, and below what is looked at. What closes there may be as small as
# two bytes: what is looked at ahead must be in proportion to it.
_STRETCH = 1 << 16
_FIRST_STRETCH = 1 << 8

# What takes about as long as a mark that is looked at: an eighth of a stretch that is skipped, and so many
# bytes, escapes and brackets in it.
_MARKS_PER_STRETCH = 8
_BYTES_PER_MARK = 512
_PIECES_PER_MARK = 32

# A letter takes six bytes as an escape, one beyond the first plane twelve.
_LONGEST_ESCAPE = 12
_QUOTE, _OPENING, _CLOSING, _COMMA, _COLON = b'"', b"{[", b"}]", b",", b":"


@final
@attrs.define(eq=False)
class ValueRestorer:
    """
    Goes through a JSON object and replaces the value of ``model``, if it is the string *target*.

    Attributes:
        target: The string to look for.
        asked: What to put there, as JSON.
        holders: Keys of the object whose own objects are looked at too.
        left: How much may be looked at yet, in marks: about two microseconds each. Below 0 all passes as it is.
    """

    target: str
    asked: bytes
    holders: frozenset[str]
    left: int = 0
    _pending: bytes = b""
    # How much of what is skipped is gone through next.
    _stretch: int = _FIRST_STRETCH
    _depth: int = 0
    # Depth of the innermost object whose keys are looked at, 0 for none: it is left with that depth.
    _watched: int = 0
    _in_string: bool = False
    _expects_key: bool = False
    _key: str = ""

    def reset(self) -> None:
        """Begin anew: another text follows."""
        self._depth, self._watched, self._stretch = 0, 0, _FIRST_STRETCH
        self._in_string = self._expects_key = False
        self._key = ""

    def flush(self) -> bytes:
        """Give what was kept back."""
        pending, self._pending = self._pending, b""
        return pending

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes; give what can be sent on."""
        data = self._pending + chunk if self._pending else chunk
        sent: list[bytes] = []
        start = at = 0
        while at < len(data):
            if self._in_string or self._depth > self._watched:
                stop = self._leave_string(data, at) if self._in_string else self._skip(data, at)
                if at == stop:  # a backslash whose escape has not come
                    break
                at = stop
                continue
            self.left -= 1
            watches = self._depth > 0
            found = (_MARK_WATCHED if watches else _MARK).search(data, at) if self.left >= 0 else None
            if found is None:
                at = len(data)
                break
            at, mark = found.start(), found[0]
            if mark != _QUOTE:
                self._pass(mark)
                at += 1
            elif watches and (self._expects_key or self._key == "model"):
                longest = _LONGEST_ESCAPE * max(len(self.target), len("response")) + 2
                text = STRING.match(data, at, at + longest)
                if text is None and len(data) - at < longest:
                    break
                end = text.end() if text else at + 1
                if self._take(text):
                    sent += (data[start:at], self.asked)
                    start = end
                at = end
            else:
                at, self._in_string = at + 1, True
        self._pending = data[at:]
        sent.append(data[start:at])
        return b"".join(sent)

    def _pass(self, mark: bytes) -> None:
        """Take note of a bracket, or in an object that is looked at of a comma or colon."""
        if mark in _OPENING:
            self._open(mark == b"{")
        elif mark in _CLOSING:
            if self._depth == self._watched:
                self._watched = max(0, self._watched - 1)
                self._expects_key = False
            self._depth = max(0, self._depth - 1)
            self._key = ""
        elif mark == _COMMA:
            self._expects_key, self._key = True, ""

    def _open(self, is_object: bool) -> None:
        is_held = self._depth == self._watched == 1 and self._key in self.holders
        self._depth += 1
        if is_object and (self._depth == 1 or is_held):
            self._watched, self._expects_key = self._depth, True
        self._key = ""

    def _take(self, text: re.Match[bytes] | None) -> bool:
        """Take a key, or the value of the model, None if it is too long; tell whether it is to be replaced."""
        self.left -= 1
        self._in_string = text is None
        try:
            value = loads_json(text[0]) if text else None
        except ValueError:
            value = None
        expects_key, self._expects_key, self._key = self._expects_key, False, ""
        if expects_key and isinstance(value, str):
            self._key = value
        return not expects_key and bool(value == self.target)

    def _leave_string(self, data: bytes, at: int) -> int:
        """Go to the end of a string, or as far as it is there and no escape is cut."""
        if self.left < 0:
            return len(data)
        found = LETTERS.match(data, at, at + _STRETCH)
        end = found.end() if found else at
        self.left -= data.count(b"\\", at, end) // _PIECES_PER_MARK + (end - at) // _BYTES_PER_MARK
        self._in_string = data[end : end + 1] != _QUOTE
        return end if self._in_string else end + 1

    def _skip(self, data: bytes, at: int) -> int:
        """Go to where what is looked at goes on, or as far as that is there or the next string."""
        watched = self._watched
        while at < len(data) and self._depth > watched and not self._in_string:
            if self.left < 0:
                return len(data)
            piece = data[at : at + self._stretch]
            if (len(piece) - len(piece.rstrip(b"\\"))) & 1:
                piece = piece[:-1]
            if not piece:
                break
            end, depth, self._in_string, dear = closing(piece, self._depth - watched)
            self._depth = watched + depth
            at += end or len(piece)
            self.left -= _MARKS_PER_STRETCH + len(piece) // _BYTES_PER_MARK + dear // _PIECES_PER_MARK
            self._stretch = _FIRST_STRETCH if end else min(2 * self._stretch, _STRETCH)
        return at
