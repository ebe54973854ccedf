"""What is wrong with one object, for ``validate``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model import Pod, parse_object

__all__ = ["judge"]


def judge(document: Mapping[str, Any]) -> tuple[Issue, ...]:
    """
    Tell everything that is wrong with a document, unknown fields included; empty when nothing is.

    Beside what the API refuses, a pod is wrong that is Ready and has no IP address: nothing can be sent there.
    """
    try:
        parsed = parse_object(document, unknown="error")
    except InvalidDocumentError as error:
        return error.issues
    if isinstance(parsed, Pod) and parsed.ready and not parsed.ip and parsed.deletion_timestamp is None:
        return (Issue("status.podIP", "is missing, though the pod is Ready: nothing can be sent to it"),)
    return ()
