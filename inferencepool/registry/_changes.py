"""What may happen to a pool and its pods, as values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import attrs

from inferencepool.model import Endpoint, EndpointMetrics, InferencePool, Pod

__all__ = [
    "Change",
    "EndpointsListed",
    "MembershipChange",
    "MetricsObserved",
    "PodDeleted",
    "PodUpserted",
    "PodsListed",
    "PoolChanged",
]


@attrs.frozen
class PodUpserted:
    """A pod was created or changed."""

    pod: Pod


@attrs.frozen
class PodDeleted:
    """A pod is gone."""

    namespace: str
    name: str


@attrs.frozen
class PodsListed:
    """These pods, and no others, exist."""

    pods: tuple[Pod, ...]


@attrs.frozen
class EndpointsListed:
    """These endpoints, which belong to no pool, and no others of that kind, exist."""

    endpoints: tuple[Endpoint, ...]


@attrs.frozen
class PoolChanged:
    """
    The pool was created or changed; None when it is gone.

    Attributes:
        pool: The pool.
        pods: All pods that exist, where they are known together with it; None for no news of them.
    """

    pool: InferencePool | None
    pods: tuple[Pod, ...] | None = None


@attrs.frozen
class MetricsObserved:
    """An endpoint reported its load."""

    endpoint_id: str
    metrics: EndpointMetrics


Change: TypeAlias = PodUpserted | PodDeleted | PodsListed | EndpointsListed | PoolChanged | MetricsObserved


@attrs.frozen
class MembershipChange:
    """
    What a subscriber is told: endpoints came, changed in place, or went.

    Attributes:
        added: New endpoints.
        updated: Endpoints whose labels, node or number of restarts changed while their address stayed.
        removed: Endpoints that are gone.
    """

    added: tuple[Endpoint, ...] = ()
    updated: tuple[Endpoint, ...] = ()
    removed: tuple[Endpoint, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.updated or self.removed)

    @classmethod
    def of(cls, changes: Iterable[MembershipChange]) -> MembershipChange:
        """Put several together."""
        changes = tuple(changes)
        return cls(
            tuple(endpoint for change in changes for endpoint in change.added),
            tuple(endpoint for change in changes for endpoint in change.updated),
            tuple(endpoint for change in changes for endpoint in change.removed),
        )
