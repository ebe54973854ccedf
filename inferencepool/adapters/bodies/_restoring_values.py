"""One string of a JSON text replaced while the text passes by."""

from __future__ import annotations

import re
from typing import final

import attrs

from inferencepool.adapters.bodies._decoding import LETTERS, STRING, loads_json

__all__ = ["ValueRestorer"]

# Commas and colons tell keys from values, and matter only in objects whose keys are looked at.
_MARK_WATCHED = re.compile(rb'["\[\]{},:]')
_MARK = re.compile(rb'["\[\]{}]')

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
    """

    target: str
    asked: bytes
    holders: frozenset[str]
    _pending: bytes = b""
    _depth: int = 0
    # Depth of the innermost object whose keys are looked at, 0 for none: it is left with that depth.
    _watched: int = 0
    _in_string: bool = False
    _expects_key: bool = False
    _key: str = ""

    def reset(self) -> None:
        """Begin anew: another text follows."""
        self._depth = self._watched = 0
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
            if self._in_string:
                at, self._in_string = _leave_string(data, at)
                if self._in_string:
                    break
                continue
            watches = self._depth == self._watched > 0
            found = (_MARK_WATCHED if watches else _MARK).search(data, at)
            if found is None:
                at = len(data)
                break
            at, mark = found.start(), found[0]
            if mark != _QUOTE:
                self._pass(mark)
                at += 1
            elif watches and (self._expects_key or self._key == "model"):
                text = STRING.match(data, at)
                if text is None and len(data) - at <= self._longest():
                    break
                if text is None:
                    at, self._in_string, self._expects_key, self._key = at + 1, True, False, ""
                    continue
                if self._take(text[0]):
                    sent += (data[start:at], self.asked)
                    start = text.end()
                at = text.end()
            else:
                at, self._in_string = at + 1, True
        self._pending = data[at:]
        sent.append(data[start:at])
        return b"".join(sent)

    def _longest(self) -> int:
        return _LONGEST_ESCAPE * max(len(self.target), len("response")) + 2

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

    def _take(self, text: bytes) -> bool:
        """Take a key, or the value of the model; tell whether it is to be replaced."""
        try:
            value = loads_json(text)
        except ValueError:
            value = None
        if self._expects_key:
            self._expects_key, self._key = False, value if isinstance(value, str) else ""
            return False
        self._key = ""
        return bool(value == self.target)


def _leave_string(data: bytes, at: int) -> tuple[int, bool]:
    """Go to the end of a string, or as far as it is there and no escape is cut; tell whether there is more of it."""
    found = LETTERS.match(data, at)
    at = found.end() if found else at
    return (at + 1, False) if data[at : at + 1] == _QUOTE else (at, True)
