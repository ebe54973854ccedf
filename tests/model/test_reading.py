"""What all kinds of documents have in common: the order of errors, times, metadata, and conditions."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given

from inferencepool.errors import InvalidDocumentError
from inferencepool.model import (
    Condition,
    ConditionReason,
    ConditionType,
    InferencePool,
    InferencePoolStatus,
    ObjectMeta,
    ParentReference,
    ParentStatus,
    Pod,
    validate,
)
from tests.strategies import documents

POOL: dict[str, Any] = {
    "apiVersion": documents.V1,
    "kind": "InferencePool",
    "metadata": {"name": "llama"},
    "spec": {"selector": {"matchLabels": {"app": "llama"}}, "targetPorts": [{"number": 8000}]},
}


def _pool(**parts: Any) -> dict[str, Any]:
    return copy.deepcopy(POOL) | parts


def _fields(document: dict[str, Any]) -> list[str]:
    return [issue.field for issue in validate(document)]


def _steps(path: str) -> list[str | int]:
    """Take a path apart: names, indices in brackets, and quoted keys in brackets."""
    parts = re.findall(r"\[(\d+)\]|\['([^']*)'\]|([^.\[\]]+)", path)
    return [int(index) if index else key or name for index, key, name in parts]


def _place(document: Any, path: str) -> list[int]:
    """Say where a path stands in a document; what is absent stands behind what is there."""
    places = []
    for step in _steps(path):
        names = list(document) if isinstance(document, dict) else []
        if isinstance(step, str) and step in names:
            places.append(names.index(step))
            document = document[step]
        elif isinstance(step, int) and isinstance(document, list):
            places.append(step)
            document = document[step]
        else:
            places.append(len(names))
            document = None
    return places


class TestOrder:
    def test_unknown_fields_among_the_others(self) -> None:
        """Errors are told in the order of the document, whatever the order of reading and the kind of error."""
        document = {
            "spec": {
                "targetPorts": [{"number": 0, "nmber": 1}, {}],
                "other": 1,
                "selector": {"matchLabels": {"-": "a", "b": "-"}},
            },
            "kind": "InferencePool",
            "metadata": {"labels": {"a": 1}, "nmae": "llama", "namespace": "A"},
            "apiVersion": documents.V1,
        }

        assert [
            "spec.targetPorts[0].number",
            "spec.targetPorts[0].nmber",
            "spec.targetPorts[1].number",
            "spec.other",
            "spec.selector.matchLabels['-']",
            "spec.selector.matchLabels['b']",
            "metadata.labels['a']",
            "metadata.nmae",
            "metadata.namespace",
            "metadata.name",
        ] == _fields(document)

    @given(documents.mutated(documents.valid(), spare=("apiVersion", "kind")))
    def test_of_any_document(self, document: dict[str, Any]) -> None:
        """The places of errors never go back."""
        places = [_place(document, field) for field in _fields(document)]

        assert sorted(places) == places


class TestTimes:
    @pytest.mark.parametrize(
        "time",
        [
            "2026-01-31T12:00:00Z",
            "2026-01-31T9:00:00,5+24:60",
            "2024-02-29T23:59:59.123456789Z",
            "2026-01-31T12:00:00+05:30",
            "1970-01-01T00:00:00-00:00",
        ],
    )
    def test_allowed(self, time: str) -> None:
        """Times of RFC 3339 are taken and kept as they are spelled."""
        document = _pool(metadata={"name": "llama", "creationTimestamp": time})

        assert [] == _fields(document)
        assert time == InferencePool.from_dict(document).to_dict()["metadata"]["creationTimestamp"]

    @pytest.mark.parametrize(
        "time",
        [
            "",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-01-31 12:00:00Z",
            "20260131T120000Z",
            "2026-W05-6T12:00:00Z",
            "2026-01-31T12:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:60:00Z",
            "2026-01-31T12:00:60Z",
            "2026-02-30T12:00:00Z",
            "2026-01-31T12:00:00+0100",
            "2026-01-31T12:00:00Z\n",
            "٢٠٢٦-01-31T12:00:00Z",
        ],
    )
    @pytest.mark.parametrize("field", ["creationTimestamp", "deletionTimestamp"])
    def test_refused(self, field: str, time: str) -> None:
        """Other shapes of ISO 8601, and days that do not exist, are refused."""
        [issue] = validate(_pool(metadata={"name": "llama", field: time}))

        assert (f"metadata.{field}", time) == (issue.field, issue.value)
        assert "is not a time of RFC 3339" in issue.reason

    def test_of_conditions(self) -> None:
        """The same rule holds for conditions."""
        condition = {"type": "Accepted", "status": "True", "reason": "A", "message": "", "lastTransitionTime": "now"}
        status = {"parents": [{"parentRef": {"name": "gw"}, "conditions": [condition]}]}

        assert ["status.parents[0].conditions[0].lastTransitionTime"] == _fields(_pool(status=status))


class TestMetadata:
    def test_other_fields_survive(self) -> None:
        """Fields that nobody looks into are kept, and count as known."""
        other = {
            "resourceVersion": "7",
            "generation": 3,
            "generateName": "llama-",
            "finalizers": ["example.com/hold"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Own", "name": "own", "uid": "1", "controller": True}],
            "selfLink": "/apis/x",
            "deletionGracePeriodSeconds": 30,
            "managedFields": [{"manager": "kubectl"}],
        }
        document = _pool(metadata={"name": "llama", "namespace": "models", **other})
        meta = InferencePool.from_dict(document, unknown="error").metadata

        assert document["metadata"] == meta.to_dict()
        assert ("7", 3) == (meta.resource_version, meta.generation)

    def test_absent(self) -> None:
        """An object that was never stored has neither version nor generation."""
        meta = ObjectMeta(name="llama")

        assert ("", None) == (meta.resource_version, meta.generation)

    def test_unknown_fields(self) -> None:
        """A misspelt field of the metadata is unknown, and kept all the same."""
        document = _pool(metadata={"name": "llama", "lables": {"a": "b"}})

        assert ["metadata.lables"] == _fields(document)
        assert {"a": "b"} == InferencePool.from_dict(document).to_dict()["metadata"]["lables"]


class TestConditions:
    def test_constants(self) -> None:
        """Constants give the same document as plain texts, of plain texts only."""
        constant = Condition(
            type=ConditionType.RESOLVED_REFS, status="False", reason=ConditionReason.INVALID_EXTENSION_REF
        )
        plain = Condition(type="ResolvedRefs", status="False", reason="InvalidExtensionRef")

        assert plain == constant
        assert plain.to_dict() == constant.to_dict()
        assert {str} == {type(value) for value in constant.to_dict().values()}

    def test_status_by_hand(self) -> None:
        """A status that is made by hand is held to the rules of documents."""
        condition = Condition(type=ConditionType.ACCEPTED, status="Yes", reason=ConditionReason.ACCEPTED)
        parent = ParentStatus(
            parent_ref=ParentReference(name="", namespace="A"),
            controller_name="example.com",
            conditions=[condition] * 2,
        )
        with pytest.raises(InvalidDocumentError) as caught:
            InferencePool(name="llama", selector="app=llama", target_ports=[8000], status=InferencePoolStatus([parent]))

        at = "status.parents[0]"
        assert [
            f"{at}.parentRef.name",
            f"{at}.parentRef.namespace",
            f"{at}.controllerName",
            f"{at}.conditions[0].status",
            f"{at}.conditions[1].type",
            f"{at}.conditions[1].status",
        ] == [issue.field for issue in caught.value.issues]


class TestPicker:
    @pytest.mark.parametrize("kind", ["", 5, "a b"])
    def test_wrong_kind_is_told_once(self, kind: object) -> None:
        """A kind that is wrong is not taken for the default, which would need a port."""
        spec = POOL["spec"] | {"endpointPickerRef": {"name": "epp", "kind": kind}}

        assert ["spec.endpointPickerRef.kind"] == _fields(_pool(spec=spec))


class TestPods:
    @pytest.mark.parametrize(("field", "value"), [("kind", "Node"), ("apiVersion", "v2")])
    def test_other_objects(self, field: str, value: str) -> None:
        """What says that it is something else is no pod."""
        with pytest.raises(InvalidDocumentError) as caught:
            Pod.from_dict({"metadata": {"name": "a"}, field: value})

        assert [field] == [issue.field for issue in caught.value.issues]

    def test_conditions_behind_the_first(self) -> None:
        """A malformed condition is told wherever it stands."""
        conditions = [{"type": "Ready", "status": "True"}, {"type": "Own"}]
        with pytest.raises(InvalidDocumentError) as caught:
            Pod.from_dict({"metadata": {"name": "a"}, "status": {"conditions": conditions}})

        assert ["status.conditions[1].status"] == [issue.field for issue in caught.value.issues]
