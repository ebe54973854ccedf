"""Values with sensible defaults, so that a test names only what it is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from inferencepool.errors import ConfigurationError
from inferencepool.model import (
    Endpoint,
    EndpointMetrics,
    Fleet,
    InferencePool,
    LabelSelector,
    Pod,
    Snapshot,
    TargetPort,
    to_endpoint_set,
)

__all__ = ["make_endpoint", "make_pod", "make_pool", "make_snapshot", "snapshot_by_slot"]

# A Mapping is invariant in its keys: without a variable, one by Endpoint would be none by Endpoint | str.
_Key = TypeVar("_Key", bound=Endpoint | str)


def make_endpoint(
    name: str = "pod-0",
    *,
    namespace: str = "default",
    address: str = "10.0.0.1",
    port: int = 8000,
    rank: int = 0,
    labels: Mapping[str, str] | None = None,
) -> Endpoint:
    """Make an endpoint of the pod *name*."""
    return Endpoint(
        namespace=namespace, pod_name=name, address=address, port=port, rank=rank, labels=dict(labels or {})
    )


def make_snapshot(
    loads: Mapping[_Key, EndpointMetrics | Mapping[str, Any]] | int,
    *,
    generation: int = 1,
) -> Snapshot:
    """
    Make a snapshot whose fleet, columns and LoRA sets agree with each other.

        make_snapshot({"pod-a": {"waiting_queue_size": 3}, "pod-b": {}})

    Args:
        loads: Metrics (or a mapping of their fields) by endpoint, in the order of the slots. A name stands for an
            endpoint of that pod with an address of its own, ``10.0.0.1`` in the first slot; a number stands for so many
            idle endpoints, ``pod-0`` and on.
        generation: The snapshot's generation; a scheduler follows the highest that it has seen.

    Raises:
        ConfigurationError: *loads* is a negative number, or two endpoints have the same id.
        InvalidMetricsError: Metrics that cannot be.
    """
    if isinstance(loads, int):
        if loads < 0:
            message = f"make_snapshot: loads: {loads} is not a number of endpoints, 0 or more"
            raise ConfigurationError(message)
        return make_snapshot({f"pod-{slot}": EndpointMetrics() for slot in range(loads)}, generation=generation)
    endpoints = [
        make_endpoint(key, address=_address(slot)) if isinstance(key, str) else key for slot, key in enumerate(loads)
    ]
    seen: set[str] = set()
    for endpoint in endpoints:
        if endpoint.id in seen:
            message = f"make_snapshot: loads: two endpoints have the id {endpoint.id}"
            raise ConfigurationError(message)
        seen.add(endpoint.id)
    metrics = [
        load if isinstance(load, EndpointMetrics) else EndpointMetrics.from_dict(load) for load in loads.values()
    ]
    return snapshot_by_slot(endpoints, metrics, generation=generation)


def _address(slot: int) -> str:
    number = slot + 1
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def snapshot_by_slot(
    endpoints: Sequence[Endpoint | None], metrics: Sequence[EndpointMetrics], *, generation: int = 1
) -> Snapshot:
    """Make a snapshot of *endpoints* by slot, None for a free one, and *metrics* for each slot."""
    slots = [slot for slot, endpoint in enumerate(endpoints) if endpoint is not None]
    return Snapshot(
        generation=generation,
        fleet=Fleet(tuple(endpoints), tuple(range(len(endpoints))), to_endpoint_set(slots)),
        metrics=list(metrics),
        waiting_queue_size=[load.waiting_queue_size + 0 for load in metrics],
        running_requests=[load.running_requests + 0 for load in metrics],
        kv_cache_usage=[load.kv_cache_usage + 0.0 for load in metrics],
        observed_at=[float("-inf") if load.observed_at is None else load.observed_at for load in metrics],
    )


def make_pod(
    name: str,
    *,
    ip: str | None = "10.0.0.1",
    labels: Mapping[str, str] | None = None,
    ready: bool = True,
    namespace: str = "default",
    annotations: Mapping[str, str] | None = None,
    deleted: bool = False,
) -> Pod:
    """Make a pod with one address, or none; *deleted* says that it is being deleted."""
    addresses: Any = () if ip is None else (ip,)
    return Pod(
        name=name,
        namespace=namespace,
        labels=dict(labels or {}),
        annotations=dict(annotations or {}),
        ip=ip,
        ips=addresses,
        ready=ready,
        deletion_timestamp="2026-01-01T00:00:00Z" if deleted else None,
    )


def make_pool(
    name: str = "pool",
    *,
    selector: LabelSelector | Mapping[str, str] | str | None = None,
    ports: Iterable[int] = (8000,),
    namespace: str = "default",
) -> InferencePool:
    """
    Make a pool.

    Args:
        name: The pool's name.
        selector: Chooses the pods: a selector, labels, or the text of ``kubectl -l``. By default all of the namespace.
        ports: Numbers of the target ports.
        namespace: The pool's namespace.

    Raises:
        InvalidDocumentError: The API does not allow such a pool.
        InvalidSelectorError: The text of *selector* cannot be read.
    """
    match selector:
        case None:
            chosen = LabelSelector()
        case str():
            chosen = LabelSelector.parse(selector)
        case LabelSelector():
            chosen = selector
        case _:
            chosen = LabelSelector(selector)
    return InferencePool(name=name, namespace=namespace, selector=chosen, target_ports=tuple(map(TargetPort, ports)))
