"""Status of the API's objects: conditions, and what each parent says of a pool."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from enum import StrEnum
from typing import Any

import attrs

from inferencepool.model._schema import CONDITION_TYPE, DNS_LABEL, DOMAIN_PATH, GROUP, KIND, REASON, Reader, quoted

__all__ = [
    "PENDING",
    "Condition",
    "ConditionReason",
    "ConditionType",
    "InferencePoolStatus",
    "ParentReference",
    "ParentStatus",
]

GATEWAY_GROUP = "gateway.networking.k8s.io"

# What the API server takes as `format: date-time`; Python's own reader takes more shapes than RFC 3339 has.
_TIME = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
    r"([Zz]|[-+][0-9]{2}:[0-9]{2})"
)


class ConditionType(StrEnum):
    """The types of conditions that the API defines; a status may hold others."""

    ACCEPTED = "Accepted"
    RESOLVED_REFS = "ResolvedRefs"
    EXPORTED = "Exported"


class ConditionReason(StrEnum):
    """The reasons that the API defines for these types; a status may hold others."""

    # Of `Accepted`: the first is its True, `Pending` its Unknown, the others its False.
    ACCEPTED = "Accepted"
    NOT_SUPPORTED_BY_PARENT = "NotSupportedByParent"
    HTTP_ROUTE_NOT_ACCEPTED = "HTTPRouteNotAccepted"
    ENDPOINT_PICKER_REF_MISSING = "EndpointPickerRefMissing"
    PENDING = "Pending"
    # Of `ResolvedRefs`: its True and its False.
    RESOLVED_REFS = "ResolvedRefs"
    INVALID_EXTENSION_REF = "InvalidExtensionRef"
    # Of `Exported`: its True, its False on purpose, and its False because nobody can.
    EXPORTED = "Exported"
    NOT_REQUESTED = "NotRequested"
    NOT_SUPPORTED = "NotSupported"


@attrs.frozen(kw_only=True)
class Condition:
    """
    One condition of a status.

    Attributes:
        type: What it is about, such as ``Accepted`` or ``ResolvedRefs``.
        status: ``True``, ``False`` or ``Unknown``.
        reason: Why, in one word.
        message: Why, for people.
        last_transition_time: Since when, as RFC 3339 text.
        observed_generation: The generation of the object that was judged.
    """

    type: str
    status: str
    reason: str
    message: str = ""
    last_transition_time: str = "1970-01-01T00:00:00Z"
    observed_generation: int | None = None

    @classmethod
    def read(cls, reader: Reader) -> Condition:
        """Read one condition; what is wrong is noted in *reader*."""
        condition = cls(
            type=reader.text("type", "", required=True, most=316, pattern=CONDITION_TYPE) or "",
            status=reader.text("status", "", required=True, one_of=("True", "False", "Unknown")) or "",
            reason=reader.text("reason", "", required=True, least=1, most=1024, pattern=REASON) or "",
            message=reader.text("message", "", required=True, most=32768) or "",
            last_transition_time=read_time(reader, "lastTransitionTime", required=True) or "",
            observed_generation=reader.whole("observedGeneration", low=0, high=2**63 - 1),
        )
        reader.done()
        return condition

    def to_dict(self) -> dict[str, Any]:
        """Give the document."""
        document: dict[str, Any] = {
            # Plain texts, where constants were given: writers of YAML take no enumerations.
            "type": _plain(self.type),
            "status": self.status,
            "reason": _plain(self.reason),
            "message": self.message,
            "lastTransitionTime": self.last_transition_time,
        }
        if self.observed_generation is not None:
            document["observedGeneration"] = self.observed_generation
        return document


def _plain(value: str) -> str:
    return value.value if isinstance(value, StrEnum) else value


PENDING = Condition(type="Accepted", status="Unknown", reason="Pending", message="Waiting for controller")
"""The condition that an object has before any controller looked at it."""


def read_time(reader: Reader, name: str, *, required: bool = False) -> str | None:
    """Read a time of RFC 3339; what is wrong is noted in *reader*."""
    text = reader.text(name, required=required)
    if text is not None and not _is_time(text):
        reader.wrong(name, f"{quoted(text)} is not a time of RFC 3339, such as 2026-01-31T12:00:00Z", text)
    return text


def _is_time(text: str) -> bool:
    found = _TIME.fullmatch(text)
    if found is None:
        return False
    try:
        date.fromisoformat(found["day"])
    except ValueError:
        return False
    return True


def to_conditions(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """Freeze conditions."""
    return tuple(conditions)


def read_conditions(reader: Reader, default: tuple[Condition, ...] = ()) -> tuple[Condition, ...]:
    """Read the field ``conditions``: at most 8, one of each type."""
    items = reader.items("conditions", most=8)
    if items is None:
        return default
    reader.unique(items, "type")
    return tuple(map(Condition.read, items))


@attrs.frozen(kw_only=True)
class ParentReference:
    """
    The Gateway (or another parent) that a pool is used by.

    Attributes:
        name: Its name.
        namespace: Its namespace; None for that of the pool.
        kind: Its kind.
        group: The kind's API group.
    """

    name: str
    namespace: str | None = None
    kind: str = "Gateway"
    group: str = GATEWAY_GROUP

    @classmethod
    def read(cls, reader: Reader) -> ParentReference:
        """Read one reference; what is wrong is noted in *reader*."""
        group = reader.text("group", GATEWAY_GROUP, most=253, pattern=GROUP)
        reference = cls(
            name=reader.text("name", "", required=True, least=1, most=253) or "",
            namespace=reader.text("namespace", least=1, most=63, pattern=DNS_LABEL),
            kind=reader.text("kind", "Gateway", least=1, most=63, pattern=KIND) or "Gateway",
            group=GATEWAY_GROUP if group is None else group,
        )
        reader.done()
        return reference

    def to_dict(self) -> dict[str, Any]:
        """Give the document."""
        document = {"group": self.group, "kind": self.kind, "name": self.name}
        return document if self.namespace is None else {**document, "namespace": self.namespace}


@attrs.frozen(kw_only=True)
class ParentStatus:
    """
    What one parent says of a pool.

    Attributes:
        parent_ref: The parent.
        controller_name: The controller that wrote this entry, ``domain/path``; None where it does not say.
        conditions: What it found.
    """

    parent_ref: ParentReference
    controller_name: str | None = None
    conditions: tuple[Condition, ...] = attrs.field(default=(), converter=to_conditions)

    @classmethod
    def read(cls, reader: Reader, default: tuple[Condition, ...] = (), *, named: bool = True) -> ParentStatus:
        """Read one entry; *named* says whether it may have a ``controllerName``."""
        reference = reader.child("parentRef", required=True)
        controller = reader.text("controllerName", least=1, most=253, pattern=DOMAIN_PATH) if named else None
        status = cls(
            parent_ref=ParentReference(name="") if reference is None else ParentReference.read(reference),
            controller_name=controller,
            conditions=read_conditions(reader, default),
        )
        reader.done()
        return status

    def to_dict(self) -> dict[str, Any]:
        """Give the document."""
        document: dict[str, Any] = {"parentRef": self.parent_ref.to_dict()}
        if self.controller_name is not None:
            document["controllerName"] = self.controller_name
        if self.conditions:
            document["conditions"] = to_dicts(self.conditions)
        return document


def to_parents(parents: Iterable[ParentStatus]) -> tuple[ParentStatus, ...]:
    """Freeze what parents say."""
    return tuple(parents)


@attrs.frozen
class InferencePoolStatus:
    """
    Status of a pool.

    Attributes:
        parents: What each parent says of it; empty while none uses it.
    """

    parents: tuple[ParentStatus, ...] = attrs.field(default=(), converter=to_parents)

    @classmethod
    def read(cls, reader: Reader) -> InferencePoolStatus:
        """Read the status of a v1 pool; what is wrong is noted in *reader*."""
        parents = reader.items("parents", most=32) or []
        status = cls(map(ParentStatus.read, parents))
        reader.done()
        return status

    def to_dict(self) -> dict[str, Any]:
        """Give the document."""
        return {"parents": to_dicts(self.parents)} if self.parents else {}


def to_dicts(values: Iterable[Any]) -> list[Mapping[str, Any]]:
    """Give the documents of several values."""
    return [value.to_dict() for value in values]
