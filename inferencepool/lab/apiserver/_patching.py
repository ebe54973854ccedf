"""Three of the four kinds of patches: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._resources import Document, Resource

__all__ = ["APPLY_TYPES", "apply_patch", "merge", "patch_types"]

#: Types of server-side apply, the fourth kind; the first is what the API server calls it, JSON is YAML.
APPLY_TYPES = ("application/apply-patch+yaml", "application/apply-patch+json")
_JSON = "application/json-patch+json"
_MERGE = "application/merge-patch+json"
_STRATEGIC = "application/strategic-merge-patch+json"

# Lists whose items strategic merge patches match by a field; all other lists they replace.
_MERGE_KEYS = {
    "conditions": ("type",),
    "containers": ("name",),
    "env": ("name",),
    "ephemeralContainers": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "podIPs": ("ip",),
    "ports": ("containerPort", "port"),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}


def patch_types(resource: Resource) -> tuple[str, ...]:
    """Tell the content types that patches of *resource* may have."""
    strategic = () if resource.custom else (_STRATEGIC,)
    return (_JSON, _MERGE, *strategic, *APPLY_TYPES)


def apply_patch(content_type: str, document: Document, patch: Any) -> Document:
    """
    Give *document*, which stays as it is, with *patch* applied.

    Raises:
        RefusedError: 400 for a patch that is none of its type, 422 where its path does not exist or its test fails.
    """
    made: Any = copy.deepcopy(document)
    if content_type == _JSON:
        made = _apply_operations(made, patch)
    elif not isinstance(patch, dict):
        message = "the patch must be an object of JSON"
        raise refusals.bad_request(message)
    else:
        made = merge(made, patch) if content_type == _MERGE else _merge_strategic(made, patch)
    if not isinstance(made, dict):
        message = "the patch leaves no object"
        raise refusals.make(422, "Invalid", message)
    changed: Document = made
    return changed


def merge(document: Any, patch: Any) -> Any:
    """Apply a merge patch, in place where it can: null removes, objects merge, all else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if not isinstance(document, dict):
        document = {}
    for name, value in patch.items():
        if value is None:
            document.pop(name, None)
        else:
            document[name] = merge(document.get(name), value)
    return document


def _merge_strategic(document: Any, patch: Document) -> Any:
    if patch.get("$patch") == "replace":
        return {name: copy.deepcopy(value) for name, value in patch.items() if name != "$patch"}
    if not isinstance(document, dict):
        document = {}
    for name, value in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            document[field] = [item for item in document.get(field) or [] if item not in _as_list(value)]
        elif name.startswith("$"):
            continue
        elif value is None:
            document.pop(name, None)
        elif isinstance(value, dict):
            document[name] = _merge_strategic(document.get(name), value)
        elif name == "finalizers":
            known = document.get(name) or []
            document[name] = [*known, *(item for item in _as_list(value) if item not in known)]
        elif name in _MERGE_KEYS and _are_objects(value):
            known = document.get(name)
            document[name] = _merge_list(known if _are_objects(known) else [], value, _MERGE_KEYS[name])
        else:
            document[name] = copy.deepcopy(value)
    return document


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _merge_list(items: list[Any], patches: list[Any], keys: tuple[str, ...]) -> list[Any]:
    merged = list(items)
    for patch in patches:
        if patch.get("$patch") == "replace":
            return [copy.deepcopy(item) for item in patches if "$patch" not in item]
        key = next((key for key in keys if key in patch), keys[0])
        at = next((at for at, item in enumerate(merged) if item.get(key) == patch.get(key)), None)
        if patch.get("$patch") == "delete":
            merged = [item for item in merged if item.get(key) != patch.get(key)]
        elif at is None:
            merged.append(copy.deepcopy(patch))
        else:
            merged[at] = _merge_strategic(merged[at], patch)
    return merged


def _apply_operations(document: Document, operations: Any) -> Document:
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        message = "a JSON patch must be a list of operations"
        raise refusals.bad_request(message)
    root: Document = {"": document}
    for operation in operations:
        apply = _OPERATIONS.get(str(operation.get("op")))
        if apply is None or "path" not in operation:
            message = f"unexpected kind of operation in a JSON patch: {operation}"
            raise refusals.bad_request(message)
        try:
            apply(root, operation)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):
            message = f"the server rejected our request due to an error in our request: {operation}"
            raise refusals.make(422, "Invalid", message) from None
    changed: Document = root[""]
    return changed


def _steps(pointer: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")]


def _find(root: Any, steps: list[str]) -> Any:
    for step in steps:
        root = root[int(step)] if isinstance(root, list) else root[step]
    return root


def _add(root: Document, operation: Document) -> None:
    *parents, last = _steps(operation["path"])
    _put(_find(root, parents), last, copy.deepcopy(operation["value"]))


def _put(parent: Any, last: str, value: Any) -> None:
    if isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else int(last), value)
    else:
        parent[last] = value


def _remove(root: Document, operation: Document) -> None:
    *parents, last = _steps(operation["path"])
    parent = _find(root, parents)
    del parent[int(last) if isinstance(parent, list) else last]


def _replace(root: Document, operation: Document) -> None:
    _find(root, _steps(operation["path"]))
    *parents, last = _steps(operation["path"])
    parent = _find(root, parents)
    parent[int(last) if isinstance(parent, list) else last] = copy.deepcopy(operation["value"])


def _test(root: Document, operation: Document) -> None:
    if _find(root, _steps(operation["path"])) != operation["value"]:
        raise ValueError


def _copy(root: Document, operation: Document) -> None:
    _add(root, operation | {"value": _find(root, _steps(operation["from"]))})


def _move(root: Document, operation: Document) -> None:
    value = _find(root, _steps(operation["from"]))
    _remove(root, {"path": operation["from"]})
    _add(root, operation | {"value": value})


_OPERATIONS: dict[str, Callable[[Document, Document], None]] = {
    "add": _add,
    "copy": _copy,
    "move": _move,
    "remove": _remove,
    "replace": _replace,
    "test": _test,
}
