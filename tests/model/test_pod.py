from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from inferencepool.errors import InvalidDocumentError
from inferencepool.model import Pod
from tests.strategies import documents


def _pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "pod-1", "namespace": "models", "resourceVersion": "7"}, "status": status}


@pytest.mark.parametrize(
    ("status", "ip", "ips"),
    [
        ({}, None, ()),
        ({"podIP": ""}, None, ()),
        ({"podIP": "10.0.0.1"}, "10.0.0.1", ("10.0.0.1",)),
        ({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}, "10.0.0.1", ("10.0.0.1", "fd00::1")),
        ({"podIP": "fd00::1", "podIPs": [{"ip": "10.0.0.1"}]}, "fd00::1", ("10.0.0.1",)),
        ({"podIP": "FD00:0:0::01"}, "fd00::1", ("fd00::1",)),
        ({"podIP": "::ffff:a00:1"}, "::ffff:10.0.0.1", ("::ffff:10.0.0.1",)),
    ],
)
def test_addresses(status: dict[str, Any], ip: str | None, ips: tuple[str, ...]) -> None:
    """Addresses are spelled in one way; the first of the list stands in where there is no single one."""
    pod = Pod.from_dict(_pod(**status))

    assert (ip, ips) == (pod.ip, pod.ips)


@pytest.mark.parametrize("text", ["fe80::1%eth0", "10.0.0", "10.0.0.01", "[fd00::1]", "pod-1", "10.0.0.1:80"])
@pytest.mark.parametrize(
    ("status", "field"),
    [("podIP", "status.podIP"), ("hostIP", "status.hostIP"), ("podIPs", "status.podIPs[0].ip")],
)
def test_bad_addresses(status: str, field: str, text: str) -> None:
    """What is no address, or means something on one node only, is refused."""
    with pytest.raises(InvalidDocumentError) as caught:
        Pod.from_dict(_pod(**{status: [{"ip": text}] if status == "podIPs" else text}))

    [issue] = caught.value.issues
    assert (field, f"{text!r} is not an IP address", text) == (issue.field, issue.reason, issue.value)
    assert "Pod models/pod-1" == caught.value.source


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        ([], False),
        ([("Ready", "True")], True),
        ([("Ready", "Unknown")], False),
        ([("Own", "True"), ("Ready", "True")], True),
        ([("Own", "True")], False),
        ([("Ready", "False"), ("Ready", "True")], False),
    ],
)
def test_ready(conditions: list[tuple[str, str]], *, ready: bool) -> None:
    """The first condition of type `Ready` decides."""
    listed = [{"type": kind, "status": status} for kind, status in conditions]

    assert ready is Pod.from_dict(_pod(conditions=listed)).ready


def test_fields() -> None:
    """A pod is known by its key; its version does not make it another one."""
    pod = Pod.from_dict(_pod())

    assert ("models", "pod-1") == pod.key
    assert "7" == pod.resource_version
    assert pod == Pod(name="pod-1", namespace="models")


@pytest.mark.parametrize(
    ("status", "field"),
    [
        ({"conditions": [{"status": "True"}]}, "status.conditions[0].type"),
        ({"conditions": "Ready"}, "status.conditions"),
        ({"podIPs": [1]}, "status.podIPs[0]"),
    ],
)
def test_malformed(status: dict[str, Any], field: str) -> None:
    """A part that routing needs must have its shape."""
    with pytest.raises(InvalidDocumentError) as caught:
        Pod.from_dict(_pod(**status))

    assert [field] == [issue.field for issue in caught.value.issues]


@given(documents.pods())
def test_round_trip(document: dict[str, Any]) -> None:
    """A pod that was read is read from its own document."""
    pod = Pod.from_dict(document)

    assert pod == Pod.from_dict(pod.to_dict())
    assert pod.resource_version == Pod.from_dict(pod.to_dict()).resource_version
