"""The histogram that is filled with many values at a time."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as PrometheusHistogram

from inferencepool.runtime.exporter._histogram import Histogram

EDGES = (0.1, 1.0, 2.5)
_VALUES = st.lists(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.11, 1.0, 2.5, 2.6, 1e9]) | st.floats(0, 10)))


@given(batches=_VALUES)
def test_against_prometheus_client(batches: list[list[float]]) -> None:
    """Whatever comes in whatever portions, the counts and the sum are those of prometheus-client."""
    ours = Histogram(EDGES)
    registry = CollectorRegistry()
    theirs = PrometheusHistogram("h", "h", registry=registry, buckets=EDGES)
    for batch in batches:
        ours.observe(batch)
        for value in batch:
            theirs.observe(value)

    counts = [registry.get_sample_value("h_bucket", {"le": edge}) for edge in ("0.1", "1.0", "2.5", "+Inf")]
    assert counts == [count for _, count in ours.buckets()]
    assert registry.get_sample_value("h_sum") == pytest.approx(ours.total)


def test_edges() -> None:
    """A value that equals an edge belongs to the bucket that ends there; the last bucket has no end."""
    histogram = Histogram(EDGES)
    histogram.observe([0.1, 1.0, 3.0])

    assert [(0.1, 1), (1.0, 2), (2.5, 2), (inf, 3)] == histogram.buckets()
