from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given

from inferencepool.errors import InvalidDocumentError
from inferencepool.model import (
    AppProtocol,
    EndpointPickerRef,
    FailureMode,
    InferencePool,
    TargetPort,
)
from tests.strategies import documents

POOL: dict[str, Any] = {
    "apiVersion": documents.V1,
    "kind": "InferencePool",
    "metadata": {"name": "llama"},
    "spec": {
        "selector": {"matchLabels": {"app": "llama"}},
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {"name": "epp", "port": {"number": 9002}},
    },
    "status": {
        "parents": [
            {
                "parentRef": {"name": "gw"},
                "controllerName": "example.com/gw",
                "conditions": [
                    {
                        "type": "Accepted",
                        "status": "True",
                        "reason": "Accepted",
                        "message": "",
                        "lastTransitionTime": "2026-01-02T03:04:05Z",
                    }
                ],
            }
        ]
    },
}
_CONDITION = POOL["status"]["parents"][0]["conditions"][0]
_CONDITION_AT = "status.parents[0].conditions"
_PICKER = "spec.endpointPickerRef"
_REMOVED = object()


def changed(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Copy *document* with another value at *path*, such as ``spec.targetPorts.0.number``."""
    document = copy.deepcopy(document)
    node: Any = document
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    for step in steps:
        node = node[step]
    if value is _REMOVED:
        del node[last]
    else:
        node[last] = value
    return document


def issues_of(document: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    """List field and reason of everything that is wrong with a pool."""
    with pytest.raises(InvalidDocumentError) as caught:
        InferencePool.from_dict(document, **options)
    assert caught.value.source.startswith("InferencePool")
    return [(issue.field, issue.reason) for issue in caught.value.issues]


class TestFromDict:
    def test_defaults(self) -> None:
        """What a document leaves out has the API's defaults."""
        pool = InferencePool.from_dict(POOL)

        assert ("llama", "default") == (pool.name, pool.namespace)
        assert (TargetPort(8000),) == pool.target_ports
        assert AppProtocol.HTTP is pool.app_protocol
        assert EndpointPickerRef(name="epp", port=9002) == pool.endpoint_picker_ref
        assert pool.endpoint_picker_ref.failure_mode is FailureMode.FAIL_CLOSE
        parent = pool.status.parents[0]
        assert ("gateway.networking.k8s.io", "Gateway", None) == (
            parent.parent_ref.group,
            parent.parent_ref.kind,
            parent.parent_ref.namespace,
        )

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("spec.appProtocol", "kubernetes.io/h2c"),
            ("spec.endpointPickerRef", _REMOVED),
            ("spec.endpointPickerRef", None),
            ("spec.endpointPickerRef", {"name": "epp", "kind": "Other"}),
            ("spec.endpointPickerRef.group", "example.com"),
            ("spec.endpointPickerRef.name", "Not a DNS name"),
            ("spec.endpointPickerRef.failureMode", "FailOpen"),
            ("spec.selector.matchLabels", {"app": ""}),
            ("spec.selector.matchLabels", {f"l{number}": "x" for number in range(64)}),
            ("spec.targetPorts", [{"number": number} for number in (8000, 80, 8081, 443)]),
            ("spec.targetPorts", [{"number": number} for number in range(1, 9)]),
            ("status", _REMOVED),
            ("status", {}),
            ("status.parents.0.conditions", []),
            ("status.parents.0.conditions.0.observedGeneration", 2**63 - 1),
            ("status.parents.0.conditions.0.message", "m" * 32768),
            ("status.parents.0.conditions.0.type", "example.com/Own"),
            ("status.parents.0.conditions.0.lastTransitionTime", "2026-01-02T03:04:05.123456789-01:30"),
            ("status.parents", [{"parentRef": {"name": "gw"}}] * 32),
            ("metadata.resourceVersion", "42"),
        ],
    )
    def test_accepts(self, path: str, value: object) -> None:
        """What the API allows is read, and written as it was understood."""
        pool = InferencePool.from_dict(changed(POOL, path, value))

        assert pool == InferencePool.from_dict(pool.to_dict())
        assert isinstance(hash(pool), int)

    @pytest.mark.parametrize(
        ("path", "value", "field", "reason"),
        [
            ("apiVersion", _REMOVED, "apiVersion", "is required"),
            ("apiVersion", "v1", "apiVersion", "'v1' is not one of"),
            ("kind", "Pod", "kind", "'Pod' is not one of InferencePool"),
            ("metadata", _REMOVED, "metadata", "is required"),
            ("metadata", [], "metadata", "[] is not an object"),
            ("metadata.name", _REMOVED, "metadata.name", "is required"),
            ("metadata.name", "A", "metadata.name", "'A' does not match"),
            ("metadata.name", "a" * 254, "metadata.name", "at most 253"),
            ("metadata.namespace", "a.b", "metadata.namespace", "does not match"),
            ("metadata.labels", {"-": "x"}, "metadata.labels['-']", "is no qualified name"),
            ("metadata.labels", {"a": "-"}, "metadata.labels['a']", "does not match"),
            ("metadata.labels", {"A!/a": "a"}, "metadata.labels['A!/a']", "is no DNS subdomain"),
            ("metadata.labels", {7: "a"}, "metadata.labels[7]", "is not a string"),
            ("metadata.annotations", {"a": 1}, "metadata.annotations['a']", "1 is not a string"),
            ("metadata.annotations", "a", "metadata.annotations", "is not an object"),
            ("spec", _REMOVED, "spec", "is required"),
            ("spec.selector", _REMOVED, "spec.selector", "is required"),
            ("spec.selector", {}, "spec.selector.matchLabels", "is required"),
            ("spec.selector.matchLabels", {}, "spec.selector.matchLabels", "has 0 labels, allowed are 1 to 64"),
            (
                "spec.selector.matchLabels",
                {f"l{number}": "x" for number in range(65)},
                "spec.selector.matchLabels",
                "has 65 labels, allowed are 1 to 64",
            ),
            ("spec.selector.matchLabels.app", "a\n", "spec.selector.matchLabels['app']", "does not match"),
            ("spec.selector.matchLabels.app", "a" * 64, "spec.selector.matchLabels['app']", "at most 63"),
            ("spec.selector.matchLabels.app", None, "spec.selector.matchLabels['app']", "None is not a string"),
            ("spec.targetPorts", _REMOVED, "spec.targetPorts", "is required"),
            ("spec.targetPorts", "80", "spec.targetPorts", "'80' is not a list"),
            ("spec.targetPorts", [], "spec.targetPorts", "has 0 items, allowed are 1 or more"),
            ("spec.targetPorts", [80], "spec.targetPorts[0]", "80 is not an object"),
            ("spec.targetPorts.0", {}, "spec.targetPorts[0].number", "is required"),
            ("spec.targetPorts.0.number", 0, "spec.targetPorts[0].number", "0 is not in 1 to 65535"),
            ("spec.targetPorts.0.number", 65536, "spec.targetPorts[0].number", "65536 is not in 1 to 65535"),
            ("spec.targetPorts.0.number", "80", "spec.targetPorts[0].number", "'80' is not a whole number"),
            ("spec.targetPorts.0.number", True, "spec.targetPorts[0].number", "True is not a whole number"),
            pytest.param(
                "spec.targetPorts.0.number",
                10**5000,
                "spec.targetPorts[0].number",
                "a number of 16610 bits is not in",
                id="huge",
            ),
            (
                "spec.targetPorts",
                [{"number": number} for number in range(1, 10)],
                "spec.targetPorts",
                "has 9 items, allowed are at most 8",
            ),
            (
                "spec.targetPorts",
                [{"number": number} for number in (8000, 80, 8000, 443)],
                "spec.targetPorts",
                "port number must be unique",
            ),
            ("spec.appProtocol", "grpc", "spec.appProtocol", "'grpc' is not one of http, kubernetes.io/h2c"),
            (_PICKER, {"port": {"number": 1}}, f"{_PICKER}.name", "is required"),
            (_PICKER, {"name": "epp"}, _PICKER, "port is required when kind is 'Service' or unspecified"),
            (_PICKER, {"name": "epp", "kind": "Service"}, _PICKER, "port is required when kind is 'Service'"),
            (f"{_PICKER}.port", 9002, f"{_PICKER}.port", "9002 is not an object"),
            (f"{_PICKER}.port", {}, f"{_PICKER}.port.number", "is required"),
            (f"{_PICKER}.name", "", f"{_PICKER}.name", "'' has 0 characters, allowed are 1 or more"),
            (f"{_PICKER}.kind", "", f"{_PICKER}.kind", "'' has 0 characters, allowed are 1 or more"),
            (f"{_PICKER}.kind", "1", f"{_PICKER}.kind", "does not match"),
            (f"{_PICKER}.group", "A", f"{_PICKER}.group", "does not match"),
            (f"{_PICKER}.failureMode", "Fail", f"{_PICKER}.failureMode", "'Fail' is not one of FailOpen, FailClose"),
            ("status", 1, "status", "1 is not an object"),
            ("status.parents", [{"parentRef": {"name": "gw"}}] * 33, "status.parents", "at most 32"),
            ("status.parents.0", {}, "status.parents[0].parentRef", "is required"),
            ("status.parents.0.parentRef", {}, "status.parents[0].parentRef.name", "is required"),
            (
                "status.parents.0.parentRef.namespace",
                "a.b",
                "status.parents[0].parentRef.namespace",
                "does not match",
            ),
            (
                "status.parents.0.controllerName",
                "example.com",
                "status.parents[0].controllerName",
                "'example.com' does not match",
            ),
            ("status.parents.0.conditions", [_CONDITION] * 2, f"{_CONDITION_AT}[1].type", "is that of"),
            (
                "status.parents.0.conditions",
                [{**_CONDITION, "type": f"T{number}"} for number in range(9)],
                _CONDITION_AT,
                "at most 8",
            ),
            *(
                (f"status.parents.0.conditions.0.{name}", _REMOVED, f"{_CONDITION_AT}[0].{name}", "is required")
                for name in _CONDITION
            ),
            ("status.parents.0.conditions.0.status", "true", f"{_CONDITION_AT}[0].status", "is not one of True, False"),
            ("status.parents.0.conditions.0.reason", "a b", f"{_CONDITION_AT}[0].reason", "does not match"),
            ("status.parents.0.conditions.0.type", "/a", f"{_CONDITION_AT}[0].type", "does not match"),
            ("status.parents.0.conditions.0.message", 1, f"{_CONDITION_AT}[0].message", "1 is not a string"),
            *(
                (
                    "status.parents.0.conditions.0.lastTransitionTime",
                    text,
                    f"{_CONDITION_AT}[0].lastTransitionTime",
                    "is not a time of RFC 3339",
                )
                for text in ("now", "2026-01-02", "2026-01-02T03:04:05", "20260102T030405Z", "2026-13-02T03:04:05Z")
            ),
            (
                "status.parents.0.conditions.0.observedGeneration",
                -1,
                f"{_CONDITION_AT}[0].observedGeneration",
                "-1 is not in 0 to",
            ),
        ],
    )
    def test_refuses(self, path: str, value: object, field: str, reason: str) -> None:
        """What the API refuses is an issue that tells the field and what is wrong."""
        [(found, text), *others] = issues_of(changed(POOL, path, value))

        assert not others
        assert field == found
        assert reason in text

    def test_tells_everything(self) -> None:
        """All that is wrong is told at once, each with its path, under the name of the pool."""
        document = changed(changed(POOL, "spec.targetPorts.0.number", 0), "spec.appProtocol", "grpc")
        with pytest.raises(InvalidDocumentError) as caught:
            InferencePool.from_dict(document)

        assert [
            "InferencePool default/llama: spec.targetPorts[0].number: 0 is not in 1 to 65535",
            "InferencePool default/llama: spec.appProtocol: 'grpc' is not one of http, kubernetes.io/h2c",
        ] == str(caught.value).splitlines()

    @pytest.mark.parametrize("document", [None, [], "pool", 1])
    def test_needs_an_object(self, document: Any) -> None:
        """Only an object can be a pool."""
        with pytest.raises(InvalidDocumentError, match="is not an object"):
            InferencePool.from_dict(document)

    def test_unknown_fields(self) -> None:
        """Unknown fields are ignored as the API server does, or refused on demand."""
        document = changed(changed(POOL, "spec.replicas", 1), "spec.selector.matchExpressions", [])

        assert InferencePool.from_dict(POOL) == InferencePool.from_dict(document)
        assert [
            ("spec.selector.matchExpressions", "is no field of this object"),
            ("spec.replicas", "is no field of this object"),
        ] == issues_of(document, unknown="error")

    def test_long_values_are_shortened(self) -> None:
        """A message does not repeat a value of thousands of characters."""
        [(_, text)] = issues_of(changed(POOL, "metadata.name", "a" * 5000))

        assert len(text) < 200

    @given(documents.pools())
    def test_round_trip(self, document: dict[str, Any]) -> None:
        """Reading what was written gives the same pool, and writing it again the same document."""
        pool = InferencePool.from_dict(document, unknown="error")

        assert pool == InferencePool.from_dict(pool.to_dict(), unknown="error")
        assert pool.to_dict() == InferencePool.from_dict(pool.to_dict()).to_dict()
