"""Pages of metrics, read by two parsers that share nothing."""

from __future__ import annotations

from typing import TypeAlias

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from inferencepool.adapters.exposition import parse_page
from inferencepool.runtime.exporter import MetricsPage
from inferencepool.runtime.http import PageRequest

__all__ = ["Values", "page_of", "read", "shown", "value_of"]

Values: TypeAlias = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Value of each sample by its name and its labels."""


def page_of(*collectors: Collector, deprecated: bool = False) -> bytes:
    """Give the page that shows what *collectors* tell."""
    return MetricsPage(*collectors, deprecated=deprecated)(PageRequest(path="/metrics")).body


def read(page: bytes) -> Values:
    """Read a page with both parsers, which have to agree; no sample may come twice."""
    ours = parse_page(page)
    theirs = [sample for family in text_string_to_metric_families(page.decode()) for sample in family.samples]
    values = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in ours}
    assert len(values) == len(ours)
    assert values == {(sample.name, frozenset(sample.labels.items())): sample.value for sample in theirs}
    return values


def shown(*collectors: Collector, deprecated: bool = False) -> Values:
    """Give what the page of *collectors* says."""
    return read(page_of(*collectors, deprecated=deprecated))


def value_of(values: Values, name: str, /, **labels: str) -> float | None:
    """Give one value; None where there is none."""
    return values.get((name, frozenset(labels.items())))
