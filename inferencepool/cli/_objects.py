"""What is wrong with one object, for ``validate``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferencepool.errors import Issue
from inferencepool.model import Pod, validate

__all__ = ["JUDGED", "judge"]

#: The kinds that are looked at; the last one only to say what took its place.
JUDGED = (
    "InferencePool",
    "InferenceObjective",
    "InferenceModelRewrite",
    "InferencePoolImport",
    "Pod",
    "InferenceModel",
)


def judge(document: Mapping[str, Any]) -> tuple[Issue, ...]:
    """
    Tell everything that is wrong with a document, unknown fields included; empty when nothing is.

    Beside what the API refuses, a pod is wrong that is Ready and has no IP address: nothing can be sent there.
    """
    issues = validate(document)
    # What is not created yet has no name, and is not ready either.
    if issues or document.get("kind") != Pod.__name__ or document["metadata"].get("name") is None:
        return issues
    pod = Pod.from_dict(document)
    if pod.ready and not pod.ip and pod.deletion_timestamp is None:
        return (Issue("status.podIP", "is missing, though the pod is Ready: nothing can be sent to it"),)
    return ()
