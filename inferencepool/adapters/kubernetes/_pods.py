"""Pods as an API server gives them: the values of `Pod.from_dict` in a tenth of its time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import attrs

from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model import Pod, canonical_address
from inferencepool.selection import ACTIVE_PORTS_ANNOTATIONS

__all__ = ["read_pod"]

# Far more than any pod has.
_MAX_LABELS = _MAX_CONDITIONS = _MAX_CONTAINERS = 1000
_MAX_IPS = 16
_MOST_RESTARTS = (1 << 31) - 1
_MOST = (
    ("metadata.labels", True, "labels", _MAX_LABELS),
    ("status.conditions", False, "conditions", _MAX_CONDITIONS),
    ("status.podIPs", False, "podIPs", _MAX_IPS),
    ("status.containerStatuses", False, "containerStatuses", _MAX_CONTAINERS),
)
_MAX_ANNOTATION = 1024
# Characters of an address that is looked at here, at most; of a longer one `Pod.from_dict` knows what to say.
_MAX_ADDRESS = 64
# A pod is told again with each change, and pods of a node share one address; reading one is half the cost of a pod.
_canonical = lru_cache(maxsize=4096)(canonical_address)


def read_pod(document: Mapping[str, Any]) -> Pod:
    """
    Read a pod that an API server gave, in the shape of ``kubectl get pod -o json``.

    It is `Pod.from_dict` for documents that were validated already: the spelling of names, labels and times is not
    looked at again, and of the annotations those alone are kept that routing needs. Everything else that is not as it
    should be is refused as there.

    Raises:
        InvalidDocumentError: A part that is needed is malformed; it tells everything that is. Or the pod has more
            labels, conditions, containers or addresses than any has, or an annotation that is kept is longer than
            allowed.
    """
    try:
        return _read_plain(document)
    except (AttributeError, KeyError, TypeError, ValueError):
        # Something is unusual. Whether it is wrong, and what to say of it, is known there.
        _check_sizes(document)
        pod = Pod.from_dict(document)
        return attrs.evolve(pod, annotations=_read_annotations(pod.annotations))


def _check_sizes(document: object) -> None:
    """Refuse what would take long to read, or much to keep."""
    found: dict[str, Any] = document if isinstance(document, dict) else {}
    metadata, status = found.get("metadata"), found.get("status")
    metadata = metadata if isinstance(metadata, dict) else {}
    status = status if isinstance(status, dict) else {}
    for where, parent, name, most in _MOST:
        parts = (metadata if parent else status).get(name)
        if parts is not None and isinstance(parts, (dict, list)) and len(parts) > most:
            raise InvalidDocumentError([Issue(where, f"has {len(parts)} entries, allowed are {most}")])
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict):
        for name in ACTIVE_PORTS_ANNOTATIONS:
            value = annotations.get(name)
            if isinstance(value, str) and len(value) > _MAX_ANNOTATION:
                field = f"metadata.annotations[{name}]"
                raise InvalidDocumentError(
                    [Issue(field, f"has {len(value)} characters, allowed are {_MAX_ANNOTATION}")]
                )


def _read_plain(document: Mapping[str, Any]) -> Pod:
    """Read a pod in which everything that is looked at has the type it has nearly always; raise otherwise."""
    if document.get("kind", "Pod") != "Pod" or document.get("apiVersion", "v1") != "v1":
        raise ValueError
    metadata = document["metadata"]
    annotations = metadata.get("annotations")
    status = document.get("status")
    if status is None:
        status = {}
    ip = _optional_text(status, "podIP")
    ips = _read_ips(status.get("podIPs"), ip)
    host_ip = _optional_text(status, "hostIP")
    return Pod(
        name=_text(metadata["name"]),
        namespace=_text(metadata["namespace"]),
        uid=_optional_text(metadata, "uid") or "",
        labels=_read_labels(metadata.get("labels")),
        annotations={} if annotations is None else _read_annotations(annotations),
        ip=ips[0] if ips and (not ip or ip == ips[0]) else _address(ip),
        ips=ips,
        host_ip=_address(host_ip),
        ready=_read_ready(status.get("conditions")),
        phase=_optional_text(status, "phase") or "",
        deletion_timestamp=_optional_text(metadata, "deletionTimestamp"),
        restarts=_read_restarts(status.get("containerStatuses")),
        resource_version=_optional_text(metadata, "resourceVersion") or "",
    )


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError
    return value


def _optional_text(parent: Mapping[str, Any], name: str) -> str | None:
    value = parent.get(name)
    return value if value is None else _text(value)


def _address(text: str | None) -> str | None:
    if not text:
        return None
    address = _canonical(text) if len(text) <= _MAX_ADDRESS else None
    if address is None:
        raise ValueError
    return address


def _read_ips(items: Any, ip: str | None) -> tuple[str, ...]:
    if items is None:
        items = ()
    elif type(items) is not list or len(items) > _MAX_IPS:
        raise TypeError
    found = [address for item in items if (address := _address(_optional_text(item, "ip")))]
    if not found and (address := _address(ip)):
        found.append(address)
    return tuple(found)


def _read_labels(labels: Any) -> Mapping[str, str]:
    if labels is None:
        return {}
    if len(labels) > _MAX_LABELS:
        raise ValueError
    for name, value in labels.items():
        if type(name) is not str or type(value) is not str:
            raise TypeError
    return labels  # type: ignore[no-any-return]  # looked at above


def _read_annotations(annotations: Mapping[str, Any]) -> Mapping[str, str]:
    kept = {name: _text(annotations[name]) for name in ACTIVE_PORTS_ANNOTATIONS if name in annotations}
    if kept and any(len(value) > _MAX_ANNOTATION for value in kept.values()):
        raise ValueError
    return kept


def _read_ready(conditions: Any) -> bool:
    """Read all conditions, so that a malformed one is noticed; the first that is called Ready decides."""
    if conditions is None:
        return False
    if type(conditions) is not list or len(conditions) > _MAX_CONDITIONS:
        raise TypeError
    ready: bool | None = None
    for condition in conditions:
        kind, status = _text(condition["type"]), _text(condition["status"])
        if ready is None and kind == "Ready":
            ready = status == "True"
    return bool(ready)


def _read_restarts(containers: Any) -> int:
    if containers is None:
        return 0
    if type(containers) is not list or len(containers) > _MAX_CONTAINERS:
        raise TypeError
    restarts = 0
    for container in containers:
        count = container.get("restartCount", 0)
        if type(count) is not int or not 0 <= count <= _MOST_RESTARTS:
            raise TypeError
        restarts += count
    return restarts
