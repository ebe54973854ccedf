"""`InferencePoolImport`: a pool that other clusters export. It has a status only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from inferencepool.model._meta import ObjectMeta, source_of
from inferencepool.model._schema import DOMAIN_PATH, Reader, to_texts
from inferencepool.model._status import Condition, ParentStatus, read_conditions, to_conditions, to_dicts, to_parents

__all__ = ["IMPORT_VERSION", "ImportController", "InferencePoolImport"]

IMPORT_VERSION = "inference.networking.x-k8s.io/v1alpha1"


@attrs.frozen(kw_only=True)
class ImportController:
    """
    What one controller says of the imported pool.

    Attributes:
        name: The controller, ``domain/path``.
        exporting_clusters: Names of the clusters that export the pool.
        parents: What its parents here say of it.
        conditions: What the controller found.
    """

    name: str
    exporting_clusters: tuple[str, ...] = attrs.field(default=(), converter=to_texts)
    parents: tuple[ParentStatus, ...] = attrs.field(default=(), converter=to_parents)
    conditions: tuple[Condition, ...] = attrs.field(default=(), converter=to_conditions)

    @classmethod
    def read(cls, reader: Reader) -> ImportController:
        """Read one entry; what is wrong is noted in *reader*."""
        name = reader.text("name", "", required=True, least=1, most=253, pattern=DOMAIN_PATH) or ""
        clusters = []
        for item in reader.items("exportingClusters") or []:
            clusters.append(item.text("name", "", required=True, least=1, most=253) or "")
            item.done()
        parents = list(map(ParentStatus.read, reader.items("parents") or []))
        controller = cls(name=name, exporting_clusters=clusters, parents=parents, conditions=read_conditions(reader))
        reader.done()
        return controller

    def to_dict(self) -> dict[str, Any]:
        """Give the document."""
        document: dict[str, Any] = {"name": self.name}
        if self.exporting_clusters:
            document["exportingClusters"] = [{"name": name} for name in self.exporting_clusters]
        if self.parents:
            document["parents"] = to_dicts(self.parents)
        if self.conditions:
            document["conditions"] = to_dicts(self.conditions)
        return document


@attrs.frozen(kw_only=True)
class InferencePoolImport:
    """
    A pool that other clusters export, of the same namespace and name there.

    Attributes:
        metadata: Metadata.
        controllers: What each controller says of it; None where there is no status yet.
    """

    metadata: ObjectMeta
    controllers: tuple[ImportController, ...] | None = None

    @classmethod
    def from_dict(
        cls, document: Mapping[str, Any], *, unknown: Literal["ignore", "error"] = "ignore"
    ) -> InferencePoolImport:
        """
        Read an import as the API server would take it.

        Raises:
            InvalidDocumentError: Something is wrong; it tells everything that is.
        """
        root = Reader.of(document)
        root.text("apiVersion", required=True, one_of=(IMPORT_VERSION,))
        root.text("kind", required=True, one_of=("InferencePoolImport",))
        meta = ObjectMeta.read(root)
        controllers = None
        status = root.child("status")
        if status is not None:
            items = status.items("controllers", required=True, most=8) or []
            status.unique(items, "name")
            controllers = tuple(map(ImportController.read, items))
            status.done()
        root.done()
        return root.finish(
            source_of("InferencePoolImport", document), unknown, lambda: cls(metadata=meta, controllers=controllers)
        )

    def to_dict(self) -> dict[str, Any]:
        """Give the document."""
        document = {"apiVersion": IMPORT_VERSION, "kind": "InferencePoolImport", "metadata": self.metadata.to_dict()}
        if self.controllers is None:
            return document
        return {**document, "status": {"controllers": to_dicts(self.controllers)}}
