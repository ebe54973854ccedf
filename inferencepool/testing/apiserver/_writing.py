"""Creating, updating and deleting objects by the rules of the API server."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, final
from uuid import UUID

import attrs

from inferencepool.errors import Issue
from inferencepool.testing.apiserver import _refusals as refusals
from inferencepool.testing.apiserver._ownership import Conflict, Manager, apply_configuration, note_update
from inferencepool.testing.apiserver._patching import apply_patch
from inferencepool.testing.apiserver._refusals import RefusedError
from inferencepool.testing.apiserver._resources import NAMESPACES, Document, Resource
from inferencepool.testing.apiserver._store import Key, ObjectStore, Stored
from inferencepool.testing.apiserver._validation import check_object, check_times, fill_defaults

__all__ = ["DeleteOptions", "ObjectWriter"]

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_NAME_TRIES = 8
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


@final
class ObjectWriter:
    """Writes to a store what the API server would write. Every method takes the store's lock for all it does."""

    def __init__(self, store: ObjectStore, *, clock: Callable[[], float], rng: Random) -> None:
        """Write to *store*; *clock* tells the seconds since 1970, *rng* makes names and uids."""
        self._store = store
        self._clock = clock
        self._rng = rng

    def create(
        self, resource: Resource, namespace: str, document: Document, *, manager: Manager | None = None
    ) -> Stored:
        """
        Create an object.

        Args:
            resource: Its resource.
            namespace: Its namespace; empty for a resource without.
            document: The object; it is copied.
            manager: Who writes; owns all of it. None for a test that plays all the rest of the cluster: it may write
                the status too, and its namespace is made if it is missing.

        Raises:
            RefusedError: 400, 404 for the namespace, 409 or 422.
        """
        with self._store.locked():
            made = self._prepare(resource, namespace, document)
            if resource.namespaced:
                self._check_namespace(namespace, make=manager is None)
            metadata = made["metadata"]
            if not metadata.get("name"):
                metadata["name"] = self._generate_name(resource, namespace, metadata)
            key = (namespace, metadata["name"])
            if metadata.pop("resourceVersion", None):
                message = "resourceVersion should not be set on objects to be created"
                raise refusals.make(500, "InternalError", message)
            for name in _FIXED[:3]:
                metadata.pop(name, None)
            metadata["uid"] = str(UUID(int=self._rng.getrandbits(128), version=4))
            metadata["creationTimestamp"] = self._now()
            if resource.generations:
                metadata["generation"] = 1
            if resource.status and manager is not None:
                made.pop("status", None)
            if manager is not None:
                note_update(None, made, manager, self._now())
            _fill_status(resource, made)
            fill_defaults(made)
            check_object(resource, made)
            if self._store.get(resource, key) is not None:
                raise refusals.already_exists(resource, key[1])
            return self._store.write(resource, key, made)

    def update(self, resource: Resource, key: Key, document: Document, *, manager: Manager | None = None) -> Stored:
        """
        Replace an object, or its status only if that is where *manager* writes; without one, all of it.

        What changes nothing writes nothing. An object that is being deleted goes when its last finalizer does.

        Raises:
            RefusedError: 400, 404, 409 or 422.
        """
        with self._store.locked():
            made = self._prepare(resource, key[0], document, name=key[1])
            before = self._store.get(resource, key)
            if before is None:
                if resource.upsert and not made["metadata"].get("uid"):
                    made["metadata"].pop("resourceVersion", None)
                    return self.create(resource, key[0], made, manager=manager)
                raise refusals.not_found(resource, key[1])
            _check_versions(resource, before, made)
            _keep(made["metadata"], before.document["metadata"], "managedFields")
            made = _merge_fixed(resource, before.document, made, manager)
            fill_defaults(made)
            check_object(resource, made)
            if made == before.document:
                return before
            if manager is not None:
                note_update(before.document, made, manager, self._now())
            return self._replace(resource, key, before, made)

    def patch(self, resource: Resource, key: Key, content_type: str, patch: Any, *, manager: Manager) -> Stored:
        """
        Change an object by a patch of *content_type*; what changes nothing writes nothing.

        Raises:
            RefusedError: 400, 404, 409 or 422.
        """
        with self._store.locked():
            before = self._store.get(resource, key)
            if before is None:
                raise refusals.not_found(resource, key[1])
            made = apply_patch(content_type, before.document, patch)
            return self.update(resource, key, made, manager=manager)

    def apply(
        self, resource: Resource, key: Key, configuration: Document, *, manager: Manager, force: bool
    ) -> tuple[Stored, bool]:
        """
        Make the fields of *configuration* so, as the server-side apply of *manager*; *force* takes them from others.

        Gives the object, and whether it was created.

        Raises:
            RefusedError: 400, 404 for a status without its object, 409 for fields that others own, 422.
        """
        with self._store.locked():
            wanted = self._prepare(resource, key[0], configuration, name=key[1])
            if wanted["metadata"].get("managedFields"):
                message = "metadata.managedFields must be nil"
                raise refusals.bad_request(message)
            before = self._store.get(resource, key)
            if before is None:
                if manager.subresource:
                    raise refusals.not_found(resource, key[1])
                return self.create(resource, key[0], wanted, manager=manager), True
            _check_versions(resource, before, wanted, optional=True)
            wanted = _only_writable(resource, wanted, manager)
            applied = apply_configuration(before.document, wanted, manager, force=force, now=self._now())
            if applied.conflicts:
                raise _field_conflict(resource, key[1], applied.conflicts)
            made = _merge_fixed(resource, before.document, applied.document, manager)
            fill_defaults(made)
            check_object(resource, made)
            unchanged = made == before.document
            return before if unchanged else self._replace(resource, key, before, made), False

    def _replace(self, resource: Resource, key: Key, before: Stored, made: Document) -> Stored:
        metadata = made["metadata"]
        if metadata.get("deletionTimestamp") and _may_go(resource, metadata):
            return self._store.remove(resource, key)
        if resource.generations and _differs_in_spec(before.document, made):
            metadata["generation"] = before.document["metadata"]["generation"] + 1
        return self._store.write(resource, key, made)

    def delete(self, resource: Resource, key: Key, options: DeleteOptions | None = None) -> tuple[Stored, bool]:
        """
        Delete an object, or mark it: a pod on a node gets its grace period, and finalizers hold any object.

        Gives the object as it is left, and whether it is gone.

        Raises:
            RefusedError: 404, or 409 for another version than the options name.
        """
        options = options or DeleteOptions()
        with self._store.locked():
            before = self._store.get(resource, key)
            if before is None:
                raise refusals.not_found(resource, key[1])
            _check_preconditions(resource, before, options)
            grace = _grace(resource, before.document, options)
            if not grace and not before.document["metadata"].get("finalizers"):
                if resource.plural == "namespaces":
                    self._empty(key[1])
                return self._store.remove(resource, key), True
            return self._mark(resource, key, before, grace), False

    def _mark(self, resource: Resource, key: Key, before: Stored, grace: int) -> Stored:
        marked = copy.deepcopy(before.document)
        metadata = marked["metadata"]
        if metadata.get("deletionTimestamp") and grace >= metadata.get("deletionGracePeriodSeconds", 0):
            return before
        metadata["deletionTimestamp"] = self._now(grace)
        metadata["deletionGracePeriodSeconds"] = grace
        if resource.generations:
            metadata["generation"] += 1
        return self._store.write(resource, key, marked)

    def _empty(self, namespace: str) -> None:
        for resource in self._store.resources():
            for key, _ in self._store.snapshot(resource):
                if resource.namespaced and key[0] == namespace:
                    self._store.remove(resource, key)

    def _prepare(self, resource: Resource, namespace: str, document: Document, *, name: str = "") -> Document:
        made = copy.deepcopy(document)
        for field, expected in (("apiVersion", resource.api_version), ("kind", resource.kind)):
            given = made.setdefault(field, expected)
            if given != expected:
                what = "API version" if field == "apiVersion" else "kind"
                message = f"the {what} in the data ({given}) does not match the expected {what} ({expected})"
                raise refusals.bad_request(message)
        metadata = made.setdefault("metadata", {})
        if not isinstance(metadata, dict):
            message = "json: cannot unmarshal metadata into Go value of type v1.ObjectMeta"
            raise refusals.bad_request(message)
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

    def _check_namespace(self, namespace: str, *, make: bool) -> None:
        if self._store.get(NAMESPACES, ("", namespace)) is not None:
            return
        if not make:
            raise refusals.not_found(NAMESPACES, namespace)
        self.create(NAMESPACES, "", {"metadata": {"name": namespace}})

    def _generate_name(self, resource: Resource, namespace: str, metadata: Document) -> str:
        prefix: str = metadata.get("generateName", "")
        if not prefix:
            issue = Issue("metadata.name", "Required value: name or generateName is required")
            raise refusals.invalid(resource, "", [issue])
        for _ in range(_NAME_TRIES):
            name = prefix + "".join(self._rng.choices(_SUFFIX, k=5))
            if self._store.get(resource, (namespace, name)) is None:
                return name
        raise refusals.already_exists(resource, name)

    def _now(self, later: int = 0) -> str:
        moment = datetime.fromtimestamp(self._clock(), UTC) + timedelta(seconds=later)
        return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _fill_status(resource: Resource, made: Document) -> None:
    if resource.plural == "pods":
        made.setdefault("status", {}).setdefault("phase", "Pending")
    elif resource.plural == "namespaces":
        made.setdefault("status", {}).setdefault("phase", "Active")


def _check_versions(resource: Resource, before: Stored, made: Document, *, optional: bool = False) -> None:
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


def _keep(made: Document, before: Document, *names: str) -> None:
    """Give *made* the fields *names* as *before* has them, or has them not."""
    for name in names:
        made.pop(name, None)
        if name in before:
            made[name] = copy.deepcopy(before[name])


def _merge_fixed(resource: Resource, before: Document, made: Document, manager: Manager | None) -> Document:
    """Give what *manager* may change from *made*, and the rest from *before*."""
    if manager is not None and manager.subresource:
        kept = copy.deepcopy(before)
        _keep(kept, made, "status")
        _keep(kept["metadata"], made["metadata"], "managedFields")
        made = kept
    elif resource.status and manager is not None:
        _keep(made, before, "status")
    _keep(made["metadata"], before["metadata"], *_FIXED, "resourceVersion")
    return made


def _only_writable(resource: Resource, wanted: Document, manager: Manager) -> Document:
    """Give the part of a configuration that its manager may write where it writes."""
    if manager.subresource:
        return {name: wanted[name] for name in ("apiVersion", "kind", "status") if name in wanted}
    return {name: value for name, value in wanted.items() if not (resource.status and name == "status")}


def _field_conflict(resource: Resource, name: str, conflicts: Iterable[Conflict]) -> RefusedError:
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{conflict.owner}"', "field": conflict.field}
        for conflict in conflicts
    ]
    told = "; ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
    counted = "1 conflict" if len(causes) == 1 else f"{len(causes)} conflicts"
    message = f"Apply failed with {counted}: {told}"
    details = {"name": name, "group": resource.group, "kind": resource.plural, "causes": causes}
    return refusals.make(409, "Conflict", message, details)


def _differs_in_spec(before: Document, made: Document) -> bool:
    names = (before.keys() | made.keys()) - {"metadata", "status"}
    return any(before.get(name) != made.get(name) for name in names)


def _check_preconditions(resource: Resource, before: Stored, options: DeleteOptions) -> None:
    metadata = before.document["metadata"]
    pairs = (("UID", options.uid, metadata["uid"]), ("ResourceVersion", options.revision, str(before.revision)))
    for what, wanted, found in pairs:
        if wanted is not None and wanted != found:
            why = f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
            raise refusals.conflict(resource, metadata["name"], why)


def _grace(resource: Resource, document: Document, options: DeleteOptions) -> int:
    """Tell how long a pod may take to end: at once where no node has to end it, or where it ended by itself."""
    spec: Any = document.get("spec") or {}
    if resource.plural != "pods" or not spec.get("nodeName"):
        return 0
    if document.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    if options.grace_period is not None:
        return options.grace_period
    return int(spec.get("terminationGracePeriodSeconds") or _DEFAULT_GRACE)


def _may_go(resource: Resource, metadata: Document) -> bool:
    waits = resource.plural == "pods" and metadata.get("deletionGracePeriodSeconds")
    return not metadata.get("finalizers") and not waits
