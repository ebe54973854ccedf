"""From the text of a model server's ``/metrics`` page to `EndpointMetrics`. Pure functions, no I/O."""

from inferencepool.adapters.exposition._engines import ENGINES, Engine, Engines, detect_engine, engine_named
from inferencepool.adapters.exposition._page_reader import PageReader
from inferencepool.adapters.exposition._reading import MetricsReading, read_metrics, read_page
from inferencepool.adapters.exposition._samples import MAX_PAGE_SIZE, Sample, iterate_samples, parse_page
from inferencepool.adapters.exposition._specs import Combine, MetricSpec

__all__ = [
    "ENGINES",
    "MAX_PAGE_SIZE",
    "Combine",
    "Engine",
    "Engines",
    "MetricSpec",
    "MetricsReading",
    "PageReader",
    "Sample",
    "detect_engine",
    "engine_named",
    "iterate_samples",
    "parse_page",
    "read_metrics",
    "read_page",
]
