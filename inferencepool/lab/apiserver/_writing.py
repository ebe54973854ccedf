"""Creating, updating and deleting objects by the rules of the API server."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, final
from uuid import UUID

from inferencepool.errors import Issue
from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._ownership import Manager, apply_configuration, note_update
from inferencepool.lab.apiserver._patching import apply_patch
from inferencepool.lab.apiserver._resources import NAMESPACES, Document, Resource
from inferencepool.lab.apiserver._store import Key, ObjectStore, Stored
from inferencepool.lab.apiserver._validation import check_object, check_update, fill_defaults
from inferencepool.lab.apiserver._write_rules import (
    DeleteOptions,
    check_preconditions,
    check_versions,
    differs_in_spec,
    field_conflict,
    fill_status,
    grace_of,
    keep_fields,
    may_go,
    merge_fixed,
    only_writable,
    prepare,
)

__all__ = ["ObjectWriter"]

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_NAME_TRIES = 8
_LONGEST_PREFIX = 58
# What a client cannot choose for a new object.
_CHOSEN_BY_SERVER = ("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp")


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
            made = prepare(resource, namespace, document)
            if resource.namespaced:
                self._check_namespace(namespace, make=manager is None)
            metadata = made["metadata"]
            if not metadata.get("name"):
                metadata["name"] = self._generate_name(resource, namespace, metadata)
            key = (namespace, metadata["name"])
            if metadata.pop("resourceVersion", None):
                message = "resourceVersion should not be set on objects to be created"
                raise refusals.make(500, "InternalError", message)
            for name in _CHOSEN_BY_SERVER:
                metadata.pop(name, None)
            metadata["uid"] = str(UUID(int=self._rng.getrandbits(128), version=4))
            metadata["creationTimestamp"] = self._now()
            if resource.generations:
                metadata["generation"] = 1
            if resource.status and manager is not None:
                made.pop("status", None)
            if manager is not None:
                note_update(None, made, manager, self._now())
            fill_status(resource, made)
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
            made = prepare(resource, key[0], document, name=key[1])
            before = self._store.get(resource, key)
            if before is None:
                if resource.upsert and not made["metadata"].get("uid"):
                    made["metadata"].pop("resourceVersion", None)
                    return self.create(resource, key[0], made, manager=manager)
                raise refusals.not_found(resource, key[1])
            check_versions(resource, before, made)
            keep_fields(made["metadata"], before.document["metadata"], "managedFields")
            made = merge_fixed(resource, before.document, made, manager)
            fill_defaults(made)
            check_object(resource, made)
            if manager is not None:
                check_update(resource, before.document, made)
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
            wanted = prepare(resource, key[0], configuration, name=key[1])
            if wanted["metadata"].get("managedFields"):
                message = "metadata.managedFields must be nil"
                raise refusals.bad_request(message)
            before = self._store.get(resource, key)
            if before is None:
                if manager.subresource:
                    raise refusals.not_found(resource, key[1])
                return self.create(resource, key[0], wanted, manager=manager), True
            check_versions(resource, before, wanted, optional=True)
            wanted = only_writable(resource, wanted, manager)
            applied = apply_configuration(before.document, wanted, manager, force=force, now=self._now())
            if applied.conflicts:
                raise field_conflict(resource, key[1], applied.conflicts)
            made = merge_fixed(resource, before.document, applied.document, manager)
            fill_defaults(made)
            check_object(resource, made)
            check_update(resource, before.document, made)
            unchanged = made == before.document
            return before if unchanged else self._replace(resource, key, before, made), False

    def _replace(self, resource: Resource, key: Key, before: Stored, made: Document) -> Stored:
        metadata = made["metadata"]
        if metadata.get("deletionTimestamp") and may_go(resource, metadata):
            return self._store.remove(resource, key)
        if resource.generations and differs_in_spec(before.document, made):
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
            check_preconditions(resource, before, options)
            grace = grace_of(resource, before.document, options)
            if not grace and not before.document["metadata"].get("finalizers"):
                if resource.plural == "pods":
                    # Every pod is marked before it goes, so that watches hear of both.
                    self._mark(resource, key, before, grace)
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
            name = prefix[:_LONGEST_PREFIX] + "".join(self._rng.choices(_SUFFIX, k=5))
            if self._store.get(resource, (namespace, name)) is None:
                return name
        raise refusals.already_exists(resource, name)

    def _now(self, later: int = 0) -> str:
        moment = datetime.fromtimestamp(self._clock(), UTC) + timedelta(seconds=later)
        return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
