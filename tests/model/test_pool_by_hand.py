from __future__ import annotations

from typing import Any

import attrs
import pytest

from inferencepool.errors import InvalidDocumentError
from inferencepool.model import EndpointPickerRef, FailureMode, InferencePool, LabelSelector, ObjectMeta, TargetPort
from tests.model.test_pool import POOL

_PICKER = "spec.endpointPickerRef"


class TestByHand:
    def test_short_forms(self) -> None:
        """Plain numbers, a mapping or a text do for ports and selector."""
        pool = InferencePool(name="a", selector={"app": "x"}, target_ports=[80], app_protocol="http")

        assert pool == InferencePool(
            name="a", selector=LabelSelector.parse("app=x"), target_ports=(TargetPort(80),), metadata=pool.metadata
        )
        assert pool == InferencePool(name="a", selector="app=x", target_ports=[80])
        assert ObjectMeta(name="a") == pool.metadata
        assert "spec" in pool.to_dict()
        assert "endpointPickerRef" not in pool.to_dict()["spec"]

    @pytest.mark.parametrize(
        ("fields", "field", "reason"),
        [
            ({"name": "A"}, "metadata.name", "does not match"),
            ({"namespace": ""}, "metadata.namespace", "has 0 characters"),
            ({"metadata": ObjectMeta(name="b")}, "metadata", "names 'default/b', not this pool"),
            ({"selector": 7}, "spec.selector", "7 is no label selector"),
            ({"selector": {"": "a"}}, "matchLabels['']", "is no qualified name"),
            ({"target_ports": []}, "spec.targetPorts", "has 0 items, allowed are 1 to 8"),
            ({"target_ports": range(1, 10)}, "spec.targetPorts", "has 9 items, allowed are 1 to 8"),
            ({"target_ports": [80, 80]}, "spec.targetPorts", "port number must be unique"),
            ({"target_ports": [80, True]}, "spec.targetPorts[1].number", "True is not in 1 to 65535"),
            ({"target_ports": [[]]}, "spec.targetPorts[0].number", "[] is not in 1 to 65535"),
            ({"app_protocol": "grpc"}, "spec.appProtocol", "'grpc' is not one of http, kubernetes.io/h2c"),
            ({"endpoint_picker_ref": EndpointPickerRef(name="")}, f"{_PICKER}.name", "has 0 characters"),
            ({"endpoint_picker_ref": EndpointPickerRef(name="a", kind="-")}, f"{_PICKER}.kind", "does not match"),
            ({"endpoint_picker_ref": EndpointPickerRef(name="a", group="-")}, f"{_PICKER}.group", "does not match"),
            ({"endpoint_picker_ref": EndpointPickerRef(name="a", port=0)}, f"{_PICKER}.port.number", "0 is not in 1"),
        ],
    )
    def test_refuses(self, fields: dict[str, Any], field: str, reason: str) -> None:
        """The constructor applies the rules of the API, and tells the field in its words."""
        with pytest.raises(InvalidDocumentError) as caught:
            InferencePool(**{"name": "a", "selector": {"app": "x"}, "target_ports": [80], **fields})

        [issue] = caught.value.issues
        assert field == issue.field
        assert reason in issue.reason

    def test_failure_mode(self) -> None:
        """A failure mode may be given as text; another one is refused."""
        assert EndpointPickerRef(name="a", failure_mode="FailOpen").failure_mode is FailureMode.FAIL_OPEN
        with pytest.raises(InvalidDocumentError, match="failureMode: 'x' is not one of FailOpen, FailClose"):
            EndpointPickerRef(name="a", failure_mode="x")

    def test_renaming_needs_metadata(self) -> None:
        """A changed copy cannot have a name that its metadata does not have."""
        pool = InferencePool.from_dict(POOL)
        with pytest.raises(InvalidDocumentError, match="not this pool"):
            attrs.evolve(pool, name="other")
