"""InferenceModel, a kind that is gone: what it becomes in the kinds that took its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model import validate
from inferencepool.model._protocol import OBJECTIVE

__all__ = ["convert_model"]

_VERSION = "llm-d.ai/v1alpha2"
# Priorities in the order of the criticalities; below 0 a request may be shed, as a sheddable one could.
_PRIORITIES = {"Critical": 1, "Standard": 0, "Sheddable": -1}
_POOL_GROUP = "inference.networking.k8s.io"
_KEPT = ("name", "namespace", "labels", "annotations")


def convert_model(document: Mapping[str, Any]) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    """
    Give the objective, the rewrite if the model has targets, and notes about both.

    Raises:
        InvalidDocumentError: The document lacks what they need.
    """
    spec = document.get("spec")
    if not isinstance(spec, Mapping):
        raise InvalidDocumentError([Issue("spec", "is required")])
    metadata = document.get("metadata")
    kept = {name: value for name, value in metadata.items() if name in _KEPT} if isinstance(metadata, Mapping) else {}
    reference = spec.get("poolRef")
    pool = {**reference, "group": _POOL_GROUP} if isinstance(reference, Mapping) else reference
    criticality = spec.get("criticality")
    if criticality is not None and criticality not in tuple(_PRIORITIES):
        allowed = ", ".join(_PRIORITIES)
        raise InvalidDocumentError([Issue("spec.criticality", f"{criticality!r} is not one of {allowed}", criticality)])
    priority = _PRIORITIES["Standard" if criticality is None else criticality]
    made = [_object("InferenceObjective", kept, {"priority": priority, "poolRef": pool})]
    header = OBJECTIVE[0]
    notes = [f"spec.criticality: becomes priority {priority}, for requests that name {kept.get('name')!r} in {header}"]
    model, targets = spec.get("modelName"), spec.get("targetModels")
    if isinstance(targets, list) and targets:
        rule = {
            "matches": [{"model": {"type": "Exact", "value": model}}],
            "targets": [_target(target) for target in targets],
        }
        made.append(_object("InferenceModelRewrite", kept, {"poolRef": pool, "rules": [rule]}))
    issues = [issue for each in made for issue in validate(each)]
    if issues:
        raise InvalidDocumentError(issues)
    return tuple(made), tuple(notes)


def _object(kind: str, metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": _VERSION, "kind": kind, "metadata": dict(metadata), "spec": dict(spec)}


def _target(target: object) -> dict[str, Any]:
    found = target if isinstance(target, Mapping) else {}
    weight = {"weight": found["weight"]} if found.get("weight") is not None else {}
    return {"modelRewrite": found.get("name"), **weight}
