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
from inferencepool.registry._health import EjectionChange, EndpointHealth
from inferencepool.registry._outlier_detection import OutlierDetection
from inferencepool.registry._registry import EndpointRegistry, RegistryStatistics
from inferencepool.registry._staleness import StaleMetrics, Staleness

__all__ = [
    "Change",
    "EjectionChange",
    "EndpointHealth",
    "EndpointRegistry",
    "EndpointsListed",
    "MembershipChange",
    "MetricsObserved",
    "OutlierDetection",
    "PodDeleted",
    "PodUpserted",
    "PodsListed",
    "PoolChanged",
    "RegistryStatistics",
    "StaleMetrics",
    "Staleness",
]
