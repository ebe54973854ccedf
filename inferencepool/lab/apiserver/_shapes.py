"""What has to have which JSON type, so that everything behind can rely on it: decoding, in the API server's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._resources import Document

__all__ = ["check_metadata", "check_shapes"]

# Paths of fields, a star for all fields of an object, and brackets for the items of a list.
_METADATA: tuple[tuple[str, type], ...] = (
    ("apiVersion", str),
    ("kind", str),
    ("metadata", dict),
    ("metadata.name", str),
    ("metadata.generateName", str),
    ("metadata.namespace", str),
    ("metadata.uid", str),
    ("metadata.resourceVersion", str),
    ("metadata.labels", dict),
    ("metadata.annotations", dict),
    ("metadata.finalizers", list),
    ("metadata.finalizers[]", str),
    ("metadata.ownerReferences", list),
    ("metadata.ownerReferences[]", dict),
    ("metadata.managedFields", list),
)
_REST: tuple[tuple[str, type], ...] = (
    ("spec", dict),
    ("spec.nodeName", str),
    ("spec.terminationGracePeriodSeconds", int),
    ("spec.selector", dict),
    ("spec.selector.matchLabels", dict),
    ("spec.template", dict),
    ("spec.template.metadata", dict),
    ("spec.template.metadata.labels", dict),
    ("spec.resourceAttributes", dict),
    ("spec.resourceAttributes.*", str),
    ("spec.nonResourceAttributes", dict),
    ("spec.nonResourceAttributes.*", str),
    ("status", dict),
    ("roleRef", dict),
    ("roleRef.*", str),
    ("subjects", list),
    ("subjects[]", dict),
    ("subjects[].*", str),
    ("rules", list),
    ("rules[]", dict),
    ("rules[].*", list),
    ("rules[].*[]", str),
    ("preconditions", dict),
    ("preconditions.*", str),
    ("gracePeriodSeconds", int),
)
_GO_TYPES = {str: "string", dict: "object", list: "array", int: "int64"}


def check_metadata(document: Document) -> None:
    """
    Check what all objects have.

    Raises:
        RefusedError: 400, a field has the wrong type.
    """
    _check(document, _METADATA)


def check_shapes(document: Document) -> None:
    """
    Check an object of a built-in type.

    Raises:
        RefusedError: 400, a field has the wrong type.
    """
    _check(document, _METADATA)
    _check(document, _REST)


def _check(document: Document, shapes: tuple[tuple[str, type], ...]) -> None:
    for path, wanted in shapes:
        for found in _find(document, path.replace("[]", ".[]").split(".")):
            if found is not None and (not isinstance(found, wanted) or isinstance(found, bool)):
                message = f"json: cannot unmarshal {_name(found)} into {path} of type {_GO_TYPES[wanted]}"
                raise refusals.bad_request(message)


def _find(value: Any, steps: list[str]) -> Iterator[Any]:
    """Give what is at a path; what is on the way there was found to be right before."""
    if not steps or value is None:
        yield value
    elif steps[0] == "[]":
        for item in value:
            yield from _find(item, steps[1:])
    elif steps[0] == "*":
        for item in value.values():
            yield from _find(item, steps[1:])
    else:
        yield from _find(value.get(steps[0]), steps[1:])


def _name(found: object) -> str:
    return _GO_TYPES.get(type(found), "bool" if isinstance(found, bool) else "number")
