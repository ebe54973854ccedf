"""
Going through JSON text step by step, without making the objects of all of it.

Whatever may take long is a generator: it yields after a bounded piece of work, so that whoever drives it may do
something else in between, and returns what it found. A step goes through at most `CHUNK` bytes of a string, through
`STRETCH` bytes of structure that is skipped, or makes the values of `WINDOW` bytes.

What is skipped is checked no further than that strings end, brackets close, and nothing lies deeper than `DEEPEST`.
"""

from __future__ import annotations

import re
from typing import Any, Final, NoReturn, final

from inferencepool.adapters.bodies._decoding import LETTERS, SCAN, loads_json
from inferencepool.adapters.bodies._nesting import nesting
from inferencepool.adapters.bodies._steps import Steps
from inferencepool.errors import InvalidRequestError

__all__ = ["CHUNK", "MISSING", "WINDOW", "Scanner"]

CHUNK: Final = 1 << 16
STRETCH: Final = 1 << 14
WINDOW: Final = 1 << 12
DEEPEST: Final = 1_000

#: Stands for what does not end within the window.
MISSING: Final[Any] = object()

# A container may be as small as two bytes: what is looked at ahead must be in proportion to what it turns out to be.
_FIRST_STRETCH = 1 << 8

_LONGEST_KEY = CHUNK
# With the spaces about it.
_LONGEST_NUMBER = 1 << 18

_KEY = re.compile(r'[ \t\r\n]*("(?:[^"\\\x00-\x1f]++|\\.)*+")[ \t\r\n]*:[ \t\r\n]*')
# Members without arrays and objects, other than those without strings in them, in one go, whatever their keys are.
_LIST = rb'[\[{](?:[^"\[\]{}]++|[\[{](?:[^"\[\]{}]++|[\[{][^"\[\]{}]*+[\]}])*+[\]}])*+[\]}]'
_STRING = rb'"(?:[^"\\\x00-\x1f]++|\\.)*+"'
_NUMBER = rb"-?+[0-9]++(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+"
_MEMBERS = re.compile(
    rb"(?:%b[ \t\r\n]*+:[ \t\r\n]*+(?:%b|%b|true|false|null|%b)[ \t\r\n]*+,[ \t\r\n]*+)*+"
    % (_STRING, _STRING, _NUMBER, _LIST)
)
_NAME = re.compile(rb'(?<![^,{ \t\r\n])("(?:[^"\\]++|\\.)*+")[ \t\r\n]*+:[ \t\r\n]*+')
_MARK = re.compile(r"[ \t\r\n]*([,\]}])[ \t\r\n]*")
_BLANKS = frozenset(" \t\r\n")
_CLOSING = frozenset("]}")
_ENDS = frozenset(", ]}\t\r\n")
_SPACES = re.compile(rb"[ \t\r\n]*+")
_SCALAR = re.compile(rb'[^ \t\r\n,:"\[\]{}]*+')
_STRICT_LETTERS = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\[^u]|\\u[0-9a-fA-F]{4})*+')
_DIGITS = b"0123456789, \t\r\n"


@final
class Scanner:
    """
    A place in a JSON text. One thread at a time moves it.

    Args:
        body: The text.
        failure: What messages of errors begin with.

    Attributes:
        body: The text.
        at: The place, counted in bytes.
    """

    __slots__ = ("_base", "_failure", "_text", "at", "body")

    def __init__(self, body: bytes, failure: str) -> None:
        self.body = body
        self.at = 0
        self._failure = failure
        # Latin-1 whatever it is: then places in the text are places in the bytes.
        self._text = ""
        self._base = 0

    def refuse(self, reason: str, at: int | None = None) -> NoReturn:
        """
        Say that the text cannot be read.

        Raises:
            InvalidRequestError: Always.
        """
        message = f"{self._failure}: {reason} at byte {self.at if at is None else at}"
        raise InvalidRequestError(message)

    def refuse_depth(self) -> NoReturn:
        """
        Say that the text is nested too deep.

        Raises:
            InvalidRequestError: Always.
        """
        message = f"{self._failure}: nested too deep"
        raise InvalidRequestError(message) from None

    def decode(self, start: int, end: int) -> Any:
        """
        Make the value that stands from *start* to *end*.

        Raises:
            InvalidRequestError: None does.
        """
        return self.decode_text(self.body[start:end], start)

    def decode_text(self, text: bytes, at: int) -> Any:
        """Make the value of *text*, which stands about *at*, or refuse it."""
        try:
            return loads_json(text)
        except RecursionError:
            self.refuse_depth()
        except UnicodeDecodeError as error:
            self.refuse("not UTF-8", at + error.start)
        except ValueError:
            self.refuse("not JSON", at)

    # -- in one go, within the window ----------------------------------------------------------------------------------

    def value(self) -> Any:
        """Make the value at this place and go behind it; `MISSING` if it does not end soon, or is no value."""
        index = self.at - self._base
        if 0 <= index < len(self._text):
            found = self._value_at(index)
            if found is not MISSING or index == 0:
                return found
        self._load()
        return self._value_at(0)

    def objects(self) -> list[Any]:
        """
        Make as many objects of a list as end within a window from here, and go to the next; none if that is not easy.

        Where the last of them ends is a guess, and right if what is before it is a list.
        """
        self._load()
        for border in ("},{", "}, {"):
            end = self._text.rfind(border) + 1
            if end:
                try:
                    text = self.body[self.at : self.at + end].decode()
                    values, stop = SCAN(f"[{text}]", 0)
                except (StopIteration, ValueError, RecursionError):
                    continue
                if stop == len(text) + 2:
                    self.at += end + len(border) - 2
                    found: list[Any] = values
                    return found
        return []

    def key(self) -> Any:
        """Give the key at this place and go behind its colon; `MISSING` if that is not so easy."""
        found = self._match(_KEY)
        if found is None:
            return MISSING
        text = found[1]
        if "\\" not in text and text.isascii():
            return text[1:-1]
        start, end = found.span(1)
        return self.decode(self._base + start, self._base + end)

    def members(self) -> list[tuple[str, int]]:
        """
        Go behind as many members of an object as are simple and each followed by another.

        Returns:
            Their keys, and where the value of each begins; of a key that comes more than once the last.
        """
        start = self.at
        found = _MEMBERS.match(self.body, start, start + WINDOW)
        if found is None or found.end() == start:
            return []
        self.at = found.end()
        last = {key[1]: key.end() for key in _NAME.finditer(self.body, start, self.at)}
        return [(self.decode_text(key, start), at) for key, at in last.items()]

    def mark(self) -> str:
        """Give the comma or closing bracket at this place and go behind it and to what follows; empty if not easy."""
        text, index = self._text, self.at - self._base
        if 0 <= index < len(text) - 2:
            # As nearly everybody writes it.
            mark = text[index]
            if mark in _CLOSING:
                self.at += 1
                return mark
            if mark == ",":
                spaces = text[index + 1] == " "
                if text[index + 1 + spaces] not in _BLANKS:
                    self.at += 1 + spaces
                    return mark
        found = self._match(_MARK)
        return "" if found is None else found[1]

    def goes_on(self, mark: str, closing: str) -> bool:
        """Tell whether *mark* is a comma and not *closing*; refuse what is neither."""
        if mark not in {",", closing}:
            self.refuse(f"expected a comma or {closing}")
        return mark == ","

    def _load(self) -> None:
        self._base = self.at
        self._text = self.body[self.at : self.at + WINDOW].decode("latin-1")

    def _value_at(self, index: int) -> Any:
        text = self._text
        try:
            value, end = SCAN(text, index)
        except (StopIteration, ValueError):
            return MISSING
        except RecursionError:
            self.refuse_depth()
        # Without its end in sight, a number may go on.
        if text[end : end + 1] not in _ENDS:
            return MISSING
        start = self._base + index
        self.at = self._base + end
        return value if text.isascii() or text[index:end].isascii() else self.decode(start, self.at)

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Match *pattern* and go behind it, if something follows within the window."""
        for _ in range(2):
            index = self.at - self._base
            if 0 <= index < len(self._text):
                found = pattern.match(self._text, index)
                if found is not None and found.end() < len(self._text):
                    self.at = self._base + found.end()
                    return found
                if index == 0:
                    return None
            self._load()
        return None

    # -- in steps, however long it takes -------------------------------------------------------------------------------

    def spaces(self) -> Steps[bytes]:
        """Go behind spaces; give the byte that follows, empty at the end of the text."""
        while True:
            stop = self.at + CHUNK
            found = _SPACES.match(self.body, self.at, stop)
            self.at = found.end() if found else self.at
            if self.at < stop:
                return self.body[self.at : self.at + 1]
            yield

    def long_key(self) -> Steps[str]:
        """Do what `key` does, for any key."""
        if (yield from self.spaces()) != b'"':
            self.refuse("expected a key in quotes")
        start = self.at
        self.at += 1
        yield from self.string()
        if self.at - start > _LONGEST_KEY:
            self.refuse(f"a key is longer than {_LONGEST_KEY} bytes", start)
        name: str = self.decode(start, self.at)
        if (yield from self.spaces()) != b":":
            self.refuse("expected a colon")
        self.at += 1
        yield from self.spaces()
        return name

    def long_mark(self) -> Steps[str]:
        """Do what `mark` does, however many spaces there are; what is no mark is given too."""
        found = yield from self.spaces()
        self.at += 1
        yield from self.spaces()
        return found.decode("latin-1")

    def skip(self) -> Steps[tuple[int, int]]:
        """Go behind the value at this place; give where it begins and ends."""
        start = self.at
        first = self.body[start : start + 1]
        if first == b'"':
            self.at += 1
            yield from self.string()
        elif first and first in b"[{":
            self.at += 1
            yield from self.rest(1)
        else:
            while (found := _SCALAR.match(self.body, self.at, self.at + CHUNK)) and found.end() > self.at:
                self.at = found.end()
                yield
        if self.at - start < WINDOW:
            self.decode(start, self.at)  # it was short enough for the window, so something is wrong with it
        return start, self.at

    def string(self) -> Steps[None]:
        """Go behind the end of the string in which this place is."""
        body = self.body
        while True:
            at = self.at
            stop = min(at + CHUNK, len(body))
            quote = body.find(b'"', at, stop)
            if body.find(b"\\", at, stop if quote < 0 else quote) < 0:
                self.at = stop if quote < 0 else quote + 1
            elif found := LETTERS.match(body, at, stop):
                self.at = found.end()
                quote = self.at if body[self.at : self.at + 1] == b'"' and self.at < stop else -1
                self.at += quote >= 0
            if quote >= 0:
                return
            if self.at >= len(body) or self.at == at:
                self.refuse("a string does not end")
            yield

    def letters(self) -> str:
        """Decode what comes next of the string in which this place is, and go behind it; empty at its end."""
        body, start = self.body, self.at
        stop = min(start + CHUNK, len(body))
        found = _STRICT_LETTERS.match(body, start, stop)
        end = found.end() if found else start
        if end == start:
            if body[start : start + 1] != b'"':
                self.refuse("a string does not end or holds what it may not")
            self.at += 1
            return ""
        # Neither a letter nor a pair of escapes that stands for one is cut in two.
        while end == stop < len(body) and start < end and body[end] & 0xC0 == 0x80:  # noqa: PLR2004 - goes on
            end = stop = end - 1
        text: str = self.decode_text(b'"%b"' % body[start:end], start)
        if len(text) > 1 and "\ud800" <= text[-1] <= "\udbff" and body[end : end + 2] == b"\\u":
            text, end = text[:-1], end - 6
        self.at = end
        return text

    def digits(self, size: int) -> tuple[bytes | None, bool]:
        """
        Go behind whole numbers between commas, about *size* bytes, and behind the comma or bracket that follows.

        Returns:
            Their text, None if there is something else; and whether a bracket followed.
        """
        body, start = self.body, self.at
        stop = min(start + size, len(body))
        close = body.find(b"]", start, stop)
        end = close if close >= 0 else body.rfind(b",", start, stop)
        if end < 0 and size < _LONGEST_NUMBER:
            return self.digits(2 * size)
        if end < 0 or body[start:end].translate(None, _DIGITS):
            return None, False
        self.at = end + 1
        return body[start:end], close >= 0

    def rest(self, depth: int) -> Steps[None]:
        """Go behind the bracket that closes the outermost of the *depth* arrays and objects in which this place is."""
        size = _FIRST_STRETCH
        while self.at < len(self.body):
            start = self.at
            text = self.body[start : start + size]
            # An escape is not cut in two.
            if (len(text) - len(text.rstrip(b"\\"))) & 1:
                text = self.body[start : start + size + 1]
            found = nesting(text, depth, DEEPEST)
            if found is None:
                self.refuse_depth()
            end, depth, inside = found
            if end:
                self.at = start + end
                return
            self.at = start + len(text)
            if inside:
                yield from self.string()
            size = min(2 * size, STRETCH)
            yield
        self.refuse("a bracket is not closed")
