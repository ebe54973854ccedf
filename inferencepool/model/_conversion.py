"""InferencePool v1alpha2: an API group of its own, so converting is a translation between two documents."""

from __future__ import annotations

from typing import Any

import attrs

from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model._picker_ref import EndpointPickerRef, read_referent
from inferencepool.model._pool import V1ALPHA2, InferencePool, TargetPort, read_labels
from inferencepool.model._schema import MAX_PORT, Reader
from inferencepool.model._selector import LabelSelector
from inferencepool.model._status import PENDING, Condition, InferencePoolStatus, ParentStatus

__all__ = ["read_v1alpha2", "to_v1alpha2"]

# Names of the same reason for the condition `Accepted` in v1alpha2 and in v1; the others are the same in both.
_REASONS = {"NotSupportedByGateway": "NotSupportedByParent"}
_REASONS_BACK = {new: old for old, new in _REASONS.items()}


def read_v1alpha2(root: Reader) -> dict[str, Any]:
    """Read spec and status of a v1alpha2 document as the fields of an `InferencePool`."""
    fields: dict[str, Any] = {"selector": LabelSelector(), "target_ports": ()}
    spec = root.child("spec", required=True)
    if spec is not None:
        fields["selector"] = read_labels(spec, "selector")
        number = spec.whole("targetPortNumber", low=1, high=MAX_PORT, required=True)
        fields["target_ports"] = [] if number is None else [TargetPort(number)]
        extension = spec.child("extensionRef", required=True)
        if extension is not None:
            port = extension.whole("portNumber", low=1, high=MAX_PORT)
            fields["endpoint_picker_ref"] = EndpointPickerRef(port=port, **read_referent(extension))
            extension.done()
        spec.done()
    status = root.child("status")
    if status is not None:
        items = status.items("parent", most=32) or []
        parents = [ParentStatus.read(item, (PENDING,), named=False) for item in items]
        status.done()
        kept = map(_parent_to_v1, filter(_is_real, parents))
        fields["status"] = InferencePoolStatus(kept)
    return fields


def _is_real(parent: ParentStatus) -> bool:
    """Tell an entry of a controller from the placeholder that stands for no status."""
    return (parent.parent_ref.kind, parent.parent_ref.name) != ("Status", "default")


def _is_pending(condition: Condition) -> bool:
    return (condition.type, condition.status, condition.reason) == ("Accepted", "Unknown", "Pending")


def _parent_to_v1(parent: ParentStatus) -> ParentStatus:
    conditions = [_rename(item, _REASONS) for item in parent.conditions if not _is_pending(item)]
    return attrs.evolve(parent, conditions=conditions)


def _rename(condition: Condition, reasons: dict[str, str]) -> Condition:
    if condition.type != "Accepted":
        return condition
    return attrs.evolve(condition, reason=reasons.get(condition.reason, condition.reason))


def to_v1alpha2(pool: InferencePool) -> dict[str, Any]:
    """
    Give the v1alpha2 document of *pool*: its first port; protocol and controller names are lost.

    Raises:
        InvalidDocumentError: *pool* names no picker, or its selector has expressions; v1alpha2 has no words for that.
    """
    issues = []
    picker = pool.endpoint_picker_ref
    if picker is None:
        issues.append(Issue("spec.endpointPickerRef", "is required in v1alpha2, as extensionRef"))
    if pool.selector.match_expressions:
        found = pool.selector.match_expressions
        issues.append(Issue("spec.selector.matchExpressions", "do not exist in v1alpha2", found))
    if issues or picker is None:
        raise InvalidDocumentError(issues, f"InferencePool {pool.namespace}/{pool.name}")
    extension: dict[str, Any] = {"group": picker.group, "kind": picker.kind, "name": picker.name}
    if picker.port is not None:
        extension["portNumber"] = picker.port
    extension["failureMode"] = str(picker.failure_mode)
    document: dict[str, Any] = {
        "apiVersion": V1ALPHA2,
        "kind": "InferencePool",
        "metadata": pool.metadata.to_dict(),
        "spec": {
            "selector": dict(pool.selector.match_labels),
            "targetPortNumber": pool.target_ports[0].number,
            "extensionRef": extension,
        },
    }
    if pool.status.parents:
        document["status"] = {"parent": [_parent_to_dict(parent) for parent in pool.status.parents]}
    return document


def _parent_to_dict(parent: ParentStatus) -> dict[str, Any]:
    conditions = [_rename(item, _REASONS_BACK) for item in parent.conditions]
    return attrs.evolve(parent, controller_name=None, conditions=conditions).to_dict()
