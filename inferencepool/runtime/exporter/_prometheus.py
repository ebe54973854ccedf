"""From numbers to what prometheus-client writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from inferencepool.errors import MissingExtraError
from inferencepool.runtime.exporter._families import Family
from inferencepool.runtime.exporter._histogram import Histogram

try:
    from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
    from prometheus_client.registry import Collector
    from prometheus_client.samples import Sample
    from prometheus_client.utils import floatToGoString
except ImportError:
    _MESSAGE = 'exporting metrics needs prometheus-client: pip install "inferencepool[epp]"'
    raise MissingExtraError(_MESSAGE) from None

__all__ = [
    "Collector",
    "CollectorRegistry",
    "Labels",
    "Metric",
    "ProcessCollector",
    "Sample",
    "generate_latest",
    "histograms",
    "numbers",
]

Labels: TypeAlias = Sequence[str]


def numbers(family: Family, values: Iterable[tuple[Labels, float]]) -> Metric:
    """Give a counter or a gauge with *values*, each behind its labels' values."""
    metric = _metric(family)
    metric.samples = [
        Sample(family.name, dict(zip(family.labels, labels, strict=True)), value) for labels, value in values
    ]
    return metric


def histograms(family: Family, values: Iterable[tuple[Labels, Histogram]]) -> Metric:
    """Give a family of histograms, each behind its labels' values."""
    metric = _metric(family)
    bucket, count, total = (f"{family.name}_{ending}" for ending in ("bucket", "count", "sum"))
    samples = metric.samples
    for values_of_labels, histogram in values:
        labels = dict(zip(family.labels, values_of_labels, strict=True))
        number = 0
        for edge, number in histogram.buckets():
            text = floatToGoString(edge)  # type: ignore[no-untyped-call]  # it takes a float
            samples.append(Sample(bucket, {**labels, "le": text}, number))
        samples.append(Sample(count, labels, number))
        samples.append(Sample(total, labels, histogram.total))
    return metric


def _metric(family: Family) -> Metric:
    # prometheus-client names a counter without the ending that its samples have.
    name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
    return Metric(name, family.text, family.kind)
