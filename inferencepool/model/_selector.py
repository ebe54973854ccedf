"""Label selectors: the objects of the API, and the text that ``kubectl -l`` takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import attrs

from inferencepool.errors import InvalidDocumentError, InvalidSelectorError, Issue
from inferencepool.model._schema import LABEL_VALUE, Reader, check_label_key, check_labels, check_text, quoted

__all__ = ["LabelSelector", "Operator", "Requirement"]


class Operator(StrEnum):
    """How a `Requirement` judges a label."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


def _sorted(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


@attrs.frozen
class Requirement:
    """
    One condition on one label.

    Attributes:
        key: The label's key.
        operator: How to judge it. ``NotIn`` also holds where the label is absent.
        values: The values for ``In`` and ``NotIn``, sorted; empty for the others.

    Raises:
        InvalidDocumentError: The key or a value is not allowed, or the operator does not go with the values.
    """

    key: str
    operator: Operator = attrs.field(converter=Operator)
    values: tuple[str, ...] = attrs.field(default=(), converter=_sorted)

    def __attrs_post_init__(self) -> None:
        issues = []
        if wrong := check_label_key(self.key):
            issues.append(Issue("key", wrong, self.key))
        takes_values = self.operator in (Operator.IN, Operator.NOT_IN)
        if takes_values and not self.values:
            issues.append(Issue("values", f"must not be empty for {self.operator}", self.values))
        if not takes_values and self.values:
            issues.append(Issue("values", f"must be empty for {self.operator}", self.values))
        for value in self.values:
            if wrong := check_text(value, most=63, pattern=LABEL_VALUE):
                issues.append(Issue("values", wrong, value))
        if issues:
            raise InvalidDocumentError(issues, "label requirement")

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether *labels* meet the requirement."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case _:
                return self.key not in labels

    def __str__(self) -> str:
        match self.operator:
            case Operator.IN | Operator.NOT_IN:
                return f"{self.key} {self.operator.lower()} ({','.join(self.values)})"
            case Operator.EXISTS:
                return self.key
            case _:
                return f"!{self.key}"


def _frozen_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    return dict(labels) if isinstance(labels, Mapping) else labels


@attrs.frozen
class LabelSelector:
    """
    Chooses objects by their labels: all conditions must hold. An empty selector matches everything.

    An InferencePool of the API has *match_labels* only; *match_expressions* are for use without one. ``str()`` gives
    the text that `parse` reads.

    Attributes:
        match_labels: Labels that must be there with these values.
        match_expressions: Further conditions.

    Raises:
        InvalidDocumentError: A key or a value is no label's.
    """

    match_labels: Mapping[str, str] = attrs.field(factory=dict, converter=_frozen_labels)
    match_expressions: tuple[Requirement, ...] = attrs.field(default=(), converter=tuple)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.match_labels, Mapping):
            issue = Issue("matchLabels", f"{quoted(self.match_labels)} is not an object", self.match_labels)
            raise InvalidDocumentError([issue], "label selector")
        issues = check_labels(self.match_labels, "matchLabels")
        if issues:
            raise InvalidDocumentError(issues, "label selector")

    def __hash__(self) -> int:
        return hash((frozenset(self.match_labels.items()), self.match_expressions))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether *labels* meet all conditions."""
        for key, value in self.match_labels.items():
            if labels.get(key) != value:
                return False
        return all(requirement.matches(labels) for requirement in self.match_expressions)

    @classmethod
    def parse(cls, text: str) -> LabelSelector:
        """
        Read the text that ``kubectl -l`` takes: ``app in (a, b), tier!=x, !canary``.

        Conditions are separated by commas: ``key=value`` or ``==``, ``key!=value``, ``key in (a, b)``,
        ``key notin (a, b)``, ``key`` (the label exists) and ``!key`` (it does not).

        Raises:
            InvalidSelectorError: The text is not such a list; the message shows where it stops making sense.
        """
        return _Parser(text).selector()

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], *, unknown: str = "ignore") -> LabelSelector:
        """
        Read a selector with ``matchLabels`` and ``matchExpressions``.

        Raises:
            InvalidDocumentError: Something is wrong; it tells everything that is.
        """
        reader = Reader.of(document)
        labels = reader.strings("matchLabels") or {}
        reader.issues += check_labels(labels, "matchLabels")
        requirements = [_read_requirement(item) for item in reader.items("matchExpressions") or []]
        reader.done()
        return reader.finish(
            "label selector", unknown, lambda: cls(labels, [item for item in requirements if item is not None])
        )

    def to_dict(self) -> dict[str, Any]:
        """Give the document; empty parts are left out."""
        document: dict[str, Any] = {}
        if self.match_labels:
            document["matchLabels"] = dict(self.match_labels)
        if self.match_expressions:
            document["matchExpressions"] = [
                {"key": item.key, "operator": str(item.operator)} | ({"values": [*item.values]} if item.values else {})
                for item in self.match_expressions
            ]
        return document

    def __str__(self) -> str:
        equal = [f"{key}={value}" for key, value in self.match_labels.items()]
        return ",".join([*equal, *map(str, self.match_expressions)])


def _read_requirement(reader: Reader) -> Requirement | None:
    before = len(reader.issues)
    key = reader.text("key", "", required=True) or ""
    operator = reader.text("operator", required=True, one_of=[*Operator])
    values = reader.get("values")
    if values is None:
        values = []
    if not isinstance(values, Sequence) or isinstance(values, str) or not all(isinstance(v, str) for v in values):
        reader.wrong("values", f"{quoted(values)} is not a list of strings", values)
    reader.done()
    if operator is None or len(reader.issues) > before:
        return None
    try:
        return Requirement(key, operator, values)
    except InvalidDocumentError as error:
        for issue in error.issues:
            reader.wrong(issue.field, issue.reason, issue.value)
        return None


# A label key or value, or one of the marks; `in` and `notin` are words, told apart by where they stand.
_TOKEN = re.compile(r"\s*(?:(?P<word>[-A-Za-z0-9_./]+)|(?P<mark>==|!=|[=!(),])|(?P<end>$))")


class _Parser:
    """Reads one selector from left to right, one token ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = self._start = 0
        self._token = ""
        self._is_word = False
        self._advance()

    def selector(self) -> LabelSelector:
        labels: dict[str, str] = {}
        requirements: list[Requirement] = []
        while self._token:
            requirement = self._requirement()
            if requirement.operator is Operator.IN and len(requirement.values) == 1 and requirement.key not in labels:
                labels[requirement.key] = requirement.values[0]
            else:
                requirements.append(requirement)
            if not self._token:
                break
            self._expect(",")
            if not self._token:
                raise self._error("a label key after the comma")
        return LabelSelector(labels, requirements)

    def _requirement(self) -> Requirement:
        start = self._start
        if self._take("!"):
            return self._build(start, self._word("a label key"), Operator.DOES_NOT_EXIST)
        key = self._word("a label key or '!'")
        if self._take("=") or self._take("=="):
            return self._build(start, key, Operator.IN, self._value())
        if self._take("!="):
            return self._build(start, key, Operator.NOT_IN, self._value())
        if self._take("in"):
            return self._build(start, key, Operator.IN, *self._values())
        if self._take("notin"):
            return self._build(start, key, Operator.NOT_IN, *self._values())
        if self._token not in ("", ","):
            raise self._error("one of =, ==, !=, in, notin or a comma")
        return self._build(start, key, Operator.EXISTS)

    def _build(self, start: int, key: str, operator: Operator, *values: str) -> Requirement:
        try:
            return Requirement(key, operator, values)
        except InvalidDocumentError as error:
            reasons = "; ".join(issue.reason for issue in error.issues)
            message = f"label selector {quoted(self._text)}: at character {start}: {reasons}"
            raise InvalidSelectorError(message) from None

    def _value(self) -> str:
        return "" if self._token in ("", ",", ")") else self._word("a value")

    def _values(self) -> list[str]:
        self._expect("(")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        self._expect(")")
        return values

    def _word(self, wanted: str) -> str:
        if not self._is_word:
            raise self._error(wanted)
        word = self._token
        self._advance()
        return word

    def _take(self, token: str) -> bool:
        if self._token != token:
            return False
        self._advance()
        return True

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise self._error(repr(token))

    def _advance(self) -> None:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            self._start = len(self._text) - len(self._text[self._at :].lstrip())
            self._token = self._text[self._start]
            raise self._error("a label key, a value or one of = == != ! ( ) ,")
        self._at = found.end()
        self._start = found.start(found.lastgroup or 0)
        self._token = found[found.lastgroup or 0]
        self._is_word = found.lastgroup == "word"

    def _error(self, wanted: str) -> InvalidSelectorError:
        found = quoted(self._token) if self._token else "the end"
        text = quoted(self._text)
        return InvalidSelectorError(
            f"label selector {text}: at character {self._start}: found {found}, expected {wanted}"
        )
