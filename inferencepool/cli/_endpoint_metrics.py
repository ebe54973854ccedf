"""Giving the metrics of a file to the endpoints that they are about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from inferencepool.adapters.exposition import MetricsReading
from inferencepool.cli._input_file import display_name
from inferencepool.cli._metrics_file import MetricsFile
from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model import Endpoint, Fleet, InferencePool, Pod, join_host_port, to_slots
from inferencepool.registry import EndpointRegistry
from inferencepool.selection import narrow

__all__ = ["apply_metrics"]

_SHOWN = 5


def apply_metrics(registry: EndpointRegistry, pods: Sequence[Pod], file: MetricsFile) -> list[str]:
    """
    Give the metrics of *file* to the endpoints in *registry*; all of them, or none where something is wrong.

    A key is an endpoint's id, ``ip:port``, or a pod's IP address or name, with or without namespace, for all its
    endpoints.

    Args:
        registry: What exists.
        pods: All pods that the registry was told about, members or not.
        file: What the metrics file says.

    Returns:
        What the user should know: metrics that a page lacks, and those of pods that are no members of the pool.

    Raises:
        InvalidDocumentError: A key names nothing, or endpoints of several pods, or an endpoint that another key names.
    """
    fleet = registry.publish().fleet
    source = display_name(file.file)
    if file.for_all is not None:
        for slot in fleet.slots:
            registry.observe_metrics(fleet.at(slot).id, file.for_all.metrics)
        return list(_missing(source, file.for_all))
    index = _Index(registry.pool, fleet, pods)
    issues: list[Issue] = []
    notes: list[str] = []
    named: dict[str, tuple[str, MetricsReading]] = {}
    for key, reading in file.by_key.items():
        found = index.find(key)
        reason = index.refusal(key, found)
        if reason:
            issues.append(Issue(str(key), reason, key))
        for endpoint in found:
            if endpoint.id in named:
                other = named[endpoint.id][0]
                issues.append(Issue(str(key), f"names endpoint {endpoint.id}, as key {other} does", key))
            named.setdefault(endpoint.id, (key, reading))
        if not found:
            notes.append(f"{source}: {key}: not used, no endpoint of the pool")
        notes += _missing(f"{source}: {key}", reading)
    if issues:
        raise InvalidDocumentError(issues, source=source)
    for endpoint_id, (_, reading) in named.items():
        registry.observe_metrics(endpoint_id, reading.metrics)
    return notes


def _missing(source: str, reading: MetricsReading) -> Iterator[str]:
    if reading.missing:
        yield f"{source}: the page has no {', '.join(reading.missing)}; taken as not reported"


class _Index:
    """Finds endpoints by what people call them."""

    def __init__(self, pool: InferencePool | None, fleet: Fleet, pods: Sequence[Pod]) -> None:
        self._fleet = fleet
        self._by_name: dict[str, list[Endpoint]] = {}
        for slot in fleet.slots:
            endpoint = fleet.at(slot)
            for name in (endpoint.id, f"{endpoint.namespace}/{endpoint.pod_name}", endpoint.pod_name):
                self._by_name.setdefault(name, []).append(endpoint)
        self._possible = frozenset(name for pod in pods for name in _possible_names(pool, pod))

    def find(self, key: str) -> list[Endpoint]:
        found = self._by_name.get(str(key))
        return found if found is not None else [self._fleet.at(slot) for slot in to_slots(narrow(self._fleet, [key]))]

    def refusal(self, key: str, found: Sequence[Endpoint]) -> str:
        """Say why the endpoints *found* for *key* cannot be what it names; empty if they can, or if it is no member."""
        owners = sorted({f"{endpoint.namespace}/{endpoint.pod_name}" for endpoint in found})
        if len(owners) > 1:
            return f"is ambiguous: names endpoints of pods {', '.join(owners)}"
        if found or str(key) in self._possible:
            return ""
        known = sorted(self._by_name)
        shown = get_close_matches(str(key), known, n=_SHOWN) or known[:_SHOWN]
        hint = f"known are, for instance, {', '.join(shown)}" if shown else "the pool has no endpoints"
        return f"names no endpoint and no pod; {hint}"


def _possible_names(pool: InferencePool | None, pod: Pod) -> Iterator[str]:
    """Give all that *pod* and its endpoints are called, as if all were endpoints of *pool*."""
    name = f"{pod.namespace}/{pod.name}"
    yield from (pod.name, name)
    ports = pool.target_ports if pool is not None else ()
    yield from (f"{name}-rank-{rank}" for rank in range(len(ports)))
    if pod.ip:
        yield pod.ip
        yield from (join_host_port(pod.ip, port.number) for port in ports)
