"""Pods, as far as routing needs to know them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model._address import canonical_address
from inferencepool.model._meta import ObjectMeta, source_of
from inferencepool.model._schema import Reader, quoted

__all__ = ["Pod"]

# Fields that Python clients rename in their dictionaries, by the part of the pod that they are in.
_RENAMED = {
    "": ("api_version",),
    "metadata": ("creation_timestamp", "deletion_timestamp", "owner_references", "resource_version", "managed_fields"),
    "spec": ("node_name", "restart_policy", "service_account_name"),
    "status": ("pod_ip", "pod_i_ps", "pod_ips", "host_ip", "container_statuses", "qos_class"),
}

_TEXTS = {str}
# That of a number of Kubernetes.
_MOST_RESTARTS = (1 << 31) - 1


def _to_ip(ip: str | None) -> str | None:
    if not ip:
        return None
    given: object = ip
    address = canonical_address(given) if isinstance(given, str) else None
    if address is None:
        raise InvalidDocumentError([Issue("status.podIP", f"{quoted(given)} is not an IP address", given)], "Pod")
    return address


def _to_ips(ips: Iterable[str]) -> tuple[str, ...]:
    given: object = ips
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidDocumentError([Issue("status.podIPs", f"{quoted(given)} is not a list", given)], "Pod")
    return tuple(filter(None, map(_to_ip, ips)))


def _to_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    given: object = labels
    if not isinstance(given, Mapping):
        raise InvalidDocumentError([Issue("metadata", f"{quoted(given)} is not an object of labels", given)], "Pod")
    # Nearly always: looked at without a loop of Python's, because every event of a watch comes by.
    if {*map(type, given), *map(type, given.values())} <= _TEXTS:
        return labels
    for key, value in given.items():
        if not isinstance(key, str) or not isinstance(value, str):
            issue = Issue(f"metadata[{key!r}]", f"{quoted(key)}: {quoted(value)} is not a string with a string", value)
            raise InvalidDocumentError([issue], "Pod")
    return labels


@attrs.frozen(kw_only=True)
class Pod:
    """
    One pod.

    Attributes:
        name: The pod's name.
        namespace: Its namespace.
        uid: Tells the pod from a later one of the same name.
        labels: Labels.
        annotations: Annotations.
        ip: Its IP address, in canonical spelling; None while it has none.
        ips: All its IP addresses.
        host_ip: Address of the node that it runs on.
        ready: Whether its first condition of type ``Ready`` has the status ``True``.
        phase: Its phase, such as ``Running``; empty where it is not told.
        deletion_timestamp: Since when it is being deleted; None when it is not.
        restarts: How often its containers were restarted, all together: what they had cached was lost then.
        resource_version: An opaque text; no order can be read from it.

    Raises:
        InvalidDocumentError: An address is none, or labels or annotations are not strings with strings.
    """

    name: str
    namespace: str = "default"
    uid: str = ""
    labels: Mapping[str, str] = attrs.field(factory=dict, converter=_to_labels, hash=False)
    annotations: Mapping[str, str] = attrs.field(factory=dict, converter=_to_labels, hash=False)
    ip: str | None = attrs.field(default=None, converter=_to_ip)
    ips: tuple[str, ...] = attrs.field(default=(), converter=_to_ips)
    host_ip: str | None = attrs.field(default=None, converter=_to_ip)
    ready: bool = False
    phase: str = ""
    deletion_timestamp: str | None = None
    restarts: int = 0
    resource_version: str = attrs.field(default="", eq=False)

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return (self.namespace, self.name)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Pod:
        """
        Read a pod in the shape of ``kubectl get pod -o yaml``. What routing does not need is not looked at.

        Objects of Python clients become such documents with ``ApiClient().sanitize_for_serialization(pod)``
        (kubernetes, kubernetes_asyncio) or ``pod.to_dict()`` (lightkube).

        Raises:
            InvalidDocumentError: A part that is needed is malformed; it tells everything that is.
        """
        root = Reader.of(document)
        if (renamed := _renamed(document)) is not None:
            raise InvalidDocumentError([renamed], "Pod")
        # Both are absent in what some clients hand over; where they are there they must be right.
        root.text("apiVersion", one_of=("v1",))
        root.text("kind", one_of=("Pod",))
        meta = ObjectMeta.read(root)
        status = root.child("status")
        ip: str | None = None
        ips: tuple[str, ...] = ()
        host_ip: str | None = None
        ready = False
        phase = ""
        restarts = 0
        if status is not None:
            ips = tuple(filter(None, (_read_ip(item, "ip") for item in status.items("podIPs") or [])))
            ip = _read_ip(status, "podIP") or (ips[0] if ips else None)
            host_ip = _read_ip(status, "hostIP")
            ready = _read_ready(status.items("conditions") or [])
            phase = status.text("phase") or ""
            containers = status.items("containerStatuses") or []
            restarts = sum(each.whole("restartCount", low=0, high=_MOST_RESTARTS) or 0 for each in containers)
        return root.finish(
            source_of("Pod", document),
            "ignore",
            lambda: cls(
                name=meta.name,
                namespace=meta.namespace,
                uid=meta.uid,
                labels=meta.labels,
                annotations=meta.annotations,
                ip=ip,
                ips=ips or ((ip,) if ip else ()),
                host_ip=host_ip,
                ready=ready,
                phase=phase,
                deletion_timestamp=meta.deletion_timestamp,
                restarts=restarts,
                resource_version=meta.resource_version,
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """Give a document from which `from_dict` reads the same pod."""
        metadata = ObjectMeta(
            name=self.name,
            namespace=self.namespace,
            uid=self.uid,
            labels=self.labels,
            annotations=self.annotations,
            deletion_timestamp=self.deletion_timestamp,
            other={"resourceVersion": self.resource_version} if self.resource_version else {},
        )
        status: dict[str, Any] = {"conditions": [{"type": "Ready", "status": "True" if self.ready else "False"}]}
        if self.phase:
            status["phase"] = self.phase
        if self.restarts:
            status["containerStatuses"] = [{"restartCount": self.restarts}]
        if self.ip:
            status["podIP"] = self.ip
        if self.ips:
            status["podIPs"] = [{"ip": ip} for ip in self.ips]
        if self.host_ip:
            status["hostIP"] = self.host_ip
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata.to_dict(), "status": status}


def _renamed(document: Mapping[str, Any]) -> Issue | None:
    """Find a field by the name that only the dictionary of a Python client gives it."""
    for part, names in _RENAMED.items():
        fields = document.get(part) if part else document
        name = next((name for name in names if name in fields), None) if isinstance(fields, Mapping) else None
        if name is not None:
            path = f"{part}.{name}" if part else name
            reason = "is what a Python client calls a field of the API: give Pod.from_dict what the client's "
            return Issue(path, f"{reason}ApiClient().sanitize_for_serialization(pod) gives, not its pod.to_dict()")
    return None


def _read_ip(reader: Reader, name: str) -> str | None:
    text = reader.text(name)
    if not text:
        return None
    address = canonical_address(text)
    if address is None:
        reader.wrong(name, f"{quoted(text)} is not an IP address", text)
    return address


def _read_ready(conditions: Sequence[Reader]) -> bool:
    # All are read, so that a malformed one is noted; the first that is called Ready decides.
    pairs = [(item.text("type", required=True), item.text("status", required=True)) for item in conditions]
    return next((status == "True" for kind, status in pairs if kind == "Ready"), False)
