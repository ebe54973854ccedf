"""Names with parameters in parentheses, as people type them: ``chats(turns=4, groups=2)``."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn, final

from inferencepool.errors import ConfigurationError

__all__ = ["Scanner"]

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
# A value that is no JSON is taken as text up to what ends it.
_WORD = re.compile(r"[^\s,()]+")
_DECODER = json.JSONDecoder()


@final
class Scanner:
    """
    Reads a text from left to right; spaces between its parts do not count.

    What does not fit becomes a `ConfigurationError` that shows the text, and where it stops making sense.
    """

    def __init__(self, what: str, text: str) -> None:
        """
        Begin at the beginning.

        Args:
            what: What the text describes, for errors.
            text: The text.
        """
        self._what = what
        self._text = text
        self._at = 0

    @property
    def at_end(self) -> bool:
        """Whether nothing is left but spaces."""
        self._skip_space()
        return self._at == len(self._text)

    def accept(self, mark: str) -> bool:
        """Read *mark* if it is what comes next."""
        self._skip_space()
        found = self._text.startswith(mark, self._at)
        self._at += len(mark) if found else 0
        return found

    def expect(self, mark: str) -> None:
        """Read *mark*; raises ConfigurationError when something else comes next."""
        if not self.accept(mark):
            self.fail(f"{mark!r} is missing")

    def name(self, kind: str) -> str:
        """Read a name of what *kind* says; raises ConfigurationError when something else comes next."""
        self._skip_space()
        found = _NAME.match(self._text, self._at)
        if found is None:
            self.fail(f"the name of a {kind} is missing")
        self._at = found.end()
        return found.group()

    def number(self) -> float | None:
        """Read a number, if that is what comes next."""
        self._skip_space()
        found = _NUMBER.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return float(found.group())

    def parameters(self) -> dict[str, Any]:
        """
        Read ``(name=value, ...)`` if that is what comes next; values are JSON, or words without quotes.

        Raises:
            ConfigurationError: It is not as it should be, or a name is given twice.
        """
        given: dict[str, Any] = {}
        if not self.accept("(") or self.accept(")"):
            return given
        while True:
            name = self.name("parameter")
            if name in given:
                self.fail(f"parameter {name} is given twice")
            self.expect("=")
            given[name] = self._value()
            if self.accept(")"):
                return given
            if not self.accept(","):
                self.fail("',' or ')' is missing")

    def fail(self, reason: str) -> NoReturn:
        """Raise the ConfigurationError for what comes next."""
        rest = self._text[self._at :]
        message = f"{self._what} {self._text!r}: at {repr(rest) if rest else 'its end'}: {reason}"
        raise ConfigurationError(message)

    def _value(self) -> Any:
        self._skip_space()
        try:
            value, end = _DECODER.raw_decode(self._text, self._at)
        except (ValueError, RecursionError):
            end = -1
        if end < 0 or self._text[end : end + 1] not in {"", ",", ")", " "}:
            found = _WORD.match(self._text, self._at)
            if found is None or found.group()[0] in '"[{':
                self.fail("a value is missing")
            value, end = found.group(), found.end()
        self._at = end
        return value

    def _skip_space(self) -> None:
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found is not None else self._at
