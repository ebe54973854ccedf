"""Documents that say another version than they are written in: told in one line, with what mends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferencepool.errors import Issue
from inferencepool.model._schema import quoted

__all__ = ["DEAD_GROUP", "OLD_POOL_FIELDS", "mistaken_version", "outdated"]

#: The group that InferencePool and InferenceModel had at first; no server has it any more.
DEAD_GROUP = "inference.x-k8s.io"
#: Fields of a v1alpha2 pool's spec that v1 calls otherwise.
OLD_POOL_FIELDS = ("targetPortNumber", "extensionRef")
_POOL_FIELDS = ("targetPorts", "endpointPickerRef", "appProtocol")


def outdated(document: Mapping[str, Any]) -> Issue | None:
    """Tell what is wrong with a document of a group or a kind that is not served any more; None where it is served."""
    version, kind = document.get("apiVersion"), document.get("kind")
    if kind == "InferenceModel":
        reason = "is not served any more, InferenceObjective and InferenceModelRewrite took its place"
        return Issue("kind", f"{quoted(kind)} {reason}: `inferencepool convert --to v1` makes them of it", kind)
    if isinstance(version, str) and version.partition("/")[0] == DEAD_GROUP:
        reason = "is of a group that is not served any more: `inferencepool convert --to v1` rewrites it"
        return Issue("apiVersion", f"{quoted(version)} {reason}", version)
    return None


def mistaken_version(document: Mapping[str, Any], *, old: bool) -> str | None:
    """
    Tell that the spec of a pool is written in the other version than the document says; None where it is not.

    Args:
        document: The document.
        old: Whether it says that it is of v1alpha2.
    """
    spec = document.get("spec")
    if not isinstance(spec, Mapping):
        return None
    selector = spec.get("selector")
    found = [name for name in (_POOL_FIELDS if old else OLD_POOL_FIELDS) if spec.get(name) is not None]
    if isinstance(selector, Mapping) and selector:
        if old and isinstance(selector.get("matchLabels"), Mapping):
            found.append("selector.matchLabels")
        elif not old and "matchLabels" not in selector and all(isinstance(value, str) for value in selector.values()):
            found.append("selector without matchLabels")
    needed = ("targetPortNumber", "extensionRef") if old else ("targetPorts",)
    is_whole = all(spec.get(name) is not None for name in needed) and not any("selector" in name for name in found)
    # What has all that its version demands has fields too many, which the API server leaves out.
    if not found or is_whole:
        return None
    other, own = ("v1", "v1alpha2") if old else ("v1alpha2", "v1")
    return f"is written as in {other} ({', '.join(found)}): `inferencepool convert --to {own}` rewrites it"
