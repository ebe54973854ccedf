"""The reference from a pool to its Endpoint Picker."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import attrs

from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model._schema import GROUP, KIND, MAX_PORT, Reader, check_text, quoted

__all__ = ["EndpointPickerRef", "FailureMode", "check_picker", "read_referent"]

_PORT_NEEDED = "port is required when kind is 'Service' or unspecified (defaults to 'Service')"


class FailureMode(StrEnum):
    """What a gateway does with a request when the Endpoint Picker does not answer: forward it anyhow, or drop it."""

    FAIL_OPEN = "FailOpen"
    FAIL_CLOSE = "FailClose"


def _to_mode(mode: str) -> FailureMode:
    try:
        return FailureMode(mode)
    except ValueError:
        issue = Issue("failureMode", f"{quoted(mode)} is not one of {', '.join(FailureMode)}", mode)
        raise InvalidDocumentError([issue], "endpoint picker reference") from None


@attrs.frozen(kw_only=True)
class EndpointPickerRef:
    """
    The Endpoint Picker of a pool.

    Attributes:
        name: Name of the Service (or another kind) that it runs behind.
        port: The *service* port; needed for a Service.
        kind: Kind of the referent.
        group: The kind's API group; empty for the core group.
        failure_mode: What a gateway does when it does not answer.
    """

    name: str
    port: int | None = None
    kind: str = "Service"
    group: str = ""
    failure_mode: FailureMode = attrs.field(default=FailureMode.FAIL_CLOSE, converter=_to_mode)

    @classmethod
    def read(cls, reader: Reader) -> EndpointPickerRef:
        """Read a reference of v1; what is wrong is noted in *reader*."""
        port = reader.child("port")
        number = None
        if port is not None:
            number = port.whole("number", low=1, high=MAX_PORT, required=True)
            port.done()
        reference = cls(port=number, **read_referent(reader))
        # The rule is applied to the kind that is written, not to the stand-in for a wrong one.
        if reader.get("port") is None and reader.get("kind") in (None, "Service"):
            reader.wrong("", _PORT_NEEDED)
        reader.done()
        return reference

    def to_dict(self) -> dict[str, Any]:
        """Give the document of v1."""
        document: dict[str, Any] = {"group": self.group, "kind": self.kind, "name": self.name}
        if self.port is not None:
            document["port"] = {"number": self.port}
        return {**document, "failureMode": str(self.failure_mode)}


def read_referent(reader: Reader) -> dict[str, Any]:
    """Read what references of v1 and v1alpha2 have in common."""
    mode = reader.text("failureMode", FailureMode.FAIL_CLOSE, one_of=[*FailureMode])
    return {
        "group": reader.text("group", "", most=253, pattern=GROUP) or "",
        "kind": reader.text("kind", "Service", least=1, most=63, pattern=KIND) or "Service",
        "name": reader.text("name", "", required=True, least=1, most=253) or "",
        "failure_mode": FailureMode(mode or FailureMode.FAIL_CLOSE),
    }


def check_picker(picker: EndpointPickerRef | None) -> list[Issue]:
    """Apply the rules for a picker to one that was given by hand; v1alpha2 allows it to have no port."""
    if picker is None:
        return []
    issues = [
        Issue(f"spec.endpointPickerRef.{field}", wrong, value)
        for field, value, least, most, pattern in (
            ("group", picker.group, 0, 253, GROUP),
            ("kind", picker.kind, 1, 63, KIND),
            ("name", picker.name, 1, 253, None),
        )
        if (wrong := check_text(value, least=least, most=most, pattern=pattern))
    ]
    port = picker.port
    if port is not None and (type(port) is not int or not 1 <= port <= MAX_PORT):
        issues.append(Issue("spec.endpointPickerRef.port.number", f"{quoted(port)} is not in 1 to {MAX_PORT}", port))
    return issues
