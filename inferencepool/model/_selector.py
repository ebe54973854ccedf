"""Label selectors: the objects of the API, and the text that ``kubectl -l`` takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import attrs

from inferencepool.errors import InvalidDocumentError, InvalidSelectorError, Issue
from inferencepool.model._requirement import Operator, Requirement, read_requirement
from inferencepool.model._schema import Reader, check_labels, quoted

__all__ = ["LabelSelector"]


def _to_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    given: object = labels
    if not isinstance(given, Mapping):
        issue = Issue("matchLabels", f"{quoted(given)} is not an object", given)
        raise InvalidDocumentError([issue], "label selector")
    return dict(labels)


def _to_requirements(requirements: Iterable[Requirement]) -> tuple[Requirement, ...]:
    given: object = requirements
    listed: list[Any] = list(given) if isinstance(given, Iterable) else [None]
    if not all(isinstance(item, Requirement) for item in listed):
        issue = Issue("matchExpressions", f"{quoted(given)} is not a list of requirements", given)
        raise InvalidDocumentError([issue], "label selector")
    return tuple(listed)


@attrs.frozen(eq=False)
class LabelSelector:
    """
    Chooses objects by their labels: all conditions must hold. An empty selector matches everything.

    An InferencePool of the API has *match_labels* only; *match_expressions* are for use without one. Selectors are
    equal if their conditions are: ``In`` with one value is that label. ``str()`` gives a text from which `parse` reads
    an equal selector.

    Attributes:
        match_labels: Labels that must be there with these values.
        match_expressions: Further conditions.

    Raises:
        InvalidDocumentError: A key or a value is no label's.
    """

    match_labels: Mapping[str, str] = attrs.field(factory=dict, converter=_to_labels)
    match_expressions: tuple[Requirement, ...] = attrs.field(default=(), converter=_to_requirements)

    def __attrs_post_init__(self) -> None:
        issues = check_labels(self.match_labels, "matchLabels")
        if issues:
            raise InvalidDocumentError(issues, "label selector")

    def __eq__(self, other: object) -> bool:
        return self._conditions() == other._conditions() if isinstance(other, LabelSelector) else NotImplemented

    def __hash__(self) -> int:
        labels, requirements = self._conditions()
        return hash((frozenset(labels.items()), requirements))

    def _conditions(self) -> tuple[dict[str, str], tuple[Requirement, ...]]:
        """Give what is compared: labels with one value, and all other conditions."""
        labels, requirements = dict(self.match_labels), []
        for item in self.match_expressions:
            # A second value for a label does not replace the first: both must hold.
            if item.operator is Operator.IN and len(item.values) == 1 and item.key not in labels:
                labels[item.key] = item.values[0]
            else:
                requirements.append(item)
        return labels, tuple(requirements)

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
        ``key notin (a, b)``, ``key>5`` and ``key<5`` (the label is a whole number, and greater or less), ``key`` (the
        label exists) and ``!key`` (it does not).

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
        labels = reader.labels("matchLabels") or {}
        requirements = [read_requirement(item) for item in reader.items("matchExpressions") or []]
        reader.done()
        return reader.finish(
            "label selector", unknown, lambda: cls(labels, [item for item in requirements if item is not None])
        )

    def to_dict(self) -> dict[str, Any]:
        """
        Give the document; empty parts are left out.

        Raises:
            InvalidDocumentError: It compares numbers, for which documents have no words.
        """
        comparing = [
            item for item in self.match_expressions if item.operator in (Operator.GREATER_THAN, Operator.LESS_THAN)
        ]
        if comparing:
            reason = f"{comparing[0]}: only selectors written as text compare numbers"
            raise InvalidDocumentError([Issue("matchExpressions", reason, comparing)], "label selector")
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


# A label key or value, or one of the marks; `in` and `notin` are words, told apart by where they stand.
# Only these four characters are space to Kubernetes.
_TOKEN = re.compile(r"[ \t\r\n]*(?:(?P<word>[-A-Za-z0-9_./]+)|(?P<mark>==|!=|[=!(),<>])|(?P<end>\Z))")


_ONE_VALUE = {
    "=": Operator.IN,
    "==": Operator.IN,
    "!=": Operator.NOT_IN,
    ">": Operator.GREATER_THAN,
    "<": Operator.LESS_THAN,
}
_VALUES = {"in": Operator.IN, "notin": Operator.NOT_IN}


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
                self._refuse("a label key after the comma")
        return LabelSelector(labels, requirements)

    def _requirement(self) -> Requirement:
        start = self._start
        if self._take("!"):
            return self._build(start, self._word("a label key"), Operator.DOES_NOT_EXIST)
        key = self._word("a label key or '!'")
        mark = self._token
        if mark in _ONE_VALUE:
            self._advance()
            return self._build(start, key, _ONE_VALUE[mark], self._value())
        if mark in _VALUES:
            self._advance()
            return self._build(start, key, _VALUES[mark], *self._values())
        if self._token not in ("", ","):
            self._refuse("one of =, ==, !=, >, <, in, notin or a comma")
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
            self._refuse(wanted)
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
            self._refuse(repr(token))

    def _advance(self) -> None:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            self._start = len(self._text) - len(self._text[self._at :].lstrip(" \t\r\n"))
            self._token = self._text[self._start]
            self._refuse("a label key, a value or one of = == != > < ! ( ) ,")
        self._at = found.end()
        self._start = found.start(found.lastgroup or 0)
        self._token = found[found.lastgroup or 0]
        self._is_word = found.lastgroup == "word"

    def _refuse(self, wanted: str) -> NoReturn:
        found = quoted(self._token) if self._token else "the end"
        text = quoted(self._text)
        message = f"label selector {text}: at character {self._start}: found {found}, expected {wanted}"
        raise InvalidSelectorError(message)
