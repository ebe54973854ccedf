"""Which objects a list or a watch is about."""

from __future__ import annotations

import re
from typing import Any

import attrs

from inferencepool.errors import InvalidSelectorError
from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._resources import Document, Resource
from inferencepool.model import LabelSelector

__all__ = ["Scope", "read_scope"]

_TERM = re.compile(r"(?P<field>[A-Za-z.\[\]/_-]+)(?P<operator>==|=|!=)(?P<value>.*)", re.DOTALL)
_EVERYWHERE = ("metadata.name", "metadata.namespace")


@attrs.frozen
class _FieldTerm:
    path: tuple[str, ...]
    value: str
    equal: bool

    def matches(self, document: Document) -> bool:
        found: Any = document
        for name in self.path:
            found = found.get(name) if isinstance(found, dict) else None
        return (str("" if found is None else found) == self.value) is self.equal


@attrs.frozen
class Scope:
    """
    The objects that a list or a watch is about.

    Attributes:
        namespace: The namespace; empty for all.
        labels: What their labels must meet.
        fields: What their fields must meet.
    """

    namespace: str = ""
    labels: LabelSelector | None = None
    fields: tuple[_FieldTerm, ...] = ()

    @property
    def selects(self) -> bool:
        """Whether it chooses among the objects of its namespace."""
        return self.labels is not None or bool(self.fields)

    def covers(self, document: Document) -> bool:
        """Tell whether *document* is in it."""
        metadata = document["metadata"]
        if self.namespace and metadata.get("namespace") != self.namespace:
            return False
        if self.labels is not None and not self.labels.matches(metadata.get("labels") or {}):
            return False
        return all(term.matches(document) for term in self.fields)


def read_scope(resource: Resource, namespace: str, label_selector: str, field_selector: str) -> Scope:
    """
    Read the selectors of a request.

    Raises:
        RefusedError: 400, a selector cannot be read, or *resource* has no such field selector.
    """
    labels = None
    if label_selector:
        try:
            labels = LabelSelector.parse(label_selector)
        except InvalidSelectorError as error:
            message = f"unable to parse requirement: {error}"
            raise refusals.bad_request(message) from None
    terms = [_read_term(resource, text) for text in field_selector.split(",") if text]
    return Scope(namespace, labels, tuple(terms))


def _read_term(resource: Resource, text: str) -> _FieldTerm:
    found = _TERM.fullmatch(text.strip())
    if found is None:
        message = f"invalid selector: '{text}'; can't understand '{text}'"
        raise refusals.bad_request(message)
    field = found["field"]
    if field not in _EVERYWHERE and field not in resource.fields:
        message = f"field label not supported: {field}"
        raise refusals.bad_request(message)
    return _FieldTerm(tuple(field.split(".")), found["value"], found["operator"] != "!=")
