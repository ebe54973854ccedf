from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from inferencepool.errors import InvalidDocumentError
from inferencepool.model import InferencePool, TargetPort
from tests.model.test_pool import changed, issues_of
from tests.strategies import documents

TIME = "1970-01-01T00:00:00Z"
PENDING = {
    "type": "Accepted",
    "status": "Unknown",
    "reason": "Pending",
    "message": "Waiting for controller",
    "lastTransitionTime": TIME,
}
PLACEHOLDER = {"parentRef": {"kind": "Status", "name": "default"}, "conditions": [PENDING]}
OLD: dict[str, Any] = {
    "apiVersion": documents.V1ALPHA2,
    "kind": "InferencePool",
    "metadata": {"name": "llama", "namespace": "models", "labels": {"team": "a"}, "generation": 3},
    "spec": {
        "selector": {"app": "llama"},
        "targetPortNumber": 8000,
        "extensionRef": {"group": "", "kind": "Service", "name": "epp", "portNumber": 9002, "failureMode": "FailOpen"},
    },
}


def _condition(kind: str, status: str, reason: str) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": "m", "lastTransitionTime": TIME}


def _parent(*conditions: dict[str, Any], name: str = "gw") -> dict[str, Any]:
    return {"parentRef": {"group": "example.com", "kind": "Gateway", "name": name}, "conditions": [*conditions]}


def _converted(*parents: dict[str, Any]) -> list[Any]:
    document = InferencePool.from_dict({**OLD, "status": {"parent": [*parents]}}).to_dict()
    found: list[Any] = document.get("status", {}).get("parents", [])
    return found


class TestToV1:
    def test_spec(self) -> None:
        """Flat selector, the one port and the extension become selector, ports and picker; metadata stays whole."""
        assert InferencePool.from_dict(OLD).to_dict() == {
            "apiVersion": documents.V1,
            "kind": "InferencePool",
            "metadata": OLD["metadata"],
            "spec": {
                "selector": {"matchLabels": {"app": "llama"}},
                "targetPorts": [{"number": 8000}],
                "appProtocol": "http",
                "endpointPickerRef": {
                    "group": "",
                    "kind": "Service",
                    "name": "epp",
                    "port": {"number": 9002},
                    "failureMode": "FailOpen",
                },
            },
        }

    def test_port_is_not_invented(self) -> None:
        """A picker without a port stays without one, though implementations should take 9002."""
        pool = InferencePool.from_dict(changed(OLD, "spec.extensionRef", {"name": "epp"}))

        assert pool.endpoint_picker_ref is not None
        assert pool.endpoint_picker_ref.port is None
        assert "port" not in pool.to_dict()["spec"]["endpointPickerRef"]

    def test_selector_may_be_empty(self) -> None:
        """The older API has no lower bound for labels."""
        assert {} == InferencePool.from_dict(changed(OLD, "spec.selector", {})).selector.match_labels

    def test_placeholder_alone(self) -> None:
        """A status with nothing but the placeholder is no status."""
        assert [] == _converted(PLACEHOLDER)

    def test_placeholder_beside_a_parent(self) -> None:
        """Only the real parent is kept."""
        real = _parent(_condition("Accepted", "True", "Accepted"))

        assert [real] == _converted(PLACEHOLDER, real)

    @pytest.mark.parametrize(("kind", "name"), [("Gateway", "default"), ("Status", "other")])
    def test_near_placeholder(self, kind: str, name: str) -> None:
        """A parent of that kind or that name only is real."""
        parent = {"parentRef": {"group": "g", "kind": kind, "name": name}, "conditions": []}

        assert [{"parentRef": parent["parentRef"]}] == _converted(parent)

    def test_pending_is_dropped(self) -> None:
        """The condition that stands for no verdict goes, verdicts stay."""
        accepted, resolved = (
            _condition("Accepted", "True", "Accepted"),
            _condition("ResolvedRefs", "Unknown", "Pending"),
        )

        assert [_parent(resolved)] == _converted(_parent(PENDING, resolved))
        assert [_parent(accepted)] == _converted(_parent(accepted))

    @pytest.mark.parametrize("parent", [_parent(PENDING), {"parentRef": _parent()["parentRef"]}])
    def test_parent_without_verdict(self, parent: dict[str, Any]) -> None:
        """A parent whose only condition is the default one is kept without conditions."""
        assert [{"parentRef": parent["parentRef"]}] == _converted(parent)

    @pytest.mark.parametrize("status", ["True", "False"])
    def test_decided_pending_stays(self, status: str) -> None:
        """`Pending` is dropped for the status `Unknown` only."""
        parent = _parent(_condition("Accepted", status, "Pending"))

        assert [parent] == _converted(parent)

    @pytest.mark.parametrize(
        ("kind", "old", "new"),
        [
            ("Accepted", "NotSupportedByGateway", "NotSupportedByParent"),
            ("Accepted", "HTTPRouteNotAccepted", "HTTPRouteNotAccepted"),
            ("ResolvedRefs", "InvalidExtensionRef", "InvalidExtensionRef"),
            ("ResolvedRefs", "NotSupportedByGateway", "NotSupportedByGateway"),
        ],
    )
    def test_reasons(self, kind: str, old: str, new: str) -> None:
        """One reason of `Accepted` has another name; it is translated both ways."""
        before, after = _parent(_condition(kind, "False", old)), _parent(_condition(kind, "False", new))
        pool = InferencePool.from_dict({**OLD, "status": {"parent": [before]}})

        assert [after] == pool.to_dict()["status"]["parents"]
        assert [before] == pool.to_dict("v1alpha2")["status"]["parent"]

    @pytest.mark.parametrize(
        ("path", "value", "field", "reason"),
        [
            ("spec", None, "spec", "is required"),
            ("spec.selector", None, "spec.selector", "is required"),
            ("spec.selector", {"app": "-"}, "spec.selector['app']", "does not match"),
            ("spec.targetPortNumber", None, "spec.targetPortNumber", "is required"),
            ("spec.targetPortNumber", 0, "spec.targetPortNumber", "0 is not in 1 to 65535"),
            ("spec.extensionRef", None, "spec.extensionRef", "is required"),
            ("spec.extensionRef.name", None, "spec.extensionRef.name", "is required"),
            ("spec.extensionRef.portNumber", 65536, "spec.extensionRef.portNumber", "65536 is not in 1 to 65535"),
            ("spec.extensionRef.failureMode", "x", "spec.extensionRef.failureMode", "'x' is not one of FailOpen"),
            ("status", {"parent": [PLACEHOLDER] * 33}, "status.parent", "at most 32"),
            ("status", {"parent": [{}]}, "status.parent[0].parentRef", "is required"),
        ],
    )
    def test_refuses(self, path: str, value: object, field: str, reason: str) -> None:
        """What the older API refuses is an issue in its words."""
        [(found, text)] = issues_of(changed(OLD, path, value))

        assert field == found
        assert reason in text

    def test_unknown_fields(self) -> None:
        """Fields of the newer API are unknown in the older one."""
        parent = {**_parent(), "controllerName": "example.com/c"}
        document = {**changed(OLD, "spec.targetPorts", []), "status": {"parent": [parent], "parents": []}}

        assert ["spec.targetPorts", "status.parent[0].controllerName", "status.parents"] == [
            field for field, _ in issues_of(document, unknown="error")
        ]


class TestToV1alpha2:
    def test_spec(self) -> None:
        """A pool of the older API comes back as it was."""
        assert OLD == InferencePool.from_dict(OLD).to_dict("v1alpha2")

    def test_what_is_lost(self) -> None:
        """Ports but the first, the protocol and names of controllers have no place; no placeholder is invented."""
        pool = InferencePool.from_dict(OLD)
        document = pool.to_dict()
        document["spec"] |= {"targetPorts": [{"number": 1}, {"number": 2}], "appProtocol": "kubernetes.io/h2c"}
        document["status"] = {"parents": [{"parentRef": {"name": "gw"}, "controllerName": "example.com/c"}]}
        del document["spec"]["endpointPickerRef"]["port"]
        document["spec"]["endpointPickerRef"]["kind"] = "Other"
        old = InferencePool.from_dict(document).to_dict("v1alpha2")

        assert 1 == old["spec"]["targetPortNumber"]
        assert {"selector", "targetPortNumber", "extensionRef"} == set(old["spec"])
        assert "portNumber" not in old["spec"]["extensionRef"]
        assert [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gw"}] == [
            parent["parentRef"] for parent in old["status"]["parent"]
        ]
        assert ["parentRef"] == list(old["status"]["parent"][0])
        assert "status" not in pool.to_dict("v1alpha2")

    def test_what_cannot_be_said(self) -> None:
        """A pool without a picker, or with expressions, has no document of the older API."""
        pool = InferencePool(name="a", selector="x in (a, b)", target_ports=[80])
        with pytest.raises(InvalidDocumentError) as caught:
            pool.to_dict("v1alpha2")

        assert "InferencePool default/a" == caught.value.source
        assert ["spec.endpointPickerRef", "spec.selector.matchExpressions"] == [
            issue.field for issue in caught.value.issues
        ]

    @given(documents.old_pools())
    def test_round_trip(self, document: dict[str, Any]) -> None:
        """A pool survives the way through its v1alpha2 document, except for what that cannot hold."""
        pool = InferencePool.from_dict(document, unknown="error")
        again = InferencePool.from_dict(pool.to_dict("v1alpha2"), unknown="error")

        assert (TargetPort(document["spec"]["targetPortNumber"]),) == again.target_ports
        if all(parent.conditions for parent in pool.status.parents):
            assert pool.to_dict("v1alpha2") == again.to_dict("v1alpha2")
        assert pool.metadata == again.metadata
        assert pool.selector == again.selector
        assert pool.endpoint_picker_ref == again.endpoint_picker_ref

    @given(documents.pools())
    def test_through_the_older_api(self, document: dict[str, Any]) -> None:
        """What both APIs can say is the same after the way there and back."""
        pool = InferencePool.from_dict(document)
        if pool.endpoint_picker_ref is None:
            return
        again = InferencePool.from_dict(pool.to_dict("v1alpha2"))

        assert pool.target_ports[:1] == again.target_ports
        assert (pool.selector, pool.endpoint_picker_ref) == (again.selector, again.endpoint_picker_ref)
