"""What an API server says, as bytes, and a reflector of small objects to say it to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any

from inferencepool.adapters.kubernetes import PODS as RESOURCE
from inferencepool.adapters.kubernetes import (
    Deleted,
    Delta,
    Failure,
    Get,
    Listed,
    Reflector,
    ReflectorOptions,
    Step,
    Stream,
    Unreadable,
    Upserted,
    Wait,
)
from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.testing import ManualClock

__all__ = [
    "GONE",
    "RESOURCE",
    "Told",
    "begin",
    "bookmark",
    "confirm",
    "error",
    "event",
    "follow",
    "item",
    "page",
    "read",
    "reflector_of",
    "told",
    "waits",
]

Told = tuple[str, object]
GONE = Failure("too old resource version: 1 (2)", 410)


def read(document: Mapping[str, Any]) -> Told:
    """Read a small object: its name, and its spec."""
    if "bad" in document:
        raise InvalidDocumentError([Issue("bad", str(document["bad"]))])
    return document["metadata"]["name"], document.get("spec")


def reflector_of(clock: ManualClock | None = None, **options: Any) -> Reflector[Told]:
    """A reflector of small objects that lists in pages, unless *options* say otherwise."""
    chosen = ReflectorOptions(**{"streaming_lists": False, "page_size": 2, **options})
    return Reflector(RESOURCE, "default", read, options=chosen, clock=clock or ManualClock(), rng=Random(0))


def item(name: str, spec: object = None, *, version: str = "1", **fields: object) -> dict[str, Any]:
    """An object."""
    return {"metadata": {"name": name, "resourceVersion": version}, "spec": spec, **fields}


def page(*items: object, version: str = "10", rest: str = "") -> bytes:
    """A page of a list; *rest* is the token for the rest of it."""
    metadata = {"resourceVersion": version} | ({"continue": rest} if rest else {})
    return json.dumps({"kind": "List", "metadata": metadata, "items": items}).encode()


def event(kind: str, document: object) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": kind, "object": document}).encode() + b"\n"


def bookmark(version: str, *, ends: bool = False) -> bytes:
    """A bookmark; it may end a list."""
    metadata: dict[str, Any] = {"resourceVersion": version, "creationTimestamp": None}
    if ends:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return event("BOOKMARK", {"kind": "Pod", "metadata": metadata, "spec": {"containers": None}})


def error(code: int, message: str = "no", **fields: object) -> bytes:
    """An error in a watch."""
    return event("ERROR", {"kind": "Status", "code": code, "message": message, **fields})


def told(deltas: list[Delta[Told]]) -> list[object]:
    """What deltas say, in short: a set of names for a list, ``+name=spec``, ``-name`` or ``?name``."""
    short: list[object] = []
    for delta in deltas:
        match delta:
            case Listed(objects, unreadable):
                short.append({name for name, _ in objects} | {f"?{each.name}" for each in unreadable})
            case Upserted((name, spec)):
                short.append(f"+{name}={spec}")
            case Deleted(name):
                short.append(f"-{name}")
            case Unreadable(name):
                short.append(f"?{name}")
    return short


def begin(reflector: Reflector[Told], *items: object, version: str = "10") -> dict[str, str]:
    """Let a reflector list *items* in one page and begin to watch; the parameters of the watch."""
    step = reflector.next_step()
    assert isinstance(step, Get)
    reflector.receive_page(page(*items, version=version))
    return follow(reflector)


def follow(reflector: Reflector[Told]) -> dict[str, str]:
    """The parameters of the stream that is next, without its time."""
    step: Step = reflector.next_step()
    assert isinstance(step, Stream), step
    params = dict(step.params)
    assert 1 <= int(params.pop("timeoutSeconds"))
    assert {"watch", "allowWatchBookmarks"} <= params.keys()
    return {name: value for name, value in params.items() if name not in {"watch", "allowWatchBookmarks"}}


def waits(reflector: Reflector[Told]) -> float:
    """The seconds to wait that are next."""
    step = reflector.next_step()
    assert isinstance(step, Wait), step
    return step.seconds


def confirm(reflector: Reflector[Told], *items: object, version: str = "10") -> None:
    """Let a reflector ask how far the server is, and answer with *items* and *version*."""
    assert Get(RESOURCE.collection("default"), {"limit": "1"}) == reflector.next_step()
    assert [] == reflector.receive_page(page(*items, version=version, rest="more" if items else ""))
