"""What all kinds of documents have in common: the order of errors, times, metadata, and conditions."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import InvalidDocumentError
from inferencepool.model import (
    Condition,
    ConditionReason,
    ConditionType,
    InferencePool,
    InferencePoolStatus,
    LabelSelector,
    ObjectMeta,
    ParentReference,
    ParentStatus,
    Pod,
    Requirement,
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
            "2026-01-31t12:00:00z",
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
            "ownerReferences": [{"kind": "Own"}],
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


class TestByHand:
    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"name": 5}, "metadata.name"),
            ({"namespace": None}, "metadata.namespace"),
            ({"target_ports": 5}, "spec.targetPorts"),
            ({"target_ports": "80"}, "spec.targetPorts"),
            ({"metadata": 5}, "metadata"),
            ({"metadata": ObjectMeta(name="llama", labels={"-": "a"})}, "metadata.labels['-']"),
            ({"metadata": ObjectMeta(name="llama", annotations={"-": "a"})}, "metadata.annotations['-']"),
            ({"endpoint_picker_ref": "epp"}, "spec.endpointPickerRef"),
            ({"status": 5}, "status"),
        ],
    )
    def test_wrong_types(self, fields: dict[str, Any], field: str) -> None:
        """What is of a wrong type is refused as what has a wrong value is."""
        with pytest.raises(InvalidDocumentError) as caught:
            InferencePool(**{"name": "llama", "selector": "app=llama", "target_ports": [8000]} | fields)

        assert [field] == [issue.field for issue in caught.value.issues]

    @pytest.mark.parametrize(
        ("build", "field"),
        [
            (lambda wrong: Requirement(wrong, "Exists"), "key"),
            (lambda wrong: Requirement("a", "In", wrong), "values"),
            (lambda wrong: LabelSelector({}, wrong), "matchExpressions"),
            (lambda wrong: LabelSelector({}, [wrong]), "matchExpressions"),
            (lambda wrong: LabelSelector({wrong: "a"}), "matchLabels[5]"),
        ],
    )
    def test_wrong_parts_of_selectors(self, build: Any, field: str) -> None:
        """So are the parts of selectors."""
        with pytest.raises(InvalidDocumentError) as caught:
            build(5)

        assert [field] == [issue.field for issue in caught.value.issues]

    def test_expressions_have_no_document(self) -> None:
        """A pool with expressions has no document, because the API server would drop them."""
        pool = InferencePool(name="llama", selector="app!=llama", target_ports=[8000])
        with pytest.raises(InvalidDocumentError) as caught:
            pool.to_dict()

        assert ["spec.selector.matchExpressions"] == [issue.field for issue in caught.value.issues]


class TestSelectors:
    @given(
        st.dictionaries(st.sampled_from("ab"), st.sampled_from(["", "x", "y"])),
        st.lists(
            st.builds(
                Requirement,
                st.sampled_from("ab"),
                st.sampled_from(["In", "NotIn"]),
                st.sets(st.sampled_from(["", "x", "y"]), min_size=1),
            )
            | st.builds(Requirement, st.sampled_from("ab"), st.sampled_from(["Exists", "DoesNotExist"])),
            max_size=3,
        ),
    )
    def test_text_gives_an_equal_selector(self, labels: dict[str, str], requirements: list[Requirement]) -> None:
        """The text of a selector is read as an equal one, with an equal hash."""
        selector = LabelSelector(labels, requirements)
        again = LabelSelector.parse(str(selector))

        assert selector == again
        assert hash(selector) == hash(again)

    def test_equal_by_meaning(self) -> None:
        """A label and `In` with one value are the same; two values for one label are not one of them."""
        assert LabelSelector({"a": "x"}) == LabelSelector({}, [Requirement("a", "In", ["x"])])
        assert LabelSelector({"a": "x"}) != LabelSelector.parse("a=x,a=y")
        assert LabelSelector({"a": "x"}) != LabelSelector({"a": "y"})
        assert LabelSelector() != {}

    @pytest.mark.parametrize("space", ["\u2028", "\u00a0", "\f", "\v"])
    def test_space(self, space: str) -> None:
        """What is no space to Kubernetes is none here."""
        with pytest.raises(ValueError, match="at character 1"):
            LabelSelector.parse(f"a{space}=b")


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
