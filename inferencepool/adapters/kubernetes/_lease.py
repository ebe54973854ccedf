"""Leases (``coordination.k8s.io/v1``): who holds one, and since when."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from inferencepool.errors import ConfigurationError

__all__ = ["MAX_LEASE", "Lease", "LeaseName", "is_lease", "read_lease"]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST_NAME = 253
#: Bytes of a lease, at most.
MAX_LEASE = 256 * 1024
#: Seconds for which a holder who does not renew a lease is believed, at most, whatever the lease says.
MAX_LEASE_DURATION = 3600
# Characters.
_MAX_HOLDER = 1024
_MAX_TIME = 64
_MAX_VERSION = 1024
# Whole numbers have 32 bits in leases.
_MAX_TRANSITIONS = 2**31 - 1


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
        oddities: What of it cannot be as it was given, and what counts instead.
    """

    metadata: Mapping[str, Any] = attrs.field(factory=dict, eq=False)
    holder: str = ""
    duration: int = 0
    transitions: int = 0
    acquired: str | None = None
    renewed: str | None = None
    other: Mapping[str, Any] = attrs.field(factory=dict, eq=False)
    oddities: tuple[str, ...] = attrs.field(default=(), eq=False)

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
            if transitions > _MAX_TRANSITIONS:
                # The server would refuse it, for ever.
                transitions = 0
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


def read_lease(document: object, wanted: LeaseName | None = None) -> Lease:
    """
    Read a lease, given as JSON text or as what JSON has.

    Fields that make no sense count as absent; those that are longer or greater than allowed are cut, and named in
    `Lease.oddities`.

    Raises:
        ValueError: It is no lease at all, is longer than `MAX_LEASE`, or is not the one that is *wanted*.
    """
    if isinstance(document, bytes | str):
        if len(document) > MAX_LEASE:
            message = f"the answer has more than {MAX_LEASE} bytes"
            raise ValueError(message)
        document = json.loads(document)
    metadata = document.get("metadata") if isinstance(document, Mapping) else None
    version = metadata.get("resourceVersion") if isinstance(metadata, Mapping) else None
    if (
        not isinstance(document, Mapping)
        or not isinstance(metadata, Mapping)
        or not isinstance(version, str)
        or not 0 < len(version) <= _MAX_VERSION
    ):
        message = "the answer is not a lease"
        raise ValueError(message)
    if wanted is not None and not is_lease(document, wanted):
        message = "the answer is another object"
        raise ValueError(message)
    spec = document.get("spec")
    spec = spec if isinstance(spec, Mapping) else {}
    oddities: list[str] = []
    return Lease(
        metadata=metadata,
        holder=_cut(_text(spec, "holderIdentity") or "", oddities),
        duration=_bounded(spec, "leaseDurationSeconds", MAX_LEASE_DURATION, oddities),
        transitions=_bounded(spec, "leaseTransitions", _MAX_TRANSITIONS, oddities),
        acquired=_time(spec, "acquireTime", oddities),
        renewed=_time(spec, "renewTime", oddities),
        other={name: value for name, value in spec.items() if name not in _KNOWN},
        oddities=tuple(oddities),
    )


def is_lease(document: Mapping[str, Any], wanted: LeaseName) -> bool:
    """Tell whether *document* is the lease that is *wanted*, as far as it says what it is."""
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    if document.get("kind", "Lease") != "Lease":
        return False
    own = metadata.get("name", wanted.name), metadata.get("namespace", wanted.namespace)
    return own == (wanted.name, wanted.namespace)


def _text(spec: Mapping[str, Any], name: str) -> str | None:
    value = spec.get(name)
    return value if isinstance(value, str) else None


def _cut(holder: str, oddities: list[str]) -> str:
    if len(holder) <= _MAX_HOLDER:
        return holder
    oddities.append(f"holderIdentity: has {len(holder)} characters, the first {_MAX_HOLDER} count")
    return holder[:_MAX_HOLDER]


def _time(spec: Mapping[str, Any], name: str, oddities: list[str]) -> str | None:
    text = _text(spec, name)
    if text is None or len(text) <= _MAX_TIME:
        return text
    oddities.append(f"{name}: has {len(text)} characters and counts as absent")
    return None


def _bounded(spec: Mapping[str, Any], name: str, greatest: int, oddities: list[str]) -> int:
    value = spec.get(name)
    if type(value) is not int:
        return 0
    bounded = min(max(value, 0), greatest)
    if bounded != value:
        shown = value if abs(value) < 10**20 else "a number of more than 20 digits"
        oddities.append(f"{name}: {shown} counts as {bounded}")
    return bounded
