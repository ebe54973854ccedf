"""`InferencePool`: which pods serve, on which ports, and who picks among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Literal

import attrs

from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model._meta import ObjectMeta, source_of
from inferencepool.model._mistaken import mistaken_version, outdated
from inferencepool.model._picker_ref import EndpointPickerRef, check_picker
from inferencepool.model._schema import (
    DNS_LABEL,
    DNS_SUBDOMAIN,
    MAX_PORT,
    Reader,
    check_labels,
    check_text,
    quoted,
)
from inferencepool.model._selector import LabelSelector
from inferencepool.model._status import InferencePoolStatus

__all__ = ["V1", "V1ALPHA2", "AppProtocol", "InferencePool", "TargetPort"]

V1 = "inference.networking.k8s.io/v1"
V1ALPHA2 = "inference.networking.x-k8s.io/v1alpha2"

_MAX_PORTS = 8
_PORT_TWICE = "port number must be unique"


class AppProtocol(StrEnum):
    """The protocol that all target ports speak."""

    HTTP = "http"
    H2C = "kubernetes.io/h2c"


@attrs.frozen
class TargetPort:
    """
    A port that the pool's pods serve on.

    Attributes:
        number: 1 to 65535.
    """

    number: int


def _to_selector(selector: Any) -> LabelSelector:
    if isinstance(selector, LabelSelector):
        return selector
    if isinstance(selector, str):
        return LabelSelector.parse(selector)
    if isinstance(selector, Mapping):
        return LabelSelector(selector)
    issue = Issue("spec.selector", f"{quoted(selector)} is no label selector", selector)
    raise InvalidDocumentError([issue], "InferencePool")


def _to_protocol(protocol: str) -> AppProtocol:
    try:
        return AppProtocol(protocol)
    except ValueError:
        issue = Issue("spec.appProtocol", f"{quoted(protocol)} is not one of {', '.join(AppProtocol)}", protocol)
        raise InvalidDocumentError([issue], "InferencePool") from None


def _to_ports(ports: Iterable[Any]) -> tuple[TargetPort, ...]:
    given: object = ports
    if isinstance(given, str) or not isinstance(given, Iterable):
        issue = Issue("spec.targetPorts", f"{quoted(given)} is not a list", given)
        raise InvalidDocumentError([issue], "InferencePool")
    return tuple(port if isinstance(port, TargetPort) else TargetPort(port) for port in ports)


@attrs.frozen(kw_only=True)
class InferencePool:
    """
    Which pods serve, on which ports, and who picks among them.

    Attributes:
        name: The pool's name.
        namespace: Its namespace; only pods of the same one are members.
        selector: Chooses the pods. A mapping of labels, or the text of ``kubectl -l``, is taken as well.
        target_ports: The ports, 1 to 8 of them; every port of every pod is an endpoint. Plain numbers are
            taken as well.
        app_protocol: What the ports speak.
        endpoint_picker_ref: The Endpoint Picker; None where the pool names none.
        status: What its parents say of it.
        metadata: All of its metadata; made from *name* and *namespace* where it is not given.

    Raises:
        InvalidDocumentError: A field holds what the API does not allow; it tells everything that is wrong.
    """

    name: str
    namespace: str = "default"
    selector: LabelSelector = attrs.field(converter=_to_selector)
    target_ports: tuple[TargetPort, ...] = attrs.field(converter=_to_ports)
    app_protocol: AppProtocol = attrs.field(default=AppProtocol.HTTP, converter=_to_protocol)
    endpoint_picker_ref: EndpointPickerRef | None = None
    status: InferencePoolStatus = attrs.field(factory=InferencePoolStatus)
    metadata: ObjectMeta = attrs.field(
        default=attrs.Factory(lambda self: ObjectMeta(name=self.name, namespace=self.namespace), takes_self=True),
        repr=False,
    )

    def __attrs_post_init__(self) -> None:
        if issues := _check_types(self):
            raise InvalidDocumentError(issues, "InferencePool")
        issues = [
            Issue(f"metadata.{field}", wrong, value)
            for field, value, most, pattern in (
                ("name", self.name, 253, DNS_SUBDOMAIN),
                ("namespace", self.namespace, 63, DNS_LABEL),
            )
            if (wrong := check_text(value, least=1, most=most, pattern=pattern))
        ]
        if (self.metadata.namespace, self.metadata.name) != (self.namespace, self.name):
            other = f"{self.metadata.namespace}/{self.metadata.name}"
            issues.append(Issue("metadata", f"names {quoted(other)}, not this pool", self.metadata))
        issues += check_labels(self.metadata.labels, "metadata.labels")
        issues += check_labels(self.metadata.annotations, "metadata.annotations", values=False)
        issues += _check_ports(self.target_ports)
        issues += check_picker(self.endpoint_picker_ref)
        status = Reader(self.status.to_dict(), "status")
        InferencePoolStatus.read(status)
        issues += status.issues
        if issues:
            raise InvalidDocumentError(issues, f"InferencePool {self.namespace}/{self.name}")

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], *, unknown: Literal["ignore", "error"] = "ignore") -> InferencePool:
        """
        Read a pool of v1 or v1alpha2 as the API server would take it, defaults filled in.

        A v1alpha2 pool is converted: its one port and its flat selector are those of v1, the placeholder parent that
        stands for no status is dropped, and a missing port of its picker stays missing.

        Args:
            document: The document.
            unknown: ``error`` to refuse fields that the API does not have.

        Raises:
            InvalidDocumentError: Something is wrong; it tells everything that is.
        """
        # Imported here, because the conversion needs this class.
        from inferencepool.model._conversion import read_v1alpha2  # noqa: PLC0415 - as said above

        root = Reader.of(document)
        if issue := outdated(document):
            raise InvalidDocumentError([issue], source_of("InferencePool", document))
        version = root.text("apiVersion", required=True, one_of=(V1, V1ALPHA2))
        root.text("kind", required=True, one_of=("InferencePool",))
        meta = ObjectMeta.read(root)
        read = read_v1alpha2 if version == V1ALPHA2 else _read_v1
        fields: dict[str, Any] = {}
        if version is not None and (mistake := mistaken_version(document, old=version == V1ALPHA2)):
            root.wrong("spec", mistake, root.get("spec"))
            root.get("status")
        elif version is not None:
            fields = read(root)
        root.done()
        return root.finish(
            source_of("InferencePool", document),
            unknown,
            lambda: cls(name=meta.name, namespace=meta.namespace, metadata=meta, **fields),
        )

    def to_dict(self, version: Literal["v1", "v1alpha2"] = "v1") -> dict[str, Any]:
        """
        Give the document.

        Raises:
            InvalidDocumentError: Neither version can express a selector with expressions, nor v1alpha2 a pool without
                a picker.
        """
        from inferencepool.model._conversion import to_v1alpha2  # noqa: PLC0415 - as in from_dict

        if version == "v1alpha2":
            return to_v1alpha2(self)
        if self.selector.match_expressions:
            issue = Issue("spec.selector.matchExpressions", "do not exist in v1", self.selector.match_expressions)
            raise InvalidDocumentError([issue], f"InferencePool {self.namespace}/{self.name}")
        spec: dict[str, Any] = {
            "selector": {"matchLabels": dict(self.selector.match_labels)},
            "targetPorts": [{"number": port.number} for port in self.target_ports],
            "appProtocol": str(self.app_protocol),
        }
        if self.endpoint_picker_ref is not None:
            spec["endpointPickerRef"] = self.endpoint_picker_ref.to_dict()
        document = {"apiVersion": V1, "kind": "InferencePool", "metadata": self.metadata.to_dict(), "spec": spec}
        status = self.status.to_dict()
        return {**document, "status": status} if status else document


def _check_types(pool: InferencePool) -> list[Issue]:
    """Look at the parts of a pool that was made by hand: the other checks rely on what they are."""
    picker = pool.endpoint_picker_ref
    parts: tuple[tuple[str, object, type], ...] = (
        ("metadata", pool.metadata, ObjectMeta),
        ("spec.endpointPickerRef", picker, EndpointPickerRef if picker is not None else object),
        ("status", pool.status, InferencePoolStatus),
    )
    return [
        Issue(field, f"{quoted(value)} is no {kind.__name__}", value)
        for field, value, kind in parts
        if not isinstance(value, kind)
    ]


def _check_ports(ports: tuple[TargetPort, ...]) -> list[Issue]:
    """Apply the rules for target ports to ports that were given by hand."""
    issues = []
    if not 1 <= len(ports) <= _MAX_PORTS:
        issues.append(Issue("spec.targetPorts", f"has {len(ports)} items, allowed are 1 to {_MAX_PORTS}", ports))
    for index, port in enumerate(ports):
        if type(port.number) is not int or not 1 <= port.number <= MAX_PORT:
            at = f"spec.targetPorts[{index}].number"
            issues.append(Issue(at, f"{quoted(port.number)} is not in 1 to {MAX_PORT}", port.number))
    numbers = [port.number for port in ports if type(port.number) is int]
    if len(set(numbers)) < len(numbers):
        issues.append(Issue("spec.targetPorts", _PORT_TWICE, ports))
    return issues


def _read_v1(root: Reader) -> dict[str, Any]:
    fields: dict[str, Any] = {"selector": LabelSelector(), "target_ports": ()}
    spec = root.child("spec", required=True)
    if spec is not None:
        selector = spec.child("selector", required=True)
        if selector is not None:
            fields["selector"] = read_labels(selector, "matchLabels", least=1, most=64)
            selector.done()
        fields["target_ports"] = _read_ports(spec)
        protocol = spec.text("appProtocol", AppProtocol.HTTP, one_of=[*AppProtocol])
        fields["app_protocol"] = AppProtocol(protocol or AppProtocol.HTTP)
        picker = spec.child("endpointPickerRef")
        if picker is not None:
            fields["endpoint_picker_ref"] = EndpointPickerRef.read(picker)
        spec.done()
    status = root.child("status")
    if status is not None:
        fields["status"] = InferencePoolStatus.read(status)
    return fields


def read_labels(reader: Reader, name: str, *, least: int = 0, most: int | None = None) -> LabelSelector:
    """Read an object of labels to match."""
    labels = reader.labels(name, required=True)
    if labels is None:
        return LabelSelector()
    count = len(reader.document[name])
    if count < least or (most is not None and count > most):
        reader.wrong(name, f"has {count} labels, allowed are {least} to {most}", reader.document[name])
    return LabelSelector(labels)


def _read_ports(spec: Reader) -> list[TargetPort]:
    items = spec.items("targetPorts", required=True, least=1, most=_MAX_PORTS) or []
    numbers = []
    for item in items:
        number = item.whole("number", low=1, high=MAX_PORT, required=True)
        if number is not None and isinstance(item.document["number"], float):
            # The rule that ports are unique compares integers, and fails for anything else.
            item.wrong("number", f"{item.document['number']!r} is not written as an integer, such as {number}", number)
        numbers.append(number)
        item.done()
    known = [number for number in numbers if number is not None]
    if len(set(known)) < len(known):
        spec.wrong("targetPorts", _PORT_TWICE, known)
    return [TargetPort(number) for number in known]
