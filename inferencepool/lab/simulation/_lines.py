"""Objects in lines of JSON, read strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any, NoReturn, Self, final

from inferencepool._checks import MOST
from inferencepool.errors import Issue

__all__ = ["Fields", "WrongLineError"]

_SHOWN = 60


class WrongLineError(Exception):
    """Something in a line is not as it should be."""

    def __init__(self, issue: Issue) -> None:
        super().__init__(str(issue))
        self.issue = issue


@final
class Fields:
    """
    The fields of an object in a line.

    What is not as it should be is raised as a `WrongLineError` that names the field, its value and what is allowed.
    """

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        """
        Look at an object.

        Args:
            values: Its fields.
            path: Where in the line it is; empty for the line itself.
        """
        self._values = values
        self._path = path

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read a line that is one object."""
        whole = cls({})

        def refuse_constant(name: str) -> NoReturn:
            whole.fail("", f"{name} is not a JSON number", name)

        try:
            value = json.loads(line, parse_constant=refuse_constant, object_pairs_hook=_object)
        except json.JSONDecodeError as error:
            whole.fail("", f"is not JSON: {error.msg} at column {error.colno}", line)
        except (ValueError, RecursionError):
            whole.fail("", "is not JSON that can be read: a number too long, or nested too deep", line)
        if not isinstance(value, dict):
            whole.fail("", f"{_shorten(value)} is not an object", value)
        return cls(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str) -> Any:
        """Give the value of a field, whatever it is; None when it is absent."""
        return self._values.get(name)

    def only(self, *names: str) -> None:
        """Make sure that there are no fields but *names*."""
        for name, value in self._values.items():
            if name not in names:
                self.fail(name, f"is no field of this object, allowed are {', '.join(names)}", value)

    def number(self, name: str, unit: str) -> float:
        """Give a number of 0 or more."""
        value = self.get(name)
        if type(value) not in (int, float) or not (isfinite(value) and value >= 0):
            self.refuse(name, f"a number of {unit} of 0 or more")
        return float(value)

    def count(self, name: str) -> int:
        """Give a whole number of 1 or more."""
        value = self.get(name)
        if type(value) is not int or not 1 <= value <= MOST:
            self.refuse(name, f"a whole number from 1 to {MOST}")
        return value

    def text(self, name: str) -> str:
        """Give a text; an empty one when the field is absent."""
        value = self._values.get(name, "")
        if not isinstance(value, str):
            self.refuse(name, "a text")
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail(name, f"{_shorten(value)} is no text, it holds half of a surrogate pair", value)
        return value

    def refuse(self, name: str, allowed: str) -> NoReturn:
        """Refuse the value of a field, or its absence."""
        value = self.get(name)
        reason = f"{_shorten(value)} is not {allowed}" if name in self else f"is missing; allowed is {allowed}"
        self.fail(name, reason, value)

    def fail(self, name: str, reason: str, value: object) -> NoReturn:
        """Refuse a field for *reason*."""
        path = f"{self._path}.{name}" if self._path and name else self._path or name
        raise WrongLineError(Issue(path, reason, value))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        Fields(made).fail(twice, "is given twice", made[twice])
    return made


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
