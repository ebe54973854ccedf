"""
Every field of every schema, with values at and just beyond its limits, judged by the schema and by us.

Random documents seldom hold a text of exactly 63 or 64 characters, so the limits are taken from the schemas here: each
document has all fields, and one of them at a time holds something else.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.model.test_against_crds import FOLDER, _issues_of_schema, _keyed_badly, _our_issues, _schemas
from tests.strategies import documents

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the folder of CRDs is absent: {FOLDER}")

_TIME = "2026-01-02T03:04:05Z"
_CONDITION = {
    "type": "Accepted",
    "status": "True",
    "reason": "Accepted",
    "message": "",
    "lastTransitionTime": _TIME,
    "observedGeneration": 1,
}
_OLD_PARENT = {
    "parentRef": {"group": "example.com", "kind": "Gateway", "name": "gw", "namespace": "models"},
    "conditions": [_CONDITION],
}
_PARENT = {**_OLD_PARENT, "controllerName": "example.com/controller"}
_PICKER = {"group": "", "kind": "Service", "name": "epp", "failureMode": "FailOpen"}
_POOL_REF = {"group": "example.com", "kind": "InferencePool", "name": "llama"}
_MATCH = {"model": {"type": "Exact", "value": "a"}}

DOCUMENTS: tuple[dict[str, Any], ...] = (
    {
        "apiVersion": documents.V1,
        "kind": "InferencePool",
        "spec": {
            "selector": {"matchLabels": {"app": "llama"}},
            "targetPorts": [{"number": 8000}],
            "appProtocol": "http",
            "endpointPickerRef": {**_PICKER, "port": {"number": 9002}},
        },
        "status": {"parents": [_PARENT]},
    },
    {
        "apiVersion": documents.V1ALPHA2,
        "kind": "InferencePool",
        "spec": {
            "selector": {"app": "llama"},
            "targetPortNumber": 8000,
            "extensionRef": {**_PICKER, "portNumber": 9002},
        },
        "status": {"parent": [_OLD_PARENT]},
    },
    {
        "apiVersion": documents.OBJECTIVES,
        "kind": "InferenceObjective",
        "spec": {"poolRef": _POOL_REF, "priority": 1},
        "status": {"conditions": [_CONDITION]},
    },
    {
        "apiVersion": documents.OBJECTIVES,
        "kind": "InferenceModelRewrite",
        "spec": {
            "poolRef": _POOL_REF,
            "rules": [{"matches": [_MATCH], "targets": [{"modelRewrite": "b", "weight": 1}]}],
        },
        "status": {"conditions": [_CONDITION]},
    },
    {
        "apiVersion": documents.IMPORTS,
        "kind": "InferencePoolImport",
        "status": {
            "controllers": [
                {
                    "name": "example.com/controller",
                    "exportingClusters": [{"name": "east"}],
                    "parents": [_PARENT],
                    "conditions": [_CONDITION],
                }
            ]
        },
    },
)

_ABSENT = object()
_TYPES: tuple[Any, ...] = (_ABSENT, None, True, 1, 8000.0, 80.5, "8000", "", [], {}, [{}], [1])
_TEXTS = ("a", "A", "-a", "a-", "a.b", "a..b", "a_b", "a b", "a\n", "a,b:c", "é", "a/b", "a.b/c/~", "Service", "Status")
_TIMES = ("2026-01-02t03:04:05.1z", "2026-01-02", "2026-02-30T03:04:05Z", "2026-01-02T03:04:05+01:00", "now")


def _texts(schema: dict[str, Any]) -> Iterator[str]:
    yield from _TEXTS
    yield from schema.get("enum", ())
    if schema.get("format") == "date-time":
        yield from _TIMES
    for name in ("minLength", "maxLength"):
        length = schema.get(name, 0)
        # The one with a path is for names of controllers, whose pattern refuses the others.
        for size in (length - 1, length, length + 1):
            yield "a" * size
            yield ("a.example/" + "b" * size)[: max(size, 0)]


def _numbers(schema: dict[str, Any]) -> Iterator[int]:
    limits = [schema[name] for name in ("minimum", "maximum") if name in schema]
    limits += [-(2**31), 2**31 - 1] if schema.get("format") == "int32" else [-(2**63), 2**63 - 1]
    for limit in limits:
        yield from (limit - 1, limit, limit + 1)


def _lists(schema: dict[str, Any], item: dict[str, Any]) -> Iterator[list[Any]]:
    yield [item, item]
    for name in ("minItems", "maxItems"):
        length = schema.get(name, 0)
        for size in (length - 1, length, length + 1):
            yield [_variant(item, index) for index in range(size)]


def _variant(item: dict[str, Any], index: int) -> dict[str, Any]:
    """Make an item that differs from the others where items of a list must."""
    changes = {"number": 8000 + index, "type": f"Own{index}", "name": f"example.com/c{index}"}
    return item | {name: value for name, value in changes.items() if name in item}


def _values(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    """Make values for a field that holds a valid *value*."""
    yield from _TYPES
    match schema.get("type"):
        case "string":
            yield from _texts(schema)
        case "integer":
            yield from _numbers(schema)
        case "array":
            yield from _lists(schema, value[0])
        case _ if "additionalProperties" in schema:
            for size in (1, 64, 65):
                yield {f"key{index}": "a" for index in range(size)}


def _fields(schema: dict[str, Any], value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """Find all fields of a document, each with its path and its schema."""
    if path:
        yield path, schema
    if isinstance(value, list):
        yield from _fields(schema["items"], value[0], (*path, 0))
    elif isinstance(value, dict):
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            if inner is not None and (path or name in ("spec", "status")):
                yield from _fields(inner, item, (*path, name))


def _with(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Copy a document with another *value* at a path, or without it."""
    document = copy.deepcopy(document)
    node: Any = document
    for step in path[:-1]:
        node = node[step]
    if value is _ABSENT:
        del node[path[-1]]
    else:
        node[path[-1]] = copy.deepcopy(value)
    return document


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


@pytest.mark.parametrize("whole", DOCUMENTS, ids=lambda whole: f"{whole['apiVersion']}-{whole['kind']}")
def test_limits(whole: dict[str, Any]) -> None:
    """A document with one field at or beyond its limits is judged alike."""
    document = {**whole, "metadata": {"name": "llama"}}
    schema = _schemas()[whole["apiVersion"], whole["kind"]]
    fields = list(_fields(schema, document))
    tried = {True: 0, False: 0}
    for path, inner in fields:
        for value in _values(inner, _at(document, path)):
            changed = _with(document, path, value)
            if _keyed_badly(changed):
                continue
            theirs, ours = _issues_of_schema(changed), _our_issues(changed)

            assert bool(theirs) == bool(ours), (path, value, theirs, ours)
            tried[bool(ours)] += 1

    assert min(tried.values()) > len(fields)
