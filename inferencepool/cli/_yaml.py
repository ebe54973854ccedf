"""
YAML documents, with the values that the Kubernetes tools read.

PyYAML finds the events of a text; the values are made here, because they differ. ``kubectl`` and the API server read
YAML with ``sigs.k8s.io/yaml``, whose scalars are those of go-yaml v2, and then as JSON:

=============================  ===========================================================================
``y yes on true``, ``n no``..  booleans, also in capitals and capitalised, as in YAML 1.1
``010``, ``0o10``, ``0x1F``    whole numbers in base 8, 8 and 16; ``1_000`` too; ``08`` is the number 8
``1e3``                        a number, unlike in PyYAML
``8000.0``                     the integer 8000: without a fraction it is one in JSON
``1:30``                       a string: no base 60
``2026-03-02``                 a string: no timestamps
``.nan``, ``.inf``             refused: JSON has no such numbers
keys ``1``, ``true``           strings, as JSON demands: ``"1"``, ``"true"``
a key given twice              refused, as in strict mode; a key that overrides a merged one (``<<``) is not given twice
=============================  ===========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from inferencepool.cli._input_file import refuse
from inferencepool.cli._json import MAX_DEPTH, has_lone_surrogate
from inferencepool.errors import InvalidDocumentError, MissingExtraError

__all__ = ["MAX_ALIASED_VALUES", "parse_yaml", "write_yaml"]

#: How many values aliases may add to a document by repeating what they stand for.
MAX_ALIASED_VALUES = 100_000

_TAG = "tag:yaml.org,2002:"
_TAGGED: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "null": (type(None),)}
_LITERALS: dict[str, bool | None] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_BASES = (
    (re.compile(r"[-+]?0[xX][0-9a-fA-F]+"), 16),
    (re.compile(r"[-+]?0[bB][01]+"), 2),
    (re.compile(r"[-+]?0[oO]?[0-7]+"), 8),
    (re.compile(r"[-+]?(?:0|[1-9][0-9]*)"), 10),
)
_LEAST_INTEGER, _GREATEST_INTEGER = -(2**63), 2**64 - 1


def parse_yaml(text: str, file: str) -> Iterator[tuple[int, Any]]:
    """
    Give the YAML documents of *text* with their numbers, from 1; empty ones are None.

    Args:
        text: One or several documents.
        file: Where it comes from, for messages.

    Raises:
        MissingExtraError: PyYAML is not installed.
        InvalidDocumentError: The text is not YAML, is nested deeper than `MAX_DEPTH`, or holds what JSON cannot say, a
            key twice, or aliases that repeat more than `MAX_ALIASED_VALUES`; the message gives line and column.
    """
    try:
        import yaml  # noqa: PLC0415 - an extra
    except ImportError:
        message = f'{file}: reading YAML needs PyYAML: pip install "inferencepool[yaml]"; JSON needs no extra'
        raise MissingExtraError(message) from None
    # The C parser is in most wheels, not in all.
    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    index = 1
    source = f"{file}: document {index}"
    try:
        events = yaml.parse(text, loader)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                source = f"{file}: document {index}"
                yield index, _Builder(events, source).build(next(events))
                index += 1
    except yaml.MarkedYAMLError as error:
        place = _place(error.problem_mark or error.context_mark)
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        # Some versions of the C parser have a limit of their own, and read far enough ahead to meet it before we do.
        if "nesting depth" in problem:
            raise refuse(source, f"{place}nested deeper than {MAX_DEPTH}") from None
        raise refuse(source, f"not YAML: {place}{problem}") from None
    except yaml.YAMLError as error:
        reason = f"not YAML: {' '.join(str(error).split())}"
        raise refuse(source, reason) from None


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""


class _Builder:
    """
    Makes the value of one document from its events.

    PyYAML would compose the events by recursion, in C without a limit: a file of brackets ends the process.
    """

    def __init__(self, events: Iterator[Any], source: str) -> None:
        self._events = events
        self._source = source
        # What an anchor stands for and how many values that is; None while it is being made.
        self._anchors: dict[str, tuple[Any, int] | None] = {}
        self._counted = 0
        self._repeated = 0

    def build(self, event: Any, path: str = "", depth: int = 0) -> Any:
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._repeat(event, path)
        if depth > MAX_DEPTH:
            raise self._refusal(event, "", f"nested deeper than {MAX_DEPTH}")
        before = self._counted + self._repeated
        self._counted += 1
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if kind == "MappingStartEvent":
            self._require(event, path, "map")
            value: Any = self._build_mapping(path, depth)
        elif kind == "SequenceStartEvent":
            self._require(event, path, "seq")
            value = self._build_sequence(path, depth)
        else:
            value = self._build_scalar(event, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._counted + self._repeated - before
        return value

    def _repeat(self, event: Any, path: str) -> Any:
        if event.anchor not in self._anchors:
            raise self._refusal(event, path, f"no anchor &{event.anchor} for this alias")
        anchored = self._anchors[event.anchor]
        if anchored is None:
            raise self._refusal(event, path, f"alias *{event.anchor} stands inside what it stands for")
        value, size = anchored
        # The value is shared, but whoever walks the document walks it again.
        self._repeated += size
        if self._repeated > MAX_ALIASED_VALUES:
            raise self._refusal(event, path, f"aliases repeat more than {MAX_ALIASED_VALUES} values")
        return value

    def _build_sequence(self, path: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while type(event := next(self._events)).__name__ != "SequenceEndEvent":
            items.append(self.build(event, f"{path}[{len(items)}]", depth + 1))
        return items

    def _build_mapping(self, path: str, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while type(event := next(self._events)).__name__ != "MappingEndEvent":
            if _is_plain(event) and event.value == "<<":
                for mapping in self._build_merged(path, depth):
                    merged = mapping | merged
                continue
            key = self._build_key(event, path)
            field = f"{path}.{key}".removeprefix(".")
            if key in own:
                raise self._refusal(event, field, "key is given twice")
            own[key] = self.build(next(self._events), field, depth + 1)
        return merged | own

    def _build_merged(self, path: str, depth: int) -> list[dict[str, Any]]:
        event = next(self._events)
        value = self.build(event, path, depth + 1)
        mappings = value if isinstance(value, list) else [value]
        if not all(isinstance(mapping, dict) for mapping in mappings):
            raise self._refusal(event, path, "<< takes a mapping or a list of mappings")
        return mappings

    def _build_key(self, event: Any, path: str) -> str:
        key = self.build(event, path) if type(event).__name__ in {"ScalarEvent", "AliasEvent"} else None
        if isinstance(key, bool):
            return "true" if key else "false"
        if not isinstance(key, str | int | float):
            raise self._refusal(event, path, "a key must be a string")
        return str(key)

    def _build_scalar(self, event: Any, path: str) -> Any:
        text: str = event.value
        tag = (event.tag or "").removeprefix(_TAG)
        if _is_plain(event) or tag in _TAGGED:
            try:
                value = _resolve(text)
            except ValueError as error:
                raise self._refusal(event, path, str(error)) from None
            if tag in _TAGGED and type(value) not in _TAGGED[tag]:
                raise self._refusal(event, path, f"{text!r} is not of tag !!{tag}")
            return _as_json(value)
        if tag not in {"", "!", "str"}:
            raise self._refusal(event, path, f"tag {event.tag!r} is not allowed")
        if has_lone_surrogate(text):
            raise self._refusal(event, path, f"half of a surrogate pair in {text!a}")
        return text

    def _require(self, event: Any, path: str, tag: str) -> None:
        if event.tag not in {None, "!", _TAG + tag}:
            raise self._refusal(event, path, f"tag {event.tag!r} is not allowed")

    def _refusal(self, event: Any, path: str, reason: str) -> InvalidDocumentError:
        return refuse(self._source, f"{_place(event.start_mark)}{reason}", path)


def _is_plain(event: Any) -> bool:
    return type(event).__name__ == "ScalarEvent" and event.tag is None and bool(event.implicit[0])


def _as_json(value: Any) -> Any:
    """Give a number without a fraction as an integer: in the JSON that the API server is sent it is one."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) <= -_LEAST_INTEGER
    return int(value) if whole else value


def _resolve(text: str) -> Any:
    """Give the value of a plain scalar as go-yaml v2 resolves it; the module docstring lists the rules."""
    if text in _LITERALS:
        return _LITERALS[text]
    # Only what begins like a number can be one; an underscore in front makes a string.
    if text[0] not in "+-.0123456789":
        return text
    if _NO_NUMBER.fullmatch(text):
        message = f"{text} is not a JSON number"
        raise ValueError(message)
    digits = text.replace("_", "")
    for pattern, base in _BASES:
        if pattern.fullmatch(digits) and (integer := _to_integer(digits, base)) is not None:
            return integer
    if _FLOAT.fullmatch(digits):
        number = float(digits)
        if not isfinite(number):
            message = f"number {text[:40]} is too great"
            raise ValueError(message)
        return number
    return text


def _to_integer(digits: str, base: int) -> int | None:
    # Longer than 64 digits in base 2 is out of range in any base; Python would take long to read it.
    if len(digits) > len("-0b") + 64:
        return None
    integer = int(digits.replace("o", "").replace("O", ""), base)
    return integer if _LEAST_INTEGER <= integer <= _GREATEST_INTEGER else None


def write_yaml(documents: Sequence[Mapping[str, Any]]) -> str:
    """
    Write *documents* as YAML, without a line break at the end.

    Raises:
        MissingExtraError: PyYAML is not installed.
    """
    try:
        import yaml  # noqa: PLC0415 - an extra
    except ImportError:
        message = '--output yaml needs PyYAML: pip install "inferencepool[yaml]"; --output json does not'
        raise MissingExtraError(message) from None
    text: str = yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=120)
    return text.rstrip("\n")
