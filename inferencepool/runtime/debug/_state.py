"""What a picker knows at the moment, as plain dicts and lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import attrs

from inferencepool.model import Ejection, InferencePool, Snapshot, to_slots
from inferencepool.picker import EndpointPicker
from inferencepool.runtime.debug._decisions import RecordedDecision
from inferencepool.scheduling import SchedulingProfile, strategy_name

__all__ = ["decision_to_dict", "state_of", "to_plain"]


def state_of(picker: EndpointPicker, statistics: Mapping[str, Callable[[], object]]) -> dict[str, Any]:
    """Give what *picker* and whatever has *statistics* know at the moment, in O(endpoints)."""
    registry = picker.registry
    snapshot, departed = registry.current()
    load = picker.reserved()
    reserved = {load.fleet.at(slot).id: (load.pending[slot], load.in_flight[slot]) for slot in load.fleet.slots}
    slots = list(to_slots(snapshot.fleet.members & ~departed))
    now = registry.clock()
    ejections: dict[str, list[dict[str, Any]]] = {}
    for endpoint, ejection in registry.health.ejections():
        ejections.setdefault(endpoint.id, []).append(_ejection_to_dict(ejection, now))
    return {
        "pool": _pool_to_dict(registry.pool),
        "profile": _profile_to_dict(picker.profile),
        "generation": snapshot.generation,
        "departed": departed.bit_count(),
        "statistics": {
            "registry": to_plain(registry.statistics()),
            "picker": to_plain(picker.statistics()),
            **{name: to_plain(tell()) for name, tell in statistics.items()},
        },
        "endpoints": [_endpoint_to_dict(snapshot, slot, now, reserved, ejections) for slot in slots],
    }


def decision_to_dict(decision: RecordedDecision) -> dict[str, Any]:
    """Give a decision as plain dicts and lists."""
    plain: dict[str, Any] = {
        field.name: to_plain(getattr(decision, field.name))
        for field in attrs.fields(RecordedDecision)
        if field.name != "explanation"
    }
    plain["at"] = datetime.fromtimestamp(decision.at, UTC).isoformat(timespec="milliseconds")
    plain["explanation"] = decision.explanation.to_dict() if decision.explanation is not None else None
    return plain


def to_plain(value: object) -> Any:
    """Give any value as what JSON knows; what it does not know, as text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else None
    kind: Any = type(value)
    if attrs.has(kind):
        return {field.name: to_plain(getattr(value, field.name)) for field in attrs.fields(kind)}
    if isinstance(value, Mapping):
        return {str(name): to_plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in value]
    return str(value)


def _pool_to_dict(pool: InferencePool | None) -> dict[str, Any] | None:
    if pool is None:
        return None
    return {
        "namespace": pool.namespace,
        "name": pool.name,
        "selector": str(pool.selector),
        "target_ports": [port.number for port in pool.target_ports],
    }


def _profile_to_dict(profile: SchedulingProfile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "filters": [{"name": item.name, "kind": item.kind} for item in profile.filters],
        "scorers": [{"name": item.name, "kind": item.kind, "weight": item.weight} for item in profile.scorers],
        "picker": strategy_name(profile.picker),
        "max_num_of_endpoints": profile.max_num_of_endpoints,
    }


def _ejection_to_dict(ejection: Ejection, now: float) -> dict[str, Any]:
    return {
        "reason": str(ejection.reason),
        "model": ejection.model or None,
        "detail": ejection.detail,
        "since_seconds": round(now - ejection.since, 3),
        "probe_in_seconds": round(max(0.0, ejection.until - now), 3),
    }


def _endpoint_to_dict(
    snapshot: Snapshot,
    slot: int,
    now: float,
    reserved: Mapping[str, tuple[int, int]],
    ejections: Mapping[str, list[dict[str, Any]]],
) -> dict[str, Any]:
    endpoint, metrics, age = snapshot.fleet.at(slot), snapshot.metrics[slot], now - snapshot.observed_at[slot]
    pending, in_flight = reserved.get(endpoint.id, (0, 0))
    return {
        "endpoint": endpoint.id,
        "destination": endpoint.destination,
        "node": endpoint.node_address,
        "waiting": metrics.waiting_queue_size,
        "running": metrics.running_requests,
        "kv_cache_usage": metrics.kv_cache_usage,
        "active_models": sorted(metrics.active_models),
        "waiting_models": sorted(metrics.waiting_models),
        "max_active_models": metrics.max_active_models,
        "age_seconds": round(age, 3) if isfinite(age) else None,
        "pending": pending,
        "in_flight": in_flight,
        "ejections": ejections.get(endpoint.id, []),
    }
