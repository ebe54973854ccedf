"""The columns in which the API server shows objects to people, for the kinds that this one knows columns of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import attrs

from inferencepool.lab.apiserver._resources import Document, Resource

__all__ = ["Column", "columns_of"]

_NONE = "<none>"
_MINUTE, _HOUR, _DAY = 60, 3600, 86400

#: Gives the value of a cell, of an object and the seconds since 1970.
_Cell: TypeAlias = Callable[[Document, float], Any]


@attrs.frozen
class Column:
    """
    One column.

    Attributes:
        name: What stands above it.
        cell: Its value, of an object and the time.
        type: Type of the value, as OpenAPI has it.
        priority: 0 for columns that are always shown, 1 for those of ``-o wide``.
    """

    name: str
    cell: _Cell
    type: str = "string"
    priority: int = 0

    @property
    def definition(self) -> Document:
        """How a table describes it."""
        shape = "name" if self.name == "Name" else ""
        return {
            "name": self.name,
            "type": self.type,
            "format": shape,
            "description": "",
            "priority": self.priority,
        }


def columns_of(resource: Resource) -> Sequence[Column]:
    """Give the columns of *resource*: name and age where no others are known."""
    between = _COLUMNS.get(resource.qualified_kind, ())
    wide = [column for column in between if column.priority]
    return [_NAME, *(column for column in between if not column.priority), _AGE, *wide]


def _at(*path: str, absent: Any = _NONE) -> _Cell:
    def find(document: Document, _: float) -> Any:
        found: Any = document
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return absent if found in (None, "") else found

    return find


def _age(document: Document, now: float) -> str:
    created = document["metadata"].get("creationTimestamp")
    if not created:
        return "<unknown>"
    begun = datetime.strptime(created, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    seconds = max(0, int(now - begun))
    if seconds < 2 * _MINUTE:
        return f"{seconds}s"
    if seconds < 10 * _MINUTE:
        minutes, rest = divmod(seconds, _MINUTE)
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if seconds < 3 * _HOUR:
        return f"{seconds // _MINUTE}m"
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR}h"
    return f"{seconds // _DAY}d"


def _statuses(pod: Document) -> list[Document]:
    return (pod.get("status") or {}).get("containerStatuses") or []


def _ready(pod: Document, _: float) -> str:
    containers = (pod.get("spec") or {}).get("containers") or []
    return f"{sum(bool(each.get('ready')) for each in _statuses(pod))}/{len(containers)}"


def _restarts(pod: Document, _: float) -> str:
    return str(sum(int(each.get("restartCount") or 0) for each in _statuses(pod)))


def _state(pod: Document, _: float) -> str:
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = pod.get("status") or {}
    for each in _statuses(pod):
        state = each.get("state") or {}
        reason = (state.get("waiting") or state.get("terminated") or {}).get("reason")
        if reason:
            return str(reason)
    return str(status.get("reason") or status.get("phase") or "Unknown")


def _ports(service: Document, _: float) -> str:
    ports = (service.get("spec") or {}).get("ports") or []
    return ",".join(f"{each.get('port')}/{each.get('protocol', 'TCP')}" for each in ports) or _NONE


def _count(name: str) -> _Cell:
    return lambda document, _: len(document.get(name) or {})


_NAME = Column("Name", _at("metadata", "name"))
_AGE = Column("Age", _age)
_POOL_OF = Column("Inference Pool", _at("spec", "poolRef", "name", absent=None))
_PRIORITY = Column("Priority", _at("spec", "priority", absent=None))
_COLUMNS: dict[str, tuple[Column, ...]] = {
    "Pod": (
        Column("Ready", _ready),
        Column("Status", _state),
        Column("Restarts", _restarts),
        Column("IP", _at("status", "podIP"), priority=1),
        Column("Node", _at("spec", "nodeName"), priority=1),
        Column("Nominated Node", _at("status", "nominatedNodeName"), priority=1),
        Column("Readiness Gates", _at("status", "readinessGates"), priority=1),
    ),
    "Namespace": (Column("Status", _at("status", "phase")),),
    "Service": (
        Column("Type", _at("spec", "type", absent="ClusterIP")),
        Column("Cluster-IP", _at("spec", "clusterIP")),
        Column("External-IP", _at("spec", "externalName")),
        Column("Port(s)", _ports),
    ),
    "ConfigMap": (Column("Data", _count("data"), "integer"),),
    "Secret": (Column("Type", _at("type", absent="Opaque")), Column("Data", _count("data"), "integer")),
    "Lease.coordination.k8s.io": (Column("Holder", _at("spec", "holderIdentity", absent="")),),
}
for _group in ("llm-d.ai", "inference.networking.x-k8s.io"):
    _COLUMNS[f"InferenceObjective.{_group}"] = (_POOL_OF, _PRIORITY)
    _COLUMNS[f"InferenceModelRewrite.{_group}"] = (_POOL_OF,)
