"""
Our reading of documents against the schemas that the API server uses.

The schemas are no part of this repository: they are looked for beside it, or where INFERENCEPOOL_CRDS says. We are
stricter in what a schema leaves to other parts of the API server (keys of labels, names, times) and in asking
objects of v1alpha2 for their spec; the documents here do not differ in that, or the test says so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from inferencepool.errors import InvalidDocumentError
from inferencepool.model import parse_object
from inferencepool.model._status import _is_time
from tests.strategies import documents

_BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "crds"
FOLDER = Path(os.environ.get("INFERENCEPOOL_CRDS") or _BESIDE)

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the folder of CRDs is absent: {FOLDER}")

FORMATS = FormatChecker(formats=())
FORMATS.checks("int32")(lambda value: not isinstance(value, int) or -(2**31) <= value < 2**31)
FORMATS.checks("int64")(lambda value: not isinstance(value, int) or -(2**63) <= value < 2**63)
FORMATS.checks("date-time")(lambda value: not isinstance(value, str) or _is_time(value))


@cache
def _schemas() -> dict[tuple[str, str], Any]:
    schemas = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]
        for version in spec["versions"]:
            schema = _anchored(version["schema"]["openAPIV3Schema"])
            schemas[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return schemas


def _anchored(node: Any) -> Any:
    """Let `$` in patterns mean the very end, as it does for the API server, and not the place before a last newline."""
    if isinstance(node, list):
        return [_anchored(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _anchored(value) for key, value in node.items()}
    if isinstance(node.get("pattern"), str):
        node["pattern"] = re.sub(r"\$$", r"\\Z", node["pattern"]).replace("^$|", r"^\Z|")
    return node


def _without_nulls(value: Any, schema: Any) -> Any:
    """Leave out the declared fields that are null, as if they were absent."""
    if isinstance(value, list):
        return [_without_nulls(item, schema.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    declared = schema.get("properties", {})
    return {
        key: _without_nulls(item, declared.get(key, {}))
        for key, item in value.items()
        if item is not None or key not in declared
    }


def _further(value: Any, schema: Any) -> Iterator[str]:
    """Apply what a plain validator does not know to a *value* that it accepts: keys of lists, and rules in CEL."""
    if isinstance(value, list):
        for name in schema.get("x-kubernetes-list-map-keys", ()):
            keys = [item[name] for item in value]
            if len(set(keys)) < len(keys):
                yield f"two items have the same {name}"
        for item in value:
            yield from _further(item, schema.get("items", {}))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _further(item, schema.get("properties", {}).get(key, {}))
    for rule in schema.get("x-kubernetes-validations", ()):
        if not _holds(rule["rule"], value):
            yield rule["message"]


def _holds(rule: str, value: Any) -> bool:
    match rule:
        case "self.kind != 'Service' || has(self.port)":
            return value.get("kind", "Service") != "Service" or "port" in value
        case "self.all(p1, self.exists_one(p2, p1.number==p2.number))":
            # In CEL a number with a point is no integer, and comparing it as one fails.
            numbers = [port["number"] for port in value]
            return len(set(numbers)) == len(numbers) and not any(isinstance(number, float) for number in numbers)
        case _:
            pytest.fail(f"a rule that this test does not know: {rule}")


def _issues_of_schema(document: dict[str, Any]) -> list[str]:
    schema = _schemas()[document["apiVersion"], document["kind"]]
    document = _without_nulls(document, schema)
    validator = Draft202012Validator(schema, format_checker=FORMATS)
    found = [error.message for error in validator.iter_errors(document)]
    if document["kind"] != "InferencePoolImport" and "spec" not in document:
        found.append("the schemas of v1alpha2 let spec be absent, with which no object can do anything")
    return found or list(_further(document, schema))


def _our_issues(document: dict[str, Any]) -> list[str]:
    try:
        parse_object(document)
    except InvalidDocumentError as error:
        return [str(issue) for issue in error.issues]
    return []


def _keyed_badly(document: dict[str, Any]) -> bool:
    """Tell whether we refuse the document for the key of a label, which schemas do not look at."""
    return any("the key " in issue for issue in _our_issues(document))


KINDS = pytest.mark.parametrize(
    "kind", [documents.pools, documents.old_pools, documents.objectives, documents.rewrites, documents.imports]
)


@KINDS
@given(data=st.data())
def test_valid(kind: Any, data: st.DataObject) -> None:
    """What we take for valid is valid for the API server, as it was read and as we write it."""
    document = data.draw(kind())

    assert [] == _issues_of_schema(document)
    assert [] == _our_issues(document)
    if document["apiVersion"] != documents.V1ALPHA2:
        assert [] == _issues_of_schema(parse_object(document).to_dict())


@KINDS
@given(data=st.data())
def test_mutated(kind: Any, data: st.DataObject) -> None:
    """A document with something odd in it is judged alike."""
    document = data.draw(documents.mutated(kind(), spare=("apiVersion", "kind", "metadata")))
    if _keyed_badly(document):
        return
    theirs, ours = _issues_of_schema(document), _our_issues(document)

    assert bool(theirs) == bool(ours), (theirs, ours)
