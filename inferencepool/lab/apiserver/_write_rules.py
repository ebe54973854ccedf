"""What a write may change, and when it is refused: the rules of the API server, without its state."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import attrs

from inferencepool.errors import Issue
from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._ownership import Conflict, Manager
from inferencepool.lab.apiserver._refusals import RefusedError
from inferencepool.lab.apiserver._resources import Document, Resource
from inferencepool.lab.apiserver._shapes import check_metadata, check_shapes
from inferencepool.lab.apiserver._store import Stored
from inferencepool.lab.apiserver._validation import check_times

__all__ = [
    "DeleteOptions",
    "check_preconditions",
    "check_versions",
    "differs_in_spec",
    "field_conflict",
    "fill_status",
    "grace_of",
    "keep_fields",
    "may_go",
    "merge_fixed",
    "only_writable",
    "prepare",
]

_DEFAULT_GRACE = 30
# Metadata that is left out where there is nothing in it.
_OPTIONAL = ("annotations", "finalizers", "labels", "ownerReferences")
# What stays as the server made it, whatever a client writes.
_FIXED = ("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generateName", "generation", "uid")


@attrs.frozen(kw_only=True)
class DeleteOptions:
    """
    How to delete.

    Attributes:
        grace_period: Seconds that a pod on a node gets to end; None for what the pod asks for.
        uid: Delete only the object with this uid.
        revision: Delete only this version of it.
    """

    grace_period: int | None = None
    uid: str | None = None
    revision: str | None = None


def prepare(resource: Resource, namespace: str, document: Document, *, name: str = "") -> Document:
    """
    Give a copy of *document* with what its path says of it.

    Raises:
        RefusedError: 400, it says something else, or a field in it cannot be read.
    """
    made = _without_nulls(copy.deepcopy(document))
    check = check_metadata if resource.custom else check_shapes
    check(made)
    for field, expected in (("apiVersion", resource.api_version), ("kind", resource.kind)):
        given = made.setdefault(field, expected)
        if given != expected:
            what = "API version" if field == "apiVersion" else "kind"
            message = f"the {what} in the data ({given}) does not match the expected {what} ({expected})"
            raise refusals.bad_request(message)
    metadata = made["metadata"] = _without_nulls(made.get("metadata", {}))
    if name and metadata.setdefault("name", name) != name:
        message = f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
        raise refusals.bad_request(message)
    if not resource.namespaced:
        metadata.pop("namespace", None)
    elif metadata.setdefault("namespace", namespace) != namespace:
        message = "the namespace of the provided object does not match the namespace sent on the request"
        raise refusals.bad_request(message)
    for field in _OPTIONAL:
        if not metadata.get(field):
            metadata.pop(field, None)
    if resource.plural == "leases":
        check_times(made)
    return made


def _without_nulls(document: Document) -> Document:
    """Leave out fields that are null, which to the API server are absent."""
    return {name: value for name, value in document.items() if value is not None}


def fill_status(resource: Resource, made: Document) -> None:
    """Begin the status of a new object, in place."""
    if resource.plural == "pods":
        made.setdefault("status", {}).setdefault("phase", "Pending")
    elif resource.plural == "namespaces":
        made.setdefault("status", {}).setdefault("phase", "Active")


def check_versions(resource: Resource, before: Stored, made: Document, *, optional: bool = False) -> None:
    """
    Check that *made* was made of *before*; without *optional* some resources must say so.

    Raises:
        RefusedError: 409, it was not; 422, it does not say.
    """
    metadata, name = made["metadata"], before.document["metadata"]["name"]
    uid = before.document["metadata"]["uid"]
    if metadata.get("uid") not in (None, "", uid):
        why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {uid}"
        raise refusals.conflict(resource, name, why)
    revision = metadata.get("resourceVersion")
    if not revision:
        if resource.conditional and not optional:
            issue = Issue("metadata.resourceVersion", "Invalid value: 0: must be specified for an update")
            raise refusals.invalid(resource, name, [issue])
    elif revision != str(before.revision):
        raise refusals.conflict(resource, name)


def keep_fields(made: Document, before: Document, *names: str) -> None:
    """Give *made* the fields *names* as *before* has them, or has them not."""
    for name in names:
        made.pop(name, None)
        if name in before:
            made[name] = copy.deepcopy(before[name])


def merge_fixed(resource: Resource, before: Document, made: Document, manager: Manager | None) -> Document:
    """Give what *manager* may change from *made*, and the rest from *before*."""
    if manager is not None and manager.subresource:
        kept = copy.deepcopy(before)
        keep_fields(kept, made, "status")
        keep_fields(kept["metadata"], made["metadata"], "managedFields")
        made = kept
    elif resource.status and manager is not None:
        keep_fields(made, before, "status")
    keep_fields(made["metadata"], before["metadata"], *_FIXED, "resourceVersion")
    return made


def only_writable(resource: Resource, wanted: Document, manager: Manager) -> Document:
    """Give the part of a configuration that its manager may write where it writes."""
    if manager.subresource:
        return {name: wanted[name] for name in ("apiVersion", "kind", "status") if name in wanted}
    return {name: value for name, value in wanted.items() if not (resource.status and name == "status")}


def field_conflict(resource: Resource, name: str, conflicts: Iterable[Conflict]) -> RefusedError:
    """Refuse a server-side apply: others own the fields."""
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{conflict.owner}"', "field": conflict.field}
        for conflict in conflicts
    ]
    told = "; ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
    counted = "1 conflict" if len(causes) == 1 else f"{len(causes)} conflicts"
    message = f"Apply failed with {counted}: {told}"
    details = {"name": name, "group": resource.group, "kind": resource.plural, "causes": causes}
    return refusals.make(409, "Conflict", message, details)


def differs_in_spec(before: Document, made: Document) -> bool:
    """Tell whether a write changes more than metadata and status."""
    names = (before.keys() | made.keys()) - {"metadata", "status"}
    return any(before.get(name) != made.get(name) for name in names)


def check_preconditions(resource: Resource, before: Stored, options: DeleteOptions) -> None:
    """
    Check that what is to be deleted is what the options name.

    Raises:
        RefusedError: 409, it is not.
    """
    metadata = before.document["metadata"]
    pairs = (("UID", options.uid, metadata["uid"]), ("ResourceVersion", options.revision, str(before.revision)))
    for what, wanted, found in pairs:
        if wanted is not None and wanted != found:
            why = f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
            raise refusals.conflict(resource, metadata["name"], why)


def grace_of(resource: Resource, document: Document, options: DeleteOptions) -> int:
    """Tell how long a pod may take to end: at once where no node has to end it, or where it ended by itself."""
    spec: Any = document.get("spec") or {}
    if resource.plural != "pods" or not spec.get("nodeName"):
        return 0
    if document.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    if options.grace_period is not None:
        return options.grace_period
    return int(spec.get("terminationGracePeriodSeconds") or _DEFAULT_GRACE)


def may_go(resource: Resource, metadata: Document) -> bool:
    """Tell whether nothing holds an object that is being deleted."""
    waits = resource.plural == "pods" and metadata.get("deletionGracePeriodSeconds")
    return not metadata.get("finalizers") and not waits
