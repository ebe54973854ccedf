"""Any object that this library reads, told apart by ``apiVersion`` and ``kind``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model._import import IMPORT_VERSION, InferencePoolImport
from inferencepool.model._meta import source_of
from inferencepool.model._mistaken import outdated
from inferencepool.model._objective import OBJECTIVE_VERSIONS, InferenceObjective
from inferencepool.model._pod import Pod
from inferencepool.model._pool import V1, V1ALPHA2, InferencePool
from inferencepool.model._rewrite import InferenceModelRewrite
from inferencepool.model._schema import Reader, quoted

__all__ = ["ApiObject", "parse_object", "validate"]

ApiObject: TypeAlias = InferencePool | InferenceObjective | InferenceModelRewrite | InferencePoolImport | Pod


def _read_pod(document: Mapping[str, Any], *, unknown: str) -> Pod:  # noqa: ARG001 - that of all readers
    return Pod.from_dict(document)


_READERS: dict[tuple[str, str], Callable[..., ApiObject]] = {
    (V1, "InferencePool"): InferencePool.from_dict,
    (V1ALPHA2, "InferencePool"): InferencePool.from_dict,
    **{(version, "InferenceObjective"): InferenceObjective.from_dict for version in OBJECTIVE_VERSIONS},
    **{(version, "InferenceModelRewrite"): InferenceModelRewrite.from_dict for version in OBJECTIVE_VERSIONS},
    (IMPORT_VERSION, "InferencePoolImport"): InferencePoolImport.from_dict,
    ("v1", "Pod"): _read_pod,
}


def parse_object(document: Mapping[str, Any], *, unknown: str = "ignore") -> ApiObject:
    """
    Read an object of any kind that this library knows.

    Args:
        document: The document.
        unknown: ``error`` to refuse fields that the API does not have (those of pods are never looked at).

    Raises:
        InvalidDocumentError: Something is wrong, or the kind is not known; it tells everything that is wrong.
    """
    root = Reader.of(document)
    if issue := outdated(document):
        raise InvalidDocumentError([issue], source_of(str(document["kind"]), document))
    version, kind = root.text("apiVersion", required=True), root.text("kind", required=True)
    if root.issues:
        raise InvalidDocumentError(root.issues, "object")
    read = _READERS.get((str(version), str(kind)))
    if read is None:
        versions = [known_version for known_version, known_kind in _READERS if known_kind == kind]
        if versions:
            issue = Issue("apiVersion", f"{quoted(version)} is not one of {', '.join(versions)}", version)
        else:
            kinds = sorted({known_kind for _, known_kind in _READERS})
            issue = Issue("kind", f"{quoted(kind)} is not one of {', '.join(kinds)}", kind)
        raise InvalidDocumentError([issue], source_of(str(kind), document))
    return read(document, unknown=unknown)


def validate(document: Mapping[str, Any]) -> tuple[Issue, ...]:
    """
    Tell everything that is wrong with a document, unknown fields included; empty when the API server would take it.

    It also takes what nothing can be made of before it took it: a document with ``generateName`` alone, which it names,
    and objects of v1alpha2 without ``spec``.
    """
    try:
        parse_object(_completed(document), unknown="error")
    except InvalidDocumentError as error:
        return error.issues
    return ()


def _completed(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give *document* as the API server would keep it, and with a harmless spec where it would keep none."""
    given: object = document
    if not isinstance(given, Mapping):
        return document
    metadata, kind = document.get("metadata"), document.get("kind")
    if isinstance(metadata, Mapping) and metadata.get("name") is None:
        prefix = metadata.get("generateName")
        if isinstance(prefix, str) and prefix:
            document = {**document, "metadata": {**metadata, "name": _GENERATED}}
    spec = _SPECS.get(str(kind)) if str(document.get("apiVersion")).endswith("/v1alpha2") else None
    return {**document, "spec": spec} if spec is not None and document.get("spec") is None else document


# Stand for a name that the server would make, and for a spec that is not there.
_GENERATED = "generated"
_SPECS: dict[str, Mapping[str, Any]] = {
    "InferencePool": {"selector": {"app": "none"}, "targetPortNumber": 1, "extensionRef": {"name": "none"}},
    "InferenceObjective": {"poolRef": {"name": "none"}},
    "InferenceModelRewrite": {"poolRef": {"name": "none"}, "rules": []},
}
