"""What is done to an object by creating a part of it: a pod is bound to a node, a service account gets a token."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from inferencepool.errors import Issue
from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._access import Access, service_account_name
from inferencepool.lab.apiserver._requests import ApiRequest
from inferencepool.lab.apiserver._resources import Document, Resource
from inferencepool.lab.apiserver._store import Key, ObjectStore
from inferencepool.lab.apiserver._writing import ObjectWriter

__all__ = ["bind_pod", "request_token"]

_LEAST_SECONDS, _DEFAULT_SECONDS = 600, 3600


def bind_pod(writer: ObjectWriter, store: ObjectStore, resource: Resource, key: Key, binding: Document) -> Document:
    """
    Assign a pod to the node that *binding* names.

    Raises:
        RefusedError: 404, there is no such pod; 409, it is assigned or being deleted; 422, no node is named.
    """
    target: Any = binding.get("target")
    target = target if isinstance(target, dict) else {}
    issues = []
    if target.get("kind") not in (None, "", "Node"):
        reason = f'Unsupported value: "{target["kind"]}": supported values: "Node", "<empty>"'
        issues.append(Issue("target.kind", reason, target["kind"]))
    if not target.get("name"):
        issues.append(Issue("target.name", "Required value"))
    if issues:
        raise refusals.invalid(None, key[1], issues, kind="Binding")
    with store.locked():
        before = store.get(resource, key)
        if before is None:
            raise refusals.not_found(resource, key[1])
        pod, name = before.document, key[1]
        why = ""
        if pod["metadata"].get("deletionTimestamp"):
            why = f"pod {name} is being deleted, cannot be assigned to a host"
        elif node := (pod.get("spec") or {}).get("nodeName"):
            why = f'pod {name} is already assigned to node "{node}"'
        if why:
            raise refusals.conflict(resource, name, why, subresource="binding")
        status = pod.get("status") or {}
        others = [each for each in status.get("conditions") or [] if each.get("type") != "PodScheduled"]
        scheduled = {"type": "PodScheduled", "status": "True"}
        made = {
            **pod,
            "spec": {**(pod.get("spec") or {}), "nodeName": target["name"]},
            "status": {**status, "conditions": [*others, scheduled]},
        }
        writer.update(resource, key, made)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def request_token(
    access: Access, store: ObjectStore, resource: Resource, request: ApiRequest, clock: Callable[[], float]
) -> Document:
    """
    Give a service account a token.

    Raises:
        RefusedError: 404, there is no such account; 422, it would be valid for less than ten minutes.
    """
    target, asked = request.target, request.options()
    if store.get(resource, (target.namespace, target.name)) is None:
        raise refusals.not_found(resource, target.name)
    spec = asked.get("spec") or {}
    seconds = spec.get("expirationSeconds", _DEFAULT_SECONDS)
    if type(seconds) is not int or seconds < _LEAST_SECONDS:
        issue = Issue(
            "spec.expirationSeconds", f"Invalid value: {seconds}: may not specify a duration less than 10 minutes"
        )
        raise refusals.invalid(None, "", [issue], kind="TokenRequest.authentication.k8s.io")
    ends = datetime.fromtimestamp(clock(), UTC) + timedelta(seconds=seconds)
    token = access.new_token(service_account_name(target.namespace, target.name))
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": target.name, "namespace": target.namespace},
        "spec": {**spec, "expirationSeconds": seconds},
        "status": {"token": token, "expirationTimestamp": f"{ends:%Y-%m-%dT%H:%M:%SZ}"},
    }
