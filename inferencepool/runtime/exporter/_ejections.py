"""`EjectionMetrics`: which endpoints are ejected, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import final

from inferencepool.errors import ConfigurationError
from inferencepool.model import EjectionReason
from inferencepool.registry import EndpointRegistry
from inferencepool.runtime.exporter import _families as names
from inferencepool.runtime.exporter._prometheus import Metric, numbers

__all__ = ["EjectionMetrics"]


@final
class EjectionMetrics:
    """
    Tells how many endpoints of a registry are ejected at the moment it is asked, and how often any was, by reason.

    A collector, for a ``CollectorRegistry`` of prometheus-client. It has no state.
    """

    def __init__(self, registry: EndpointRegistry, *, most_endpoints: int = 100) -> None:
        """
        Tell of the endpoints of *registry*.

        Args:
            registry: Whose endpoints; the label ``name`` is its pool's name, empty where there is no pool.
            most_endpoints: Of each endpoint it is told whether it is ejected where there are no more than these; 0 or
                more.

        Raises:
            ConfigurationError: *most_endpoints* is not allowed.
        """
        if type(most_endpoints) is not int or most_endpoints < 0:
            message = f"metrics: most_endpoints: {most_endpoints!r} is not a whole number of 0 or more"
            raise ConfigurationError(message)
        self._registry = registry
        self._most_endpoints = most_endpoints

    def collect(self) -> list[Metric]:
        """Give all of them, in O(endpoints); reasons that nobody is ejected for are there, as 0."""
        return list(self._collect())

    def _collect(self) -> Iterator[Metric]:
        registry = self._registry
        # Where nobody picks, nobody else looks whether an endpoint is stalled.
        endpoints = registry.endpoints()
        ejections, counts = registry.health.ejections(), registry.health.counts()
        name = registry.pool.name if registry.pool is not None else ""
        ejected = Counter(reason for _, reason in {(endpoint.id, each.reason) for endpoint, each in ejections})
        yield numbers(names.ENDPOINT_EJECTIONS, [((name, reason), counts.get(reason, 0)) for reason in EjectionReason])
        yield numbers(names.EJECTED_ENDPOINTS, [((name, reason), ejected[reason]) for reason in EjectionReason])
        if len(endpoints) <= self._most_endpoints:
            for_all = {endpoint.id for endpoint, each in ejections if not each.model}
            told = [((name, each.id.partition("/")[2]), int(each.id in for_all)) for each in endpoints]
            yield numbers(names.ENDPOINT_EJECTED, told)
