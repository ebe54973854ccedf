"""The objects of one resource, as a test sees them: plain dictionaries, no HTTP."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._catalog import Catalog
from inferencepool.lab.apiserver._patching import merge
from inferencepool.lab.apiserver._resources import Document, Resource
from inferencepool.lab.apiserver._selectors import read_scope
from inferencepool.lab.apiserver._store import Key, ObjectStore
from inferencepool.lab.apiserver._write_rules import DeleteOptions
from inferencepool.lab.apiserver._writing import ObjectWriter

__all__ = ["Collection", "HasDocument", "ObjectLike", "Pods", "put"]


class HasDocument(Protocol):
    """**Protocol:** a value that gives its document, such as `Pod` and `InferencePool`."""

    def to_dict(self) -> Document:
        """Give the document."""
        ...


#: A document, or a value that gives one.
ObjectLike: TypeAlias = Mapping[str, Any] | HasDocument

_CONTAINER: Document = {"name": "server", "image": "registry.example/server:1"}


class Collection:
    """
    The objects of one resource.

    A test that writes here plays the rest of the cluster: it may write every field, a status too, needs no rights, and
    namespaces are made when they are missing. Watches hear of it as of any write.

    What it takes is copied, and so is what it gives. Thread-safe.
    """

    def __init__(self, resource: Resource, store: ObjectStore, writer: ObjectWriter) -> None:
        """Show the objects of *resource*."""
        self.resource = resource
        self._store = store
        self._writer = writer

    def add(self, given: ObjectLike) -> Document:
        """
        Create an object; without a namespace it is in ``default``.

        Raises:
            RefusedError: It is there already, or breaks a rule of its kind.
        """
        document = self._complete(_to_document(given))
        namespace = (document.get("metadata") or {}).get("namespace") or "default"
        made = self._writer.create(self.resource, namespace if self.resource.namespaced else "", document)
        return copy.deepcopy(made.document)

    def get(self, name: str, namespace: str = "default") -> Document:
        """
        Give an object.

        Raises:
            RefusedError: There is none of that name.
        """
        found = self.find(name, namespace)
        if found is None:
            raise refusals.not_found(self.resource, name)
        return found

    def find(self, name: str, namespace: str = "default") -> Document | None:
        """Give an object; None where there is none of that name."""
        stored = self._store.get(self.resource, self._key(name, namespace))
        return copy.deepcopy(stored.document) if stored else None

    def list(self, namespace: str = "", selector: str = "") -> list[Document]:
        """Give all objects, or those in *namespace* and with labels that meet *selector*, ordered by name."""
        scope = read_scope(self.resource, namespace, selector, "")
        objects = self._store.snapshot(self.resource)
        return [copy.deepcopy(stored.document) for _, stored in objects if scope.covers(stored.document)]

    def update(self, name: str, patch: Mapping[str, Any], namespace: str = "default") -> Document:
        """
        Change an object by a merge patch: objects merge, None removes, all else replaces.

            server.pods.update("pod-a", {"metadata": {"labels": {"app": "other"}}})

        Raises:
            RefusedError: There is none of that name, or it would break a rule of its kind.
        """
        with self._store.locked():
            changed = merge(self.get(name, namespace), dict(patch))
            made = self._writer.update(self.resource, self._key(name, namespace), changed)
            return copy.deepcopy(made.document)

    def replace(self, given: ObjectLike) -> Document:
        """
        Put an object in the place of the one of its name, whatever version that has.

        Raises:
            RefusedError: There is none of that name, or it breaks a rule of its kind.
        """
        document = self._complete(_to_document(given))
        metadata = document["metadata"]
        key = self._key(metadata["name"], metadata.get("namespace") or "default")
        with self._store.locked():
            metadata["resourceVersion"] = self.get(key[1], key[0])["metadata"]["resourceVersion"]
            metadata.pop("uid", None)
            return copy.deepcopy(self._writer.update(self.resource, key, document).document)

    def delete(self, name: str, namespace: str = "default", *, grace_period: int | None = None) -> None:
        """
        Delete an object as a client would.

        A pod on a node (``spec.nodeName``) ends in its grace period, and goes when it is deleted with a *grace_period*
        of 0.

        Raises:
            RefusedError: There is none of that name.
        """
        self._writer.delete(self.resource, self._key(name, namespace), DeleteOptions(grace_period=grace_period))

    def __len__(self) -> int:
        return len(self._store.snapshot(self.resource))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} {self.resource.qualified}>"

    def _key(self, name: str, namespace: str) -> Key:
        return (namespace if self.resource.namespaced else "", name)

    def _complete(self, document: Document) -> Document:
        return document


class Pods(Collection):
    """
    Pods.

    One that is added without a spec gets a container; `make_pod` of `inferencepool.testing` makes such:

        server.pods.add(make_pod("pod-a", ip="10.0.0.1", labels={"app": "llama"}))
    """

    def set_ready(self, name: str, ready: bool = True, namespace: str = "default") -> Document:
        """
        Make a pod ready, or unready: its condition of type ``Ready``. Other conditions stay.

        Raises:
            RefusedError: There is none of that name.
        """
        with self._store.locked():
            conditions = (self.get(name, namespace).get("status") or {}).get("conditions") or []
            others = [condition for condition in conditions if condition.get("type") != "Ready"]
            state = {"type": "Ready", "status": "True" if ready else "False"}
            return self.update(name, {"status": {"conditions": [*others, state]}}, namespace)

    def _complete(self, document: Document) -> Document:
        spec = document.setdefault("spec", {})
        spec.setdefault("containers", [dict(_CONTAINER)])
        status = document.setdefault("status", {})
        status.setdefault("phase", "Running" if status.get("podIP") else "Pending")
        return document


def put(given: ObjectLike, catalog: Catalog, store: ObjectStore, writer: ObjectWriter) -> Document:
    """Create an object of a kind that is in *catalog*, or replace that of its name; raises as `ApiServer.apply`."""
    document = dict(given) if isinstance(given, Mapping) else given.to_dict()
    resource = catalog.of_kind(str(document.get("apiVersion")), str(document.get("kind")))
    kind = Pods if resource.plural == "pods" else Collection
    collection = kind(resource, store, writer)
    metadata = document.get("metadata") or {}
    there = collection.find(str(metadata.get("name")), metadata.get("namespace") or "default")
    return collection.replace(document) if there else collection.add(document)


def _to_document(given: ObjectLike) -> Document:
    return copy.deepcopy(dict(given)) if isinstance(given, Mapping) else copy.deepcopy(given.to_dict())
