"""Reading the JSON of pods."""

from __future__ import annotations

from typing import Any, TypedDict

from inferencepool.adapters.bodies import Loads, loads_json

__all__ = ["fastest_pod_loads"]


class _Metadata(TypedDict, total=False):
    name: str
    namespace: str
    uid: str
    resourceVersion: str
    labels: dict[str, str] | None
    annotations: dict[str, str] | None
    deletionTimestamp: str | None


class _Condition(TypedDict, total=False):
    type: str
    status: str


class _Address(TypedDict, total=False):
    ip: str


class _Container(TypedDict, total=False):
    restartCount: int


class _Status(TypedDict, total=False):
    podIP: str
    podIPs: list[_Address] | None
    hostIP: str
    phase: str
    conditions: list[_Condition] | None
    containerStatuses: list[_Container] | None


class _Pod(TypedDict, total=False):
    apiVersion: str
    kind: str
    metadata: _Metadata
    status: _Status


class _Event(TypedDict):
    type: str
    object: _Pod


_ListMetadata = TypedDict("_ListMetadata", {"resourceVersion": str, "continue": str}, total=False)


class _Named(TypedDict, total=False):
    kind: str


class _Page(_Named):
    metadata: _ListMetadata
    items: list[_Pod] | None


def fastest_pod_loads() -> Loads:
    """
    Give what reads the JSON of pages and events of pods, and skips what routing does not need, with msgspec.

    Without msgspec, and for whatever has another shape, it is the standard library, which reads everything.
    """
    try:
        import msgspec  # noqa: PLC0415 - an extra
    except ImportError:
        return loads_json
    event = msgspec.json.Decoder(_Event).decode
    page = msgspec.json.Decoder(_Page).decode

    def loads(data: bytes) -> Any:
        try:
            # No page begins like an event, and the other way round.
            return event(data) if data.startswith(b'{"type"') else page(data)
        except ValueError:
            return loads_json(data)

    return loads
