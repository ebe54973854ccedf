"""`InferenceObjective`: how important the requests are that name it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from inferencepool.model._meta import ObjectMeta, source_of
from inferencepool.model._schema import GROUP, KIND, Reader
from inferencepool.model._status import PENDING, Condition, read_conditions, to_conditions, to_dicts

__all__ = ["OBJECTIVE_VERSIONS", "InferenceObjective", "PoolReference"]

OBJECTIVE_VERSIONS = ("llm-d.ai/v1alpha2", "inference.networking.x-k8s.io/v1alpha2")

_POOL_GROUP = "inference.networking.k8s.io"


@attrs.frozen(kw_only=True)
class PoolReference:
    """
    The pool that an object belongs to, in the same namespace.

    Attributes:
        name: The pool's name.
        kind: Its kind.
        group: The kind's API group.
    """

    name: str
    kind: str = "InferencePool"
    group: str = _POOL_GROUP

    @classmethod
    def read(cls, spec: Reader) -> PoolReference:
        """Read the field ``poolRef`` of a spec; what is wrong is noted there."""
        reader = spec.child("poolRef", required=True)
        if reader is None:
            return cls(name="")
        group = reader.text("group", _POOL_GROUP, most=253, pattern=GROUP)
        reference = cls(
            name=reader.text("name", "", required=True, least=1, most=253) or "",
            kind=reader.text("kind", "InferencePool", least=1, most=63, pattern=KIND) or "InferencePool",
            group=_POOL_GROUP if group is None else group,
        )
        reader.done()
        return reference

    def to_dict(self) -> dict[str, Any]:
        """Give the document."""
        return {"group": self.group, "kind": self.kind, "name": self.name}


def read_status(root: Reader, default: Condition) -> tuple[Condition, ...]:
    """Read a status that holds conditions only."""
    status = root.child("status")
    if status is None:
        return ()
    conditions = read_conditions(status, (default,))
    status.done()
    return conditions


@attrs.frozen(kw_only=True)
class InferenceObjective:
    """
    How important the requests are that name it in ``x-llm-d-inference-objective``.

    Attributes:
        metadata: Metadata; requests name it by ``metadata.name``.
        pool_ref: The pool it belongs to.
        priority: Higher is more important, below 0 may be shed; None counts as 0.
        conditions: Status.
        api_version: The API group and version that it was read from.
    """

    metadata: ObjectMeta
    pool_ref: PoolReference
    priority: int | None = None
    conditions: tuple[Condition, ...] = attrs.field(default=(), converter=to_conditions)
    api_version: str = OBJECTIVE_VERSIONS[0]

    @classmethod
    def from_dict(
        cls, document: Mapping[str, Any], *, unknown: Literal["ignore", "error"] = "ignore"
    ) -> InferenceObjective:
        """
        Read an objective as the API server would take it.

        Raises:
            InvalidDocumentError: Something is wrong; it tells everything that is.
        """
        root = Reader.of(document)
        version = root.text("apiVersion", "", required=True, one_of=OBJECTIVE_VERSIONS) or ""
        root.text("kind", required=True, one_of=("InferenceObjective",))
        meta = ObjectMeta.read(root)
        spec = root.child("spec", required=True)
        pool, priority = PoolReference(name=""), None
        if spec is not None:
            pool = PoolReference.read(spec)
            priority = spec.whole("priority", low=-(2**31), high=2**31 - 1)
            spec.done()
        # The CRD's default condition has another type than the documented one.
        conditions = read_status(root, attrs.evolve(PENDING, type="Ready"))
        root.done()
        return root.finish(
            source_of("InferenceObjective", document),
            unknown,
            lambda: cls(metadata=meta, pool_ref=pool, priority=priority, conditions=conditions, api_version=version),
        )

    def to_dict(self) -> dict[str, Any]:
        """Give the document."""
        spec: dict[str, Any] = {"poolRef": self.pool_ref.to_dict()}
        if self.priority is not None:
            spec["priority"] = self.priority
        return with_status(self.api_version, "InferenceObjective", self.metadata, spec, self.conditions)


def with_status(
    version: str, kind: str, metadata: ObjectMeta, spec: Mapping[str, Any], conditions: tuple[Condition, ...]
) -> dict[str, Any]:
    """Put a document together whose status holds conditions only."""
    document = {"apiVersion": version, "kind": kind, "metadata": metadata.to_dict(), "spec": spec}
    return {**document, "status": {"conditions": to_dicts(conditions)}} if conditions else document
