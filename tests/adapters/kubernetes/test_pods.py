"""Pods out of a watch, held to how pods are read elsewhere."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given

from inferencepool.adapters.kubernetes import read_pod
from inferencepool.errors import InvalidDocumentError
from inferencepool.model import Pod
from inferencepool.selection import ACTIVE_PORTS_ANNOTATIONS
from tests.strategies import documents


def expected_of(document: Any) -> Pod:
    """The pod, with those annotations that routing needs."""
    pod = Pod.from_dict(document)
    kept = {name: pod.annotations[name] for name in ACTIVE_PORTS_ANNOTATIONS if name in pod.annotations}
    return attrs.evolve(pod, annotations=kept)


@given(document=documents.pods())
def test_valid(document: dict[str, Any]) -> None:
    """A valid pod is read as everywhere."""
    pod = read_pod(document)

    assert expected_of(document) == pod
    assert Pod.from_dict(document).resource_version == pod.resource_version


@given(document=documents.mutated(documents.pods()) | documents.garbage())
def test_invalid(document: Any) -> None:
    """What is wrong is refused as everywhere; spelling, which the API server looked at, may pass."""
    try:
        expected: Pod | InvalidDocumentError = expected_of(document)
    except InvalidDocumentError as error:
        expected = error
    try:
        found: Pod | InvalidDocumentError = read_pod(document)
    except InvalidDocumentError as error:
        found = error
    if isinstance(expected, Pod) or isinstance(found, InvalidDocumentError):
        assert str(expected) == str(found)
    else:
        assert all(issue.field.startswith("metadata.") for issue in expected.issues)


def pod(status: Any = None, **metadata: Any) -> dict[str, Any]:
    """A document that is read without the long way round, unless an argument is unusual."""
    return {"metadata": {"name": "a", "namespace": "default", **metadata}, "status": status}


@pytest.mark.parametrize(
    "document",
    [
        pod(),
        pod({}),
        pod({"podIP": "", "podIPs": [], "hostIP": "", "conditions": []}),
        pod({"podIP": None, "podIPs": None, "hostIP": None, "conditions": None}),
        pod({"podIP": "10.0.0.1"}),
        pod({"podIP": "FD00:0:0::01", "podIPs": [{"ip": "FD00:0:0::01"}, {"ip": "10.0.0.1"}, {"ip": ""}, {}]}),
        pod({"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.1"}]}),
        pod({"podIPs": [{"ip": "10.0.0.1"}]}),
        pod({"containerStatuses": None}),
        pod({"containerStatuses": [{"restartCount": 2}, {}, {"restartCount": 3, "name": "sidecar"}]}),
        pod({"containerStatuses": [{"restartCount": 2.0}, {"restartCount": None}]}),
        pod({"conditions": [{"type": "Own", "status": "True"}, {"type": "Ready", "status": "True"}]}),
        pod({"conditions": [{"type": "Ready", "status": "False"}, {"type": "Ready", "status": "True"}]}),
        pod(labels=None, annotations=None, uid=None, resourceVersion=None, deletionTimestamp=None),
        pod(labels={"a": "b"}, annotations={ACTIVE_PORTS_ANNOTATIONS[1]: "", "other": "x"}),
        pod(deletionTimestamp="2026-01-01T00:00:00Z", uid="u", resourceVersion="5"),
        pod() | {"kind": "Pod", "apiVersion": "v1"},
        {"metadata": {"name": "a"}},
    ],
)
def test_usual_and_unusual(document: dict[str, Any]) -> None:
    """Everything that may be absent may be, in every way."""
    assert expected_of(document) == read_pod(document)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (pod(name=5), "metadata.name"),
        (pod(resourceVersion=5), "metadata.resourceVersion"),
        (pod(labels={"a": 5}), "metadata.labels['a']"),
        (pod(labels=[]), "metadata.labels"),
        (pod(annotations={ACTIVE_PORTS_ANNOTATIONS[0]: 5}), f"metadata.annotations['{ACTIVE_PORTS_ANNOTATIONS[0]}']"),
        (pod({"podIP": 0}), "status.podIP"),
        (pod({"podIP": False}), "status.podIP"),
        (pod({"podIPs": [{"ip": "x"}]}), "status.podIPs[0].ip"),
        (pod({"podIPs": "10.0.0.1"}), "status.podIPs"),
        (pod({"podIPs": ["10.0.0.1"]}), "status.podIPs[0]"),
        (pod({"hostIP": "node"}), "status.hostIP"),
        (pod({"conditions": {}}), "status.conditions"),
        (pod({"containerStatuses": {}}), "status.containerStatuses"),
        (pod({"containerStatuses": [5]}), "status.containerStatuses[0]"),
        (pod({"containerStatuses": [{"restartCount": -1}]}), "status.containerStatuses[0].restartCount"),
        (pod({"containerStatuses": [{"restartCount": True}]}), "status.containerStatuses[0].restartCount"),
        (pod({"containerStatuses": [{}] * 1001}), "status.containerStatuses"),
        (pod({"conditions": [{"type": "Ready", "status": "True"}, {"type": 5, "status": "x"}]}), "conditions[1].type"),
        (pod({"conditions": [{"type": "Ready"}]}), "status.conditions[0].status"),
        (pod(False), "status"),
        (pod() | {"kind": "Node"}, "kind"),
        (pod() | {"apiVersion": "v2"}, "apiVersion"),
        ({}, "metadata"),
    ],
)
def test_wrong(document: dict[str, Any], field: str) -> None:
    """What is wrong is named."""
    with pytest.raises(InvalidDocumentError) as caught:
        read_pod(document)

    assert field in caught.value.issues[0].field
