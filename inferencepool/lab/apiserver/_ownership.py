"""
Server-side apply: which manager owns which fields, and what happens when two want the same one.

Objects merge field by field; lists are owned as a whole, as `status.parents` of a pool is. Ownership is kept where the
API server keeps it, in ``metadata.managedFields``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import attrs

from inferencepool.lab.apiserver._resources import Document

__all__ = ["Applied", "Conflict", "Manager", "apply_configuration", "note_update"]

_Path: TypeAlias = tuple[str, ...]

# What of the metadata has owners.
_OWNED_METADATA = ("annotations", "finalizers", "labels", "ownerReferences")
_MISSING = object()


@attrs.frozen(kw_only=True)
class Manager:
    """
    Who writes.

    Attributes:
        name: The name it gives.
        operation: ``Apply`` or ``Update``.
        subresource: Where it writes; empty for the object itself.
    """

    name: str
    operation: str = "Update"
    subresource: str = ""


@attrs.frozen
class Conflict:
    """
    A field that another manager owns with another value.

    Attributes:
        field: Path of the field, with a leading point.
        owner: Name of the other manager.
    """

    field: str
    owner: str


@attrs.frozen
class Applied:
    """
    What an apply makes of an object.

    Attributes:
        document: The object.
        conflicts: What stands in the way; empty where *force* was given.
    """

    document: Document
    conflicts: tuple[Conflict, ...] = ()


def apply_configuration(
    before: Document, configuration: Document, manager: Manager, *, force: bool, now: str
) -> Applied:
    """Merge what *manager* wants into *before*, which stays as it is, and drop what it wanted before but not now."""
    owners = _read_owners(before)
    wanted = dict(_leaves(configuration))
    missing = [path for path, value in wanted.items() if _get(before, path) is _MISSING]
    differing = [path for path, value in wanted.items() if path not in missing and _differs(_get(before, path), value)]
    conflicts = [
        Conflict("." + ".".join(path), other.name)
        for path in differing
        for other, owned in owners.items()
        if path in owned and other != manager
    ]
    if conflicts and not force:
        return Applied(before, tuple(conflicts))
    made = copy.deepcopy(before)
    for path in (*missing, *differing):
        _set(made, path, copy.deepcopy(wanted[path]))
    others = {path for other, owned in owners.items() if other != manager for path in owned}
    for path in owners.get(manager, set()) - wanted.keys() - others:
        _remove(made, path)
    kept = {other: owned - set(differing) for other, owned in owners.items()}
    _write_owners(made, kept | {manager: set(wanted)}, before, now)
    return Applied(made)


def note_update(before: Document | None, made: Document, manager: Manager, now: str) -> None:
    """Note in *made* that *manager* owns all that it changed, and that nobody owns what is gone."""
    old, new = dict(_leaves(before or {})), dict(_leaves(made))
    changed = {path for path, value in new.items() if old.get(path, _MISSING) != value}
    owners = {other: (owned - changed) & new.keys() for other, owned in _read_owners(before or {}).items()}
    owners[manager] = owners.get(manager, set()) | changed
    _write_owners(made, owners, before or {}, now)


def _leaves(value: Document, path: _Path = ()) -> Iterator[tuple[_Path, Any]]:
    """Give the fields that can have an owner, and their values: all but objects with something in them."""
    for name, inner in value.items():
        here = (*path, name)
        if not path and name in ("apiVersion", "kind"):
            continue
        if path == ("metadata",) and name not in _OWNED_METADATA:
            continue
        if isinstance(inner, dict) and (inner or here == ("metadata",)):
            yield from _leaves(inner, here)
        else:
            yield here, inner


def _differs(current: Any, wanted: Any) -> bool:
    # An object with nothing in it asks for an object, whatever others have put into it.
    return not isinstance(current, dict) if wanted == {} else bool(current != wanted)


def _get(document: Any, path: _Path) -> Any:
    for name in path:
        if not isinstance(document, dict) or name not in document:
            return _MISSING
        document = document[name]
    return document


def _set(document: Document, path: _Path, value: Any) -> None:
    for name in path[:-1]:
        inner = document.get(name)
        if not isinstance(inner, dict):
            inner = document[name] = {}
        document = inner
    document[path[-1]] = value


def _remove(document: Document, path: _Path) -> None:
    parent = _get(document, path[:-1])
    if isinstance(parent, dict):
        parent.pop(path[-1], None)


def _read_owners(document: Document) -> dict[Manager, set[_Path]]:
    owners = {}
    for entry in (document.get("metadata") or {}).get("managedFields") or []:
        manager = Manager(name=entry["manager"], operation=entry["operation"], subresource=entry.get("subresource", ""))
        owners[manager] = set(_read_fields(entry.get("fieldsV1") or {}))
    return owners


def _write_owners(made: Document, owners: dict[Manager, set[_Path]], before: Document, now: str) -> None:
    known = _read_owners(before)
    times = {
        (entry["manager"], entry["operation"], entry.get("subresource", "")): entry["time"]
        for entry in (before.get("metadata") or {}).get("managedFields") or []
    }
    made["metadata"]["managedFields"] = [
        {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": made["apiVersion"],
            "time": now if known.get(manager) != owned else times[attrs.astuple(manager)],
            "fieldsType": "FieldsV1",
            "fieldsV1": _write_fields(owned),
        }
        | ({"subresource": manager.subresource} if manager.subresource else {})
        for manager, owned in owners.items()
        if owned
    ]


def _read_fields(fields: Document, path: _Path = ()) -> Iterator[_Path]:
    for name, inner in fields.items():
        here = (*path, name.removeprefix("f:"))
        if inner:
            yield from _read_fields(inner, here)
        else:
            yield here


def _write_fields(paths: Iterable[_Path]) -> Document:
    fields: Document = {}
    for path in sorted(paths):
        _set(fields, tuple(f"f:{name}" for name in path), {})
    return fields
