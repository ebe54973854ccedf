"""The picker's metrics about itself, for Prometheus: the reference's names, labels and buckets."""

from inferencepool.runtime.exporter._counts import (
    LimitMetrics,
    PrefixCounts,
    PrefixMetrics,
    ScrapeCounts,
    ScrapeMetrics,
)
from inferencepool.runtime.exporter._deprecated import DeprecatedNames
from inferencepool.runtime.exporter._ejections import EjectionMetrics
from inferencepool.runtime.exporter._families import FAMILIES, Family
from inferencepool.runtime.exporter._limits import CardinalityLimits
from inferencepool.runtime.exporter._page import MetricsPage
from inferencepool.runtime.exporter._pool import PoolMetrics
from inferencepool.runtime.exporter._requests import RequestMetrics
from inferencepool.runtime.exporter._streams import StreamMetrics
from inferencepool.runtime.exporter._told import ToldMetric

__all__ = [
    "FAMILIES",
    "CardinalityLimits",
    "DeprecatedNames",
    "EjectionMetrics",
    "Family",
    "LimitMetrics",
    "MetricsPage",
    "PoolMetrics",
    "PrefixCounts",
    "PrefixMetrics",
    "RequestMetrics",
    "ScrapeCounts",
    "ScrapeMetrics",
    "StreamMetrics",
    "ToldMetric",
]
