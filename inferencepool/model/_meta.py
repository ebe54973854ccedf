"""What all objects of the API have: a name, labels, and who they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from inferencepool.model._kept_fields import read_kept_fields
from inferencepool.model._schema import DNS_LABEL, DNS_SUBDOMAIN, Reader, quoted, to_whole

__all__ = ["ObjectMeta"]

_FIELDS = (
    "name",
    "namespace",
    "uid",
    "labels",
    "annotations",
    "creationTimestamp",
    "deletionTimestamp",
)
_MOST_ANNOTATED = 256 * 1024
# As Go reads it: the letters T and Z are capitals, an hour may have one digit, and offsets end at 24 hours, 60 minutes.
_TIME = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})T([01]?[0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.,][0-9]+)?"
    r"(Z|[-+]([01][0-9]|2[0-4]):([0-5][0-9]|60))"
)


@attrs.frozen(kw_only=True)
class ObjectMeta:
    """
    Metadata of an object.

    Attributes:
        name: The object's name.
        namespace: Its namespace.
        uid: Tells the object from a later one of the same name.
        labels: Labels.
        annotations: Annotations.
        creation_timestamp: When it was created, as RFC 3339 text.
        deletion_timestamp: Since when it is being deleted; None when it is not.
        other: All other fields, such as ``resourceVersion`` or ``managedFields``, as they were read.
    """

    name: str
    namespace: str = "default"
    uid: str = ""
    labels: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    annotations: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    other: Mapping[str, Any] = attrs.field(factory=dict, hash=False, repr=False)

    @property
    def resource_version(self) -> str:
        """Version of the object, an opaque text from which no order can be read; empty where there is none."""
        version = self.other.get("resourceVersion")
        return version if isinstance(version, str) else ""

    @property
    def generation(self) -> int | None:
        """Count of the changes to the spec; None where there is none."""
        return to_whole(self.other.get("generation"))

    @classmethod
    def read(cls, root: Reader) -> ObjectMeta:
        """Read the ``metadata`` of a document; what is wrong is noted in *root*."""
        reader = root.child("metadata", required=True)
        if reader is None:
            return cls(name="")
        meta = cls(
            name=_read_name(reader),
            namespace=reader.text("namespace", "default", least=1, most=63, pattern=DNS_LABEL) or "default",
            uid=reader.text("uid", "") or "",
            labels=reader.labels("labels", nulls=True) or {},
            annotations=_read_annotations(reader),
            creation_timestamp=reader.time("creationTimestamp", _TIME),
            deletion_timestamp=reader.time("deletionTimestamp", _TIME),
            other={name: value for name, value in reader.document.items() if name not in _FIELDS},
        )
        read_kept_fields(reader, core=root.document.get("apiVersion", "v1") == "v1")
        reader.done()
        return meta

    def to_dict(self) -> dict[str, Any]:
        """Give the document."""
        document: dict[str, Any] = {"name": self.name, "namespace": self.namespace}
        optional = {
            "uid": self.uid,
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "creationTimestamp": self.creation_timestamp,
            "deletionTimestamp": self.deletion_timestamp,
        }
        document.update({name: value for name, value in optional.items() if value not in ("", None, {})})
        document.update(self.other)
        return document


def _read_name(reader: Reader) -> str:
    name = reader.text("name", "", least=1, most=253, pattern=DNS_SUBDOMAIN) or ""
    if reader.get("name") is None:
        hint = ": what has a generateName alone gets its name when it is created" if reader.get("generateName") else ""
        reader.wrong("name", f"is required{hint}")
    return name


def _read_annotations(reader: Reader) -> dict[str, str]:
    annotations = reader.labels("annotations", values=False, nulls=True) or {}
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > _MOST_ANNOTATED:
        reader.wrong("annotations", f"has {size} bytes of keys and values, allowed are at most {_MOST_ANNOTATED}")
    return annotations


def source_of(kind: str, document: Mapping[str, Any]) -> str:
    """Name a document in errors: ``InferencePool default/llama``."""
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping):
        return kind
    name, namespace = metadata.get("name"), metadata.get("namespace") or "default"
    if not isinstance(name, str) or not isinstance(namespace, str):
        return kind
    return f"{kind} {quoted(namespace)[1:-1]}/{quoted(name)[1:-1]}"
