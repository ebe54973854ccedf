"""Leases (``coordination.k8s.io/v1``): who holds one, and since when."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from inferencepool.errors import ConfigurationError

__all__ = ["Lease", "LeaseName", "read_lease"]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST_NAME = 253


@attrs.frozen
class LeaseName:
    """
    Names a lease.

    Attributes:
        name: Its name.
        namespace: Its namespace.

    Raises:
        ConfigurationError: No object can have that name.
    """

    name: str
    namespace: str

    def __attrs_post_init__(self) -> None:
        if len(self.name) > _LONGEST_NAME or not _NAME.fullmatch(self.name):
            message = f"lease: name: {self.name!r} is not a DNS subdomain of at most {_LONGEST_NAME} characters"
            raise ConfigurationError(message)

    @classmethod
    def of_pool(cls, pool: str, namespace: str) -> LeaseName:
        """Give the lease for which the endpoint pickers of a pool compete, as the reference picker names it."""
        return cls(f"epp-{namespace}-{pool}.llm-d.ai", namespace)

    @property
    def collection(self) -> str:
        """The path of all leases of the namespace."""
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"

    @property
    def path(self) -> str:
        """The path of the lease."""
        return f"{self.collection}/{self.name}"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@attrs.frozen(kw_only=True)
class Lease:
    """
    A lease as the API server has it.

    Attributes:
        metadata: Its metadata.
        holder: Who holds it; empty for nobody.
        duration: Seconds after which it may be taken from a holder who does not renew it.
        transitions: How often it went from one holder to another.
        acquired: When its holder got it, by the holder's clock.
        renewed: When its holder renewed it, by the holder's clock; compared with itself only.
        other: All other fields of its spec.
    """

    metadata: Mapping[str, Any] = attrs.field(factory=dict, eq=False)
    holder: str = ""
    duration: int = 0
    transitions: int = 0
    acquired: str | None = None
    renewed: str | None = None
    other: Mapping[str, Any] = attrs.field(factory=dict, eq=False)

    @property
    def resource_version(self) -> str:
        """Its version, an opaque text; empty where the API server has no such lease."""
        return str(self.metadata.get("resourceVersion", ""))

    def gone(self) -> Lease:
        """Give what is left to know of it when somebody deleted it: who may still believe to hold it."""
        return attrs.evolve(self, metadata={})

    def taken(self, holder: str, duration: int, now: datetime) -> Lease:
        """Give it as *holder* takes or renews it."""
        acquired, transitions = self.acquired, self.transitions
        if self.holder != holder:
            acquired = format_time(now)
            # A lease that was just created went from nobody to somebody, which does not count.
            transitions += bool(self.resource_version)
        return attrs.evolve(
            self,
            holder=holder,
            duration=duration,
            transitions=transitions,
            acquired=acquired or format_time(now),
            renewed=format_time(now),
        )

    def released(self, now: datetime) -> Lease:
        """Give it as its holder gives it up: held by nobody, and free at once."""
        text = format_time(now)
        return attrs.evolve(self, holder="", duration=1, acquired=text, renewed=text)

    def to_dict(self, name: LeaseName) -> dict[str, Any]:
        """Give the document of the lease called *name*."""
        spec: dict[str, Any] = {
            **self.other,
            "holderIdentity": self.holder,
            "leaseDurationSeconds": self.duration,
            "leaseTransitions": self.transitions,
            "acquireTime": self.acquired,
            "renewTime": self.renewed,
        }
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {**self.metadata, "name": name.name, "namespace": name.namespace},
            "spec": {name: value for name, value in spec.items() if value is not None},
        }


def format_time(moment: datetime) -> str:
    """Give a moment as the API has it in leases, with six digits behind the point: others it cannot read."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


_KNOWN = ("acquireTime", "holderIdentity", "leaseDurationSeconds", "leaseTransitions", "renewTime")


def read_lease(document: object) -> Lease:
    """
    Read a lease, given as JSON text or as what JSON has. Fields that make no sense count as absent.

    Raises:
        ValueError: It is no lease at all.
    """
    found = json.loads(document) if isinstance(document, bytes | str) else document
    metadata = found.get("metadata") if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or not isinstance(metadata, Mapping) or not metadata.get("resourceVersion"):
        message = "the answer is not a lease"
        raise ValueError(message)
    spec = found.get("spec")
    spec = spec if isinstance(spec, Mapping) else {}
    return Lease(
        metadata=metadata,
        holder=_text(spec, "holderIdentity") or "",
        duration=_whole(spec, "leaseDurationSeconds"),
        transitions=_whole(spec, "leaseTransitions"),
        acquired=_text(spec, "acquireTime"),
        renewed=_text(spec, "renewTime"),
        other={name: value for name, value in spec.items() if name not in _KNOWN},
    )


def _text(spec: Mapping[str, Any], name: str) -> str | None:
    value = spec.get(name)
    return value if isinstance(value, str) else None


def _whole(spec: Mapping[str, Any], name: str) -> int:
    value = spec.get(name)
    return value if type(value) is int and value >= 0 else 0
