"""The words of the text exposition format: names, labels and quoted strings. Metric specifications share them."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_LABELS", "Cursor", "ExpositionError", "escape", "unescape"]

#: Most labels of a series. Those of model servers have up to thirty.
MAX_LABELS: Final = 256

_BLANKS = re.compile(r"[ \t]*")
_WORD = re.compile(r"[^ \t]*")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
# Everything up to the closing quote, or to an escape that does not exist. Possessive, so that memory stays small.
_QUOTED = re.compile(r'[^"\\]*+(?:\\[\\"n][^"\\]*+)*+')
_RESERVED_LABEL = "__name__"


class ExpositionError(Exception):
    """Raised inside this package when a text stops making sense; callers add where it stands."""


def escape(text: str) -> str:
    """Write *text* as it stands inside quotes; there is no other way to write it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def unescape(quoted: str) -> str:
    """Read what `escape` wrote. Linear."""
    if "\\" not in quoted:
        return quoted
    # Between two escaped backslashes every other backslash begins an escape.
    parts = quoted.split("\\\\")
    return "\\".join([part.replace('\\"', '"').replace("\\n", "\n") if "\\" in part else part for part in parts])


class Cursor:
    """A position in one line. Reading moves it forward past the blanks that follow, never back."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._at = 0

    def at_end(self) -> bool:
        """Tell whether nothing is left."""
        return self._at >= len(self.text)

    def peek(self) -> str:
        """Give the next character; empty at the end."""
        return self.text[self._at : self._at + 1]

    def skip_blanks(self) -> None:
        """Move past spaces and tabs."""
        self._take(_BLANKS)

    def accept(self, character: str) -> bool:
        """Move past *character* and the blanks behind it if it is next."""
        if self.peek() != character:
            return False
        self._at += 1
        self.skip_blanks()
        return True

    def read_word(self) -> str:
        """Read up to the next blank; empty at the end."""
        word = self._take(_WORD)
        self.skip_blanks()
        return word

    def read_name(self) -> str:
        """Read a name, bare or quoted."""
        name = self.read_quoted() if self.peek() == '"' else self._take(_NAME)
        if not name:
            message = f"no name at column {self._at + 1}"
            raise ExpositionError(message)
        self.skip_blanks()
        return name

    def read_until(self, stops: str) -> str:
        """Read up to the first of *stops* or the end, without the blanks at both ends."""
        start = self._at
        while not self.at_end() and self.text[self._at] not in stops:
            self._at += 1
        return self.text[start : self._at].strip(" \t")

    def read_quoted(self) -> str:
        r"""Read a string in double quotes, in which ``\\``, ``\"`` and ``\n`` are escapes and no others exist."""
        start = self._at
        self._at += 1
        quoted = self._take(_QUOTED)
        stop, unknown = self.peek(), self.text[self._at + 1 : self._at + 2]
        if stop == '"':
            self._at += 1
            self.skip_blanks()
            return unescape(quoted)
        if not stop or not unknown:
            message = f"no closing quote for the one at column {start + 1}"
        else:
            message = f"unknown escape \\{unknown} at column {self._at + 2}"
        raise ExpositionError(message)

    def read_series(self) -> tuple[str, dict[str, str]]:
        """
        Read the name and the labels of a series.

        The name stands before the braces, or, quoted, first inside them. Commas separate labels and may end them.
        """
        name = ""
        if self.peek() != "{":
            name = self._take(_NAME)
            if not name:
                message = "no metric name"
                raise ExpositionError(message)
            separated = self.peek() in {" ", "\t", "{"}
            self.skip_blanks()
            if self.at_end():
                message = "no value"
                raise ExpositionError(message)
            if not separated:
                message = f"unexpected {self.peek()!r} in the metric name"
                raise ExpositionError(message)
        labels: dict[str, str] = {}
        if self.accept("{"):
            name = self._read_labels(name, labels)
        if not name:
            message = "no metric name"
            raise ExpositionError(message)
        return name, labels

    def read_labels(self) -> dict[str, str]:
        """Read labels without a name before or among them."""
        labels: dict[str, str] = {}
        if not self.accept("{") or self._read_labels("", labels):
            message = "no labels"
            raise ExpositionError(message)
        return labels

    def _read_labels(self, name: str, labels: dict[str, str]) -> str:
        first = True
        while not self.accept("}"):
            if self.at_end():
                message = "no closing brace"
                raise ExpositionError(message)
            quoted = self.peek() == '"'
            key = self.read_name()
            if self.accept("="):
                if self.peek() != '"':
                    message = f"the value of label {key} is not quoted"
                    raise ExpositionError(message)
                value = self.read_quoted()
                if key in labels or key == _RESERVED_LABEL:
                    message = f"label {key} is {'reserved' if key == _RESERVED_LABEL else 'given twice'}"
                    raise ExpositionError(message)
                labels[key] = value
                if len(labels) > MAX_LABELS:
                    message = f"more than {MAX_LABELS} labels"
                    raise ExpositionError(message)
            elif quoted and first and not name:
                name = key
            else:
                message = f"no = after label {key}"
                raise ExpositionError(message)
            first = False
            if not self.accept(",") and self.peek() != "}":
                message = "no comma or closing brace" if not self.at_end() else "no closing brace"
                raise ExpositionError(message)
        return name

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match.group()
