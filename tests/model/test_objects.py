from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given

from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model import (
    ImportController,
    InferenceModelRewrite,
    InferenceObjective,
    InferencePool,
    InferencePoolImport,
    Pod,
    PoolReference,
    RewriteRule,
    TargetModel,
    parse_object,
    validate,
)
from tests.model.test_pool import POOL, changed
from tests.strategies import documents

OBJECTIVE: dict[str, Any] = {
    "apiVersion": documents.OBJECTIVES,
    "kind": "InferenceObjective",
    "metadata": {"name": "chat"},
    "spec": {"priority": -1, "poolRef": {"name": "llama"}},
}
REWRITE: dict[str, Any] = {
    "apiVersion": documents.OBJECTIVES,
    "kind": "InferenceModelRewrite",
    "metadata": {"name": "food"},
    "spec": {
        "poolRef": {"name": "llama"},
        "rules": [
            {
                "matches": [{"model": {"value": "food"}}],
                "targets": [{"modelRewrite": "food-1", "weight": 10}, {"modelRewrite": "food-2"}],
            },
            {},
        ],
    },
}
IMPORT: dict[str, Any] = {
    "apiVersion": documents.IMPORTS,
    "kind": "InferencePoolImport",
    "metadata": {"name": "llama"},
    "status": {"controllers": [{"name": "example.com/c", "exportingClusters": [{"name": "east"}]}]},
}
POD: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod-1"}}
LEGACY = "inference.networking.x-k8s.io/v1alpha2"
_REF, _RULE, _ENTRY = "spec.poolRef", "spec.rules.0", "status.controllers.0"


def test_objective() -> None:
    """An objective has a priority and belongs to a pool of the stable group."""
    objective = InferenceObjective.from_dict(OBJECTIVE)

    assert -1 == objective.priority
    assert PoolReference(name="llama", kind="InferencePool", group="inference.networking.k8s.io") == objective.pool_ref
    assert () == objective.conditions
    assert InferenceObjective.from_dict(changed(OBJECTIVE, "spec.priority", None)).priority is None


@pytest.mark.parametrize(("document", "kind"), [(OBJECTIVE, "Ready"), (REWRITE, "Accepted")])
def test_default_conditions(document: dict[str, Any], kind: str) -> None:
    """A status without conditions gets the default one of its CRD."""
    value = parse_object({**document, "status": {}})

    assert isinstance(value, InferenceObjective | InferenceModelRewrite)
    [condition] = value.conditions
    assert (kind, "Unknown", "Pending") == (condition.type, condition.status, condition.reason)
    assert "Waiting for controller" == condition.message
    assert "1970-01-01T00:00:00Z" == condition.last_transition_time


@pytest.mark.parametrize("document", [OBJECTIVE, REWRITE])
def test_legacy_group(document: dict[str, Any]) -> None:
    """The group that these kinds had before is read, and kept."""
    value = parse_object({**document, "apiVersion": LEGACY})

    assert LEGACY == value.to_dict()["apiVersion"]


def test_rewrite() -> None:
    """A rule names models and targets; one without matches is for all models."""
    rewrite = InferenceModelRewrite.from_dict(REWRITE)

    assert (
        RewriteRule(("food",), (TargetModel("food-1", 10), TargetModel("food-2"))),
        RewriteRule(),
    ) == rewrite.rules


def test_import() -> None:
    """An import has no spec; its status tells who exports the pool."""
    assert (ImportController(name="example.com/c", exporting_clusters=("east",)),) == (
        InferencePoolImport.from_dict(IMPORT).controllers
    )
    without = {name: value for name, value in IMPORT.items() if name != "status"}
    assert InferencePoolImport.from_dict(without).controllers is None
    assert "status" not in InferencePoolImport.from_dict(without).to_dict()


@pytest.mark.parametrize(
    ("document", "path", "value", "field", "reason"),
    [
        (OBJECTIVE, "spec.priority", 2**31, "spec.priority", "is not in -2147483648 to 2147483647"),
        (OBJECTIVE, "spec.priority", 0.5, "spec.priority", "0.5 is not a whole number"),
        (OBJECTIVE, _REF, None, _REF, "is required"),
        (OBJECTIVE, f"{_REF}.name", "", f"{_REF}.name", "has 0 characters"),
        (OBJECTIVE, f"{_REF}.kind", "1", f"{_REF}.kind", "does not match"),
        (OBJECTIVE, f"{_REF}.group", "A", f"{_REF}.group", "does not match"),
        (OBJECTIVE, "spec.model", "a", "spec.model", "is no field of this object"),
        (OBJECTIVE, "status", {"conditions": {}}, "status.conditions", "{} is not a list"),
        (OBJECTIVE, "status", {"reason": ""}, "status.reason", "is no field of this object"),
        (REWRITE, "spec", [], "spec", "[] is not an object"),
        (REWRITE, "spec.rules", None, "spec.rules", "is required"),
        (REWRITE, "spec.rules", [1], "spec.rules[0]", "1 is not an object"),
        (REWRITE, f"{_RULE}.targets", [], "spec.rules[0].targets", "has 0 items, allowed are 1 or more"),
        (REWRITE, f"{_RULE}.targets.0.weight", 0, "spec.rules[0].targets[0].weight", "0 is not in 1 to 1000000"),
        (REWRITE, f"{_RULE}.targets.1.weight", 1_000_001, "spec.rules[0].targets[1].weight", "is not in 1 to 1000000"),
        (REWRITE, f"{_RULE}.targets.0.modelRewrite", None, "spec.rules[0].targets[0].modelRewrite", "is required"),
        (REWRITE, f"{_RULE}.matches.0.model", None, "spec.rules[0].matches[0].model", "is required"),
        (REWRITE, f"{_RULE}.matches.0.model.value", "", "spec.rules[0].matches[0].model.value", "has 0 characters"),
        (
            REWRITE,
            f"{_RULE}.matches.0.model.type",
            "Prefix",
            "spec.rules[0].matches[0].model.type",
            "'Prefix' is not one of Exact",
        ),
        (IMPORT, "spec", {}, "spec", "is no field of this object"),
        (IMPORT, "status", {}, "status.controllers", "is required"),
        (IMPORT, "status.controllers", [{"name": f"a/{n}"} for n in range(9)], "status.controllers", "at most 8"),
        (
            IMPORT,
            "status.controllers",
            [{"name": "a/b"}, {"name": "a/b"}],
            "status.controllers[1].name",
            "'a/b' is that of status.controllers[0] as well",
        ),
        (IMPORT, f"{_ENTRY}.name", "example.com", "status.controllers[0].name", "does not match"),
        (
            IMPORT,
            f"{_ENTRY}.exportingClusters",
            [{}],
            "status.controllers[0].exportingClusters[0].name",
            "is required",
        ),
        (IMPORT, f"{_ENTRY}.parents", [{}], "status.controllers[0].parents[0].parentRef", "is required"),
        (POOL, "spec.replicas", 1, "spec.replicas", "is no field of this object"),
        (POOL, "apiVersion", None, "apiVersion", "is required"),
        (POOL, "apiVersion", "v1", "apiVersion", f"'v1' is not one of {documents.V1}, {documents.V1ALPHA2}"),
        (POOL, "kind", "Job", "kind", "'Job' is not one of InferenceModelRewrite, InferenceObjective, InferencePool,"),
        (POOL, "kind", 7, "kind", "7 is not a string"),
        (POD, "metadata.name", 7, "metadata.name", "7 is not a string"),
    ],
)
def test_validate(document: dict[str, Any], path: str, value: object, field: str, reason: str) -> None:
    """Everything that is wrong is listed, unknown fields included; nothing else is."""
    assert () == validate(document)

    [issue] = validate(changed(document, path, value))

    assert field == issue.field
    assert reason in issue.reason


def test_validate_needs_an_object() -> None:
    """What is no object at all is one issue at the root."""
    assert (Issue("", "[] is not an object", []),) == validate([])  # type: ignore[arg-type]  # wrong on purpose


def test_unknown_kinds_are_named() -> None:
    """An error about a kind that is not known names the document as far as it can."""
    with pytest.raises(InvalidDocumentError, match=r"^Job a/b: kind: 'Job' is not one of"):
        parse_object({"apiVersion": "v1", "kind": "Job", "metadata": {"name": "b", "namespace": "a"}})
    with pytest.raises(InvalidDocumentError, match=r"^Job: kind: 'Job' is not one of"):
        parse_object({"apiVersion": "v1", "kind": "Job", "metadata": {"name": 7}})


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (POOL, InferencePool),
        (OBJECTIVE, InferenceObjective),
        (REWRITE, InferenceModelRewrite),
        (IMPORT, InferencePoolImport),
        (POD, Pod),
    ],
)
def test_dispatch(document: dict[str, Any], kind: type) -> None:
    """A document is read as what its version and kind say."""
    assert kind is type(parse_object(document))


@given(documents.valid())
def test_round_trip(document: dict[str, Any]) -> None:
    """An object read from a valid document is read from its own document as well."""
    value = parse_object(document, unknown="error")
    if isinstance(value, InferencePool) and document["apiVersion"] == documents.V1ALPHA2:
        return

    assert value == parse_object(value.to_dict(), unknown="error")
    if isinstance(value, Pod):
        # A pod keeps what routing needs only.
        return
    kept = {name: item for name, item in document["metadata"].items() if item}
    assert {"namespace": "default", **kept} == value.to_dict()["metadata"]


@given(documents.garbage() | documents.mutated(documents.valid()))
def test_garbage(document: Any) -> None:
    """Whatever a document holds, it is read or refused with the error that tells where."""
    for read in (
        parse_object,
        InferencePool.from_dict,
        InferenceObjective.from_dict,
        InferenceModelRewrite.from_dict,
        InferencePoolImport.from_dict,
        Pod.from_dict,
    ):
        with contextlib.suppress(InvalidDocumentError):
            read(document)
