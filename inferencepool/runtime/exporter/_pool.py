"""`PoolMetrics`: what a picker's endpoints are like at the moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import fsum, isfinite, sqrt
from typing import final

from inferencepool.errors import ConfigurationError
from inferencepool.model import Snapshot, to_slots
from inferencepool.picker import EndpointPicker
from inferencepool.runtime.exporter import _families as names
from inferencepool.runtime.exporter._families import Family
from inferencepool.runtime.exporter._prometheus import Metric, numbers
from inferencepool.scheduling import ReservedLoad

__all__ = ["PoolMetrics"]


@final
class PoolMetrics:
    """
    Tells what a picker's endpoints are like at the moment it is asked, from one snapshot.

    A collector, for a ``CollectorRegistry`` of prometheus-client. It has no state. An endpoint's metrics are fresh if
    the observation behind them began no longer than *staleness* ago; means and deviations are those of such endpoints,
    and absent where there are none, where the reference repeats what it told last.
    """

    def __init__(self, picker: EndpointPicker, *, staleness: float = 2.0) -> None:
        """
        Tell of the endpoints of *picker*.

        Args:
            picker: Whose endpoints; the label ``name`` is its pool's name, empty where there is no pool.
            staleness: Seconds after which metrics are not fresh.

        Raises:
            ConfigurationError: *staleness* is not a finite number above 0.
        """
        if isinstance(staleness, bool) or not isfinite(staleness) or staleness <= 0:
            message = f"metrics: staleness: {staleness!r} is not a finite number of seconds above 0"
            raise ConfigurationError(message)
        self._picker = picker
        self._staleness = staleness

    def collect(self) -> list[Metric]:
        """Give all metrics, in O(endpoints)."""
        registry = self._picker.registry
        snapshot, departed = registry.current()
        slots = list(to_slots(snapshot.fleet.members & ~departed))
        ages = [registry.clock() - snapshot.observed_at[slot] for slot in slots]
        stale = snapshot.stale
        fresh = [
            slot for slot, age in zip(slots, ages, strict=True) if age <= self._staleness and not stale >> slot & 1
        ]
        name = registry.pool.name if registry.pool is not None else ""
        return [
            numbers(names.READY_ENDPOINTS, [((name,), len(slots))]),
            numbers(names.STALE_ENDPOINTS, [((name,), len(slots) - len(fresh))]),
            *_means(name, snapshot, fresh),
            *_endpoints(name, snapshot, slots, ages),
            *_reserved(name, self._picker.reserved(), set(slots)),
        ]


def _means(name: str, snapshot: Snapshot, slots: Sequence[int]) -> Iterator[Metric]:
    columns: list[tuple[Family, Family, str]] = [
        (names.AVERAGE_KV_CACHE, names.DEVIATION_KV_CACHE, "kv_cache_usage"),
        (names.AVERAGE_QUEUE, names.DEVIATION_QUEUE, "waiting_queue_size"),
        (names.AVERAGE_RUNNING, names.DEVIATION_RUNNING, "running_requests"),
    ]
    for average, deviation, signal in columns:
        column: Sequence[float] = getattr(snapshot, signal)
        unknown = snapshot.unknown.get(signal, 0)
        values = [column[slot] for slot in slots if not unknown >> slot & 1]
        if values:
            mean = fsum(values) / len(values)
            # Of a sample, as the reference computes it.
            squares = fsum((value - mean) ** 2 for value in values)
            yield numbers(average, [((name,), mean)])
            yield numbers(deviation, [((name,), sqrt(squares / max(1, len(values) - 1)))])


def _endpoints(name: str, snapshot: Snapshot, slots: Sequence[int], ages: Sequence[float]) -> Iterator[Metric]:
    labels = [(name, _name_of(snapshot.fleet.at(slot).id)) for slot in slots]
    queues = [snapshot.metrics[slot].waiting_queue_size for slot in slots]
    yield numbers(names.ENDPOINT_QUEUE, zip(labels, queues, strict=True))
    # What was never observed has no age.
    known = (pair for pair in zip(labels, ages, strict=True) if isfinite(pair[1]))
    yield numbers(names.METRICS_AGE, known)


def _reserved(name: str, load: ReservedLoad, slots: set[int]) -> Iterator[Metric]:
    endpoints = [(slot, load.fleet.at(slot)) for slot in load.fleet.slots if slot in slots]
    yield numbers(
        names.INFLIGHT_REQUESTS,
        [
            ((_name_of(endpoint.id), endpoint.namespace, "scheduler", "", ""), load.in_flight[slot])
            for slot, endpoint in endpoints
        ],
    )
    yield numbers(
        names.PENDING_REQUESTS,
        [((name, _name_of(endpoint.id)), load.pending[slot]) for slot, endpoint in endpoints],
    )


def _name_of(endpoint_id: str) -> str:
    return endpoint_id.partition("/")[2]
