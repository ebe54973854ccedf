"""The forms in which a client may ask for objects: as they are, as a table for people, or their metadata alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._columns import columns_of
from inferencepool.lab.apiserver._requests import ApiRequest
from inferencepool.lab.apiserver._resources import Document, Resource

__all__ = ["Form", "read_form"]

_META = "meta.k8s.io"
_JSON = ("application/json", "application/*", "*/*")
_PARTIAL = ("PartialObjectMetadata", "PartialObjectMetadataList")
_INCLUDED = ("", "None", "Metadata", "Object")


@final
class Form:
    """The form that one request asks for."""

    def __init__(
        self, resource: Resource | None, kind: str, version: str, included: str, clock: Callable[[], float]
    ) -> None:
        """Show objects of *resource* as *kind*, empty for as they are, with *included* in the rows of a table."""
        self._resource = resource
        self._kind = kind
        self._version = f"{_META}/{version}"
        self._included = included or "Metadata"
        self._clock = clock

    def render(self, document: Document, *, titled: bool = True) -> Document:
        """Show an object or a list; with *titled* a table says what its columns are."""
        resource = self._resource
        if not self._kind or resource is None or document.get("kind") not in (resource.kind, f"{resource.kind}List"):
            return document
        items = document.get("items") if document["kind"] != resource.kind else None
        if self._kind == "Table":
            return self._table(resource, document, items, titled=titled)
        if items is None:
            return self._partial(document)
        return {
            "kind": "PartialObjectMetadataList",
            "apiVersion": self._version,
            "metadata": document["metadata"],
            "items": [self._partial(item) for item in items],
        }

    def bookmark(self, document: Document) -> Document:
        """Show the object of a bookmark, which has a version only."""
        if self._kind != "Table":
            return self._partial(document) if self._kind else document
        return {"kind": "Table", "apiVersion": self._version, "metadata": document["metadata"], "rows": []}

    def _partial(self, document: Document) -> Document:
        return {"kind": "PartialObjectMetadata", "apiVersion": self._version, "metadata": document["metadata"]}

    def _table(self, resource: Resource, document: Document, items: list[Document] | None, *, titled: bool) -> Document:
        metadata = document["metadata"]
        if items is None:
            metadata = {"resourceVersion": metadata["resourceVersion"]} if "resourceVersion" in metadata else {}
        columns, now = columns_of(resource), self._clock()
        rows = []
        for item in [document] if items is None else items:
            row: Document = {"cells": [column.cell(item, now) for column in columns]}
            if self._included == "Metadata":
                row["object"] = self._partial(item)
            elif self._included == "Object":
                row["object"] = {"kind": resource.kind, "apiVersion": resource.api_version} | item
            rows.append(row)
        titles = [column.definition for column in columns] if titled else None
        return {
            "kind": "Table",
            "apiVersion": self._version,
            "metadata": metadata,
            "columnDefinitions": titles,
            "rows": rows,
        }


def read_form(request: ApiRequest, resource: Resource | None, clock: Callable[[], float]) -> Form:
    """
    Read what *request* accepts: the first of its media types that this server can write.

    Raises:
        RefusedError: 406, there is none; 400, the query asks for something else in the rows of a table.
    """
    included = request.query.get("includeObject", "")
    if included not in _INCLUDED:
        message = f'invalid includeObject value "{included}", allowed are None, Metadata, Object'
        raise refusals.bad_request(message)
    for clause in (request.headers.get("accept", "").strip() or "*/*").split(","):
        media, *given = (part.strip() for part in clause.split(";"))
        parameters = dict(part.partition("=")[::2] for part in given)
        kind, version = parameters.get("as", ""), parameters.get("v", "")
        if media.lower() not in _JSON:
            continue
        if not kind:
            return Form(resource, "", "v1", included, clock)
        known = kind == "Table" or kind in _PARTIAL
        if resource is not None and known and parameters.get("g") == _META and version in ("v1", "v1beta1"):
            return Form(resource, kind, version, included, clock)
    raise refusals.not_acceptable(("application/json",))
