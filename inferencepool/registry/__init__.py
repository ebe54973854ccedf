"""What exists and how loaded it is: changes in, snapshots out."""

from inferencepool.registry._changes import (
    Change,
    EndpointsListed,
    MembershipChange,
    MetricsObserved,
    PodDeleted,
    PodsListed,
    PodUpserted,
    PoolChanged,
)
from inferencepool.registry._registry import EndpointRegistry, RegistryStatistics
from inferencepool.registry._staleness import StaleMetrics, Staleness

__all__ = [
    "Change",
    "EndpointRegistry",
    "EndpointsListed",
    "MembershipChange",
    "MetricsObserved",
    "PodDeleted",
    "PodUpserted",
    "PodsListed",
    "PoolChanged",
    "RegistryStatistics",
    "StaleMetrics",
    "Staleness",
]
