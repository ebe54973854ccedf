"""One document in the other version of the API, and what the user should know about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import attrs

from inferencepool.cli._old_models import convert_model
from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model import InferencePool, parse_object, validate

__all__ = ["Converted", "convert_document"]

Version: TypeAlias = Literal["v1", "v1alpha2"]

_GROUP, _OLD_GROUP, _DEAD_GROUP = "inference.networking.k8s.io", "inference.networking.x-k8s.io", "inference.x-k8s.io"
_API = {"v1": f"{_GROUP}/v1", "v1alpha2": f"{_OLD_GROUP}/v1alpha2"}
_IMPLIED_PORT = 9002
# What a server wrote about the object of the other group; a new object may not have it.
_OF_SERVER = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_REFERRING = ("InferenceObjective", "InferenceModelRewrite")


@attrs.frozen
class Converted:
    """
    What became of one document.

    Attributes:
        documents: What it became; several for an InferenceModel, which two kinds replace.
        notes: What got lost, was filled in, or stays for the user to do.
    """

    documents: tuple[dict[str, Any], ...] = attrs.field(hash=False)
    notes: tuple[str, ...] = ()


def convert_document(document: Mapping[str, Any], to: Version) -> Converted:
    """
    Write *document* for the version *to* of InferencePool.

    A pool is converted whatever version it says and is written in. The references of objectives and rewrites follow
    their pool's group. All other documents stay as they are.

    Raises:
        InvalidDocumentError: It is not valid, or the other version cannot say what it says.
    """
    kind = document.get("kind")
    if kind == InferencePool.__name__:
        return _convert_pool(document, to)
    if kind == "InferenceModel" and to == "v1":
        return Converted(*convert_model(document))
    if kind in _REFERRING:
        return _convert_reference(document, to)
    notes = []
    if to == "v1" and _mentions(document, _OLD_GROUP) and kind != "InferencePoolImport":
        notes.append(f"{kind}: mentions the group {_OLD_GROUP}, and stays as it is")
    if to == "v1alpha2" and _mentions(document, _GROUP):
        notes.append(f"{kind}: mentions the group {_GROUP}, and stays as it is")
    return Converted((dict(document),), tuple(notes))


def _convert_pool(document: Mapping[str, Any], to: Version) -> Converted:
    plain, notes = _without_server_fields(document)
    plain = _as_written(plain)
    try:
        pool = InferencePool.from_dict(plain, unknown="error")
    except InvalidDocumentError as error:
        # Raises again where more is wrong than unknown fields.
        pool = InferencePool.from_dict(plain)
        notes += [f"{issue.field}: {issue.reason}, it is left out" for issue in error.issues]
    if to == "v1alpha2":
        notes += _lost(pool)
    made = pool.to_dict(to)
    picker = made["spec"].get("endpointPickerRef")
    if picker is not None and picker.get("kind") == "Service" and "port" not in picker:
        picker["port"] = {"number": _IMPLIED_PORT}
        notes.append(
            f"spec.extensionRef.portNumber: is absent, and v1 demands a port: {_IMPLIED_PORT} is set, as implied"
        )
    if issues := validate(made):
        raise InvalidDocumentError(
            [Issue(issue.field, f"as {to}: {issue.reason}", issue.value) for issue in issues],
        )
    return Converted((made,), tuple(notes))


def _without_server_fields(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping):
        return dict(document), []
    annotations = metadata.get("annotations")
    kept = {name: value for name, value in metadata.items() if name not in _OF_SERVER}
    if isinstance(annotations, Mapping) and _APPLIED in annotations:
        kept["annotations"] = {name: value for name, value in annotations.items() if name != _APPLIED}
    gone = [name for name in metadata if name in _OF_SERVER]
    note = [f"metadata: {', '.join(gone)} of the former object left out"] if gone else []
    return {**document, "metadata": kept}, note


def _as_written(document: dict[str, Any]) -> dict[str, Any]:
    """Let a pool say the version whose fields its spec has."""
    spec = document.get("spec")
    if not isinstance(spec, Mapping):
        return document
    selector = spec.get("selector")
    nested = isinstance(selector, Mapping) and isinstance(selector.get("matchLabels"), Mapping)
    new = [name for name in ("targetPorts", "endpointPickerRef") if name in spec]
    old = [name for name in ("targetPortNumber", "extensionRef") if name in spec]
    if new and old:
        reason = f"has fields of both versions: {', '.join(new)} of v1, {', '.join(old)} of v1alpha2"
        raise InvalidDocumentError([Issue("spec", reason, spec)])
    if old and nested and isinstance(selector, Mapping):
        document = {**document, "spec": {**spec, "selector": selector["matchLabels"]}}
    elif new and not nested and selector:
        document = {**document, "spec": {**spec, "selector": {"matchLabels": selector}}}
    version = _API["v1alpha2" if old else "v1"] if old or new else document.get("apiVersion")
    known = tuple(_API.values())
    group = str(document.get("apiVersion")).partition("/")[0]
    if document.get("apiVersion") in known or group in (_DEAD_GROUP, _OLD_GROUP):
        return {**document, "apiVersion": version}
    return document


def _lost(pool: InferencePool) -> Iterator[str]:
    """Tell what v1alpha2 has no words for."""
    first, *others = (str(port.number) for port in pool.target_ports)
    if others:
        yield f"spec.targetPorts: only the first, {first}, is kept; lost are {', '.join(others)}"
    if str(pool.app_protocol) != "http":
        yield f"spec.appProtocol: {str(pool.app_protocol)!r} is lost"
    names = sorted({parent.controller_name for parent in pool.status.parents if parent.controller_name})
    if names:
        yield f"status.parents: controllerName is lost: {', '.join(names)}"


def _convert_reference(document: Mapping[str, Any], to: Version) -> Converted:
    group, other = (_GROUP, _OLD_GROUP) if to == "v1" else (_OLD_GROUP, _GROUP)
    version = str(document.get("apiVersion"))
    if version.partition("/")[0] == _DEAD_GROUP:
        document = {**document, "apiVersion": "llm-d.ai/v1alpha2"}
    parse_object(document)
    spec = document["spec"]
    reference = spec["poolRef"]
    if reference.get("group", _GROUP) != other:
        return Converted((dict(document),))
    made = {**document, "spec": {**spec, "poolRef": {**reference, "group": group}}}
    return Converted((made,), (f"spec.poolRef.group: {group}, that of the pool",))


def _mentions(value: Any, group: str) -> bool:
    found = [value]
    while found:
        each = found.pop()
        if isinstance(each, Mapping):
            found += each.values()
        elif isinstance(each, list):
            found += each
        elif each == group or (isinstance(each, str) and each.startswith(f"{group}/")):
            return True
    return False
