"""One condition on one label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import attrs

from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model._schema import LABEL_VALUE, Reader, check_label_key, check_text, quoted

__all__ = ["Operator", "Requirement", "read_requirement"]


class Operator(StrEnum):
    """How a `Requirement` judges a label."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    # Of selectors as text alone: the API's objects do not have these two.
    GREATER_THAN = "Gt"
    LESS_THAN = "Lt"


_IN_DOCUMENTS = (Operator.IN, Operator.NOT_IN, Operator.EXISTS, Operator.DOES_NOT_EXIST)
_GREATEST = 2**63 - 1
_COMPARING = {Operator.GREATER_THAN: ">", Operator.LESS_THAN: "<"}


def _to_operator(operator: str) -> Operator:
    try:
        return Operator(operator)
    except ValueError:
        issue = Issue("operator", f"{quoted(operator)} is not one of {', '.join(Operator)}", operator)
        raise InvalidDocumentError([issue], "label requirement") from None


def _to_values(values: Iterable[str]) -> tuple[str, ...]:
    given: object = values
    listed: list[Any] = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [None]
    if not all(isinstance(value, str) for value in listed):
        issue = Issue("values", f"{quoted(values)} is not a list of strings", values)
        raise InvalidDocumentError([issue], "label requirement")
    return tuple(sorted(set(listed)))


@attrs.frozen
class Requirement:
    """
    One condition on one label.

    Attributes:
        key: The label's key.
        operator: How to judge it. ``NotIn`` also holds where the label is absent; ``Gt`` and ``Lt`` compare whole
            numbers of 64 bits, and hold for no other value.
        values: The values for ``In`` and ``NotIn``, sorted; the one number for ``Gt`` and ``Lt``; empty for the others.

    Raises:
        InvalidDocumentError: The key or a value is not allowed, or the operator does not go with the values.
    """

    key: str
    operator: Operator = attrs.field(converter=_to_operator)
    values: tuple[str, ...] = attrs.field(default=(), converter=_to_values)

    def __attrs_post_init__(self) -> None:
        issues = []
        if wrong := check_label_key(self.key):
            issues.append(Issue("key", wrong, self.key))
        compares = self.operator in _COMPARING
        takes_values = compares or self.operator in (Operator.IN, Operator.NOT_IN)
        if takes_values and not self.values:
            issues.append(Issue("values", f"must not be empty for {self.operator}", self.values))
        if not takes_values and self.values:
            issues.append(Issue("values", f"must be empty for {self.operator}", self.values))
        if compares and len(self.values) > 1:
            issues.append(Issue("values", f"must be one number for {self.operator}", self.values))
        if compares:
            issues += [
                Issue("values", f"{quoted(value)} is not a whole number of 64 bits", value)
                for value in self.values
                if _to_integer(value) is None
            ]
        issues += [
            Issue("values", wrong, value)
            for value in self.values
            if (wrong := check_text(value, most=63, pattern=LABEL_VALUE))
        ]
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
            case Operator.GREATER_THAN | Operator.LESS_THAN:
                return self._compares(labels.get(self.key))
            case _:
                return self.key not in labels

    def _compares(self, value: str | None) -> bool:
        found, limit = _to_integer(value or ""), _to_integer(self.values[0])
        if found is None or limit is None:
            return False
        return found > limit if self.operator is Operator.GREATER_THAN else found < limit

    def __str__(self) -> str:
        match self.operator:
            case Operator.GREATER_THAN | Operator.LESS_THAN:
                return f"{self.key}{_COMPARING[self.operator]}{self.values[0]}"
            case Operator.IN | Operator.NOT_IN:
                return f"{self.key} {self.operator.lower()} ({','.join(self.values)})"
            case Operator.EXISTS:
                return self.key
            case _:
                return f"!{self.key}"


def _to_integer(text: str) -> int | None:
    # More digits than 64 bits have, leading zeros aside, are out of range; Python would take long to read many.
    if not (text.isascii() and text.isdigit()) or len(digits := text.lstrip("0")) > len(str(_GREATEST)):
        return None
    number = int(digits or "0")
    return number if number <= _GREATEST else None


def read_requirement(reader: Reader) -> Requirement | None:
    """Read one requirement; what is wrong is noted in *reader*."""
    before = len(reader.issues)
    key = reader.text("key", "", required=True) or ""
    operator = reader.text("operator", required=True, one_of=_IN_DOCUMENTS)
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
