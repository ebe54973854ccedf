"""What the API server fills in and what it refuses, as far as routing to a pool depends on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._resources import Document, Resource
from inferencepool.model import Pod, parse_object

__all__ = ["check_object", "check_times", "check_update", "fill_defaults"]

# Metadata that the server itself writes, and does not check.
_OWN = ("creationTimestamp", "deletionTimestamp", "managedFields", "resourceVersion")
_ADDRESSES = ("hostIP", "podIP", "podIPs")
_CONTAINERS = ("containers", "initContainers")
_CHANGEABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` "
    "(only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
    "previously negative)"
)
_LONGEST_DEADLINE = (1 << 31) - 1
_INFERENCE = ("InferencePool", "InferenceObjective", "InferenceModelRewrite", "InferencePoolImport")
_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")


def fill_defaults(document: Document) -> None:
    """Fill in what the type of *document* has defaults for, in place."""
    fill = _DEFAULTS.get((document["apiVersion"], document["kind"]))
    if fill is not None:
        fill(document)


def check_object(resource: Resource, document: Document) -> None:
    """
    Check an object with its defaults.

    Raises:
        RefusedError: 422, it breaks a rule of its kind; tells all that is wrong.
    """
    issues = list(_issues(resource, document))
    if issues:
        raise refusals.invalid(resource, str(document["metadata"].get("name", "")), issues)


def check_times(document: Document) -> None:
    """
    Check the times of a Lease, which must have six digits behind the point: the server cannot decode others.

    Raises:
        RefusedError: 400, one has not.
    """
    spec = document.get("spec")
    for name in ("acquireTime", "renewTime"):
        value = spec.get(name) if isinstance(spec, dict) else None
        if value is not None and not (isinstance(value, str) and _MICRO_TIME.fullmatch(value)):
            message = f'parsing time "{value}" as "2006-01-02T15:04:05.000000Z07:00": cannot parse spec.{name}'
            raise refusals.bad_request(message)


def _issues(resource: Resource, document: Document) -> Iterator[Issue]:
    metadata = {name: value for name, value in document["metadata"].items() if name not in _OWN}
    plain_name = resource.group != "rbac.authorization.k8s.io"
    try:
        if resource.kind in _INFERENCE:
            parse_object(document | {"metadata": metadata})
        elif plain_name:
            status = document.get("status") if resource.kind == "Pod" else None
            named = status.items() if isinstance(status, dict) else ()
            addresses = {name: value for name, value in named if name in _ADDRESSES}
            Pod.from_dict({"metadata": metadata, "status": addresses})
    except InvalidDocumentError as error:
        yield from error.issues
    if resource.kind == "Pod":
        yield from _pod_addresses(_child(document, "status") or {})
    more = _RULES.get(resource.kind)
    if more is not None:
        spec = document.get("spec")
        yield from more(spec if isinstance(spec, dict) else {})


def check_update(resource: Resource, before: Document, made: Document) -> None:
    """
    Check that a client's write changes nothing of a pod's spec that may not change.

    Raises:
        RefusedError: 422, it does.
    """
    if resource.plural != "pods":
        return
    old, new = before.get("spec") or {}, made.get("spec") or {}
    counts = [[len(_items(spec, name)) for name in _CONTAINERS] for spec in (old, new)]
    issues = []
    if counts[0] != counts[1]:
        issues.append(Issue("spec.containers", "Forbidden: pod updates may not add or remove containers"))
    elif _fixed_part(old) != _fixed_part(new, old.get("terminationGracePeriodSeconds")):
        issues.append(Issue("spec", f"Forbidden: pod updates may not change fields other than {_CHANGEABLE}"))
    issues += _deadline(old.get("activeDeadlineSeconds"), new.get("activeDeadlineSeconds"))
    issues += _tolerations(_items(old, "tolerations"), _items(new, "tolerations"))
    if issues:
        raise refusals.invalid(resource, str(made["metadata"].get("name", "")), issues)


def _fixed_part(spec: Document, grace: Any = None) -> Document:
    """Give what of a pod's spec never changes; a *grace* period that was negative may become 1."""
    fixed = {name: value for name, value in spec.items() if name not in ("activeDeadlineSeconds", "tolerations")}
    if isinstance(grace, int) and grace < 0 and fixed.get("terminationGracePeriodSeconds") == 1:
        fixed["terminationGracePeriodSeconds"] = grace
    for name in _CONTAINERS:
        if name in fixed:
            fixed[name] = [each | {"image": ""} for each in _items(spec, name)]
    return fixed


def _deadline(old: Any, new: Any) -> Iterator[Issue]:
    """Check a deadline of a pod, which may be set once, and then come nearer."""
    wrong = ""
    if new is None:
        wrong = "" if old is None else "must not update from a positive integer to nil value"
    elif type(new) is not int or not 0 <= new <= _LONGEST_DEADLINE:
        wrong = f"must be between 0 and {_LONGEST_DEADLINE}, inclusive"
    elif old is not None and new > old:
        wrong = "must be less than or equal to previous value"
    if wrong:
        yield Issue("spec.activeDeadlineSeconds", f"Invalid value: {new}: {wrong}", new)


def _tolerations(old: list[Any], new: list[Any]) -> Iterator[Issue]:
    """Check that all tolerations of a pod are still there; for how long they hold may change."""
    kept = [_lasting(each) for each in new]
    if not all(_lasting(each) in kept for each in old):
        yield Issue(
            "spec.tolerations", "Forbidden: existing toleration can not be modified except its tolerationSeconds"
        )


def _lasting(toleration: Any) -> Any:
    return {name: value for name, value in toleration.items() if name != "tolerationSeconds"}


def _pod_addresses(status: Document) -> Iterator[Issue]:
    addresses = [item.get("ip") for item in _items(status, "podIPs")]
    first = status.get("podIP")
    if first and addresses and addresses[0] != first:
        yield Issue(
            "status.podIPs[0].ip", f"Invalid value: {addresses[0]!r}: must be equal to `podIP` ({first!r})", first
        )
    versions = [":" in str(address) for address in addresses]
    if len(set(versions)) < len(versions):
        yield Issue("status.podIPs", "Invalid value: may specify no more than one IP for each IP family", addresses)


def _pod(spec: Document) -> Iterator[Issue]:
    containers = spec.get("containers")
    if not isinstance(containers, list) or not containers:
        yield Issue("spec.containers", "Required value")
        return
    for index, container in enumerate(containers):
        for field in ("name", "image"):
            if not (isinstance(container, dict) and container.get(field)):
                yield Issue(f"spec.containers[{index}].{field}", "Required value")


def _service(spec: Document) -> Iterator[Issue]:
    if spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None" and not spec.get("ports"):
        yield Issue("spec.ports", "Required value")


def _lease(spec: Document) -> Iterator[Issue]:
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if isinstance(seconds, int) and seconds <= 0:
        yield Issue("spec.leaseDurationSeconds", f"Invalid value: {seconds}: must be greater than 0", seconds)
    if isinstance(transitions, int) and transitions < 0:
        message = f"Invalid value: {transitions}: must be greater than or equal to 0"
        yield Issue("spec.leaseTransitions", message, transitions)


def _deployment(spec: Document) -> Iterator[Issue]:
    selector = (spec.get("selector") or {}).get("matchLabels") or {}
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if not selector:
        yield Issue("spec.selector", "Required value")
    if not selector.items() <= labels.items():
        yield Issue("spec.template.metadata.labels", f"Invalid value: {labels}: `selector` does not match template")


_RULES: dict[str, Callable[[Document], Iterator[Issue]]] = {
    "Pod": _pod,
    "Service": _service,
    "Lease": _lease,
    "Deployment": _deployment,
}


def _child(document: Document, name: str) -> Document | None:
    found = document.get(name)
    return found if isinstance(found, dict) else None


def _fill(document: Document | None, **defaults: Any) -> None:
    for name, value in defaults.items() if document is not None else ():
        if document is not None and document.get(name) is None:
            document[name] = value


def _items(document: Document | None, name: str) -> list[Document]:
    found = (document or {}).get(name)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _pending(kind: str = "Accepted") -> list[Document]:
    return [
        {
            "type": kind,
            "status": "Unknown",
            "reason": "Pending",
            "message": "Waiting for controller",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }
    ]


def _fill_parents(parents: list[Document]) -> None:
    for parent in parents:
        _fill(_child(parent, "parentRef"), group="gateway.networking.k8s.io", kind="Gateway")


def _fill_pool(document: Document) -> None:
    spec = _child(document, "spec")
    _fill(spec, appProtocol="http")
    _fill(_child(spec or {}, "endpointPickerRef"), group="", kind="Service", failureMode="FailClose")
    _fill_parents(_items(_child(document, "status"), "parents"))


def _fill_old_pool(document: Document) -> None:
    _fill(_child(_child(document, "spec") or {}, "extensionRef"), group="", kind="Service", failureMode="FailClose")
    _fill(document, status={"parent": [{"parentRef": {"kind": "Status", "name": "default"}}]})
    parents = _items(_child(document, "status"), "parent")
    for parent in parents:
        _fill(parent, conditions=_pending())
    _fill_parents(parents)


def _fill_pool_ref(document: Document, group: str, condition: str) -> None:
    _fill(_child(_child(document, "spec") or {}, "poolRef"), group=group, kind="InferencePool")
    _fill(_child(document, "status"), conditions=_pending(condition))


def _fill_rewrite(document: Document, group: str) -> None:
    _fill_pool_ref(document, group, "Accepted")
    for rule in _items(_child(document, "spec"), "rules"):
        for match in _items(rule, "matches"):
            _fill(_child(match, "model"), type="Exact")


_POOLS = "inference.networking.k8s.io"
_DEFAULTS: dict[tuple[str, str], Callable[[Document], None]] = {
    (f"{_POOLS}/v1", "InferencePool"): _fill_pool,
    ("inference.networking.x-k8s.io/v1alpha2", "InferencePool"): _fill_old_pool,
}
for _group in ("llm-d.ai", "inference.networking.x-k8s.io"):
    _DEFAULTS[f"{_group}/v1alpha2", "InferenceObjective"] = lambda found: _fill_pool_ref(found, _POOLS, "Ready")
    _DEFAULTS[f"{_group}/v1alpha2", "InferenceModelRewrite"] = lambda found: _fill_rewrite(found, _POOLS)
