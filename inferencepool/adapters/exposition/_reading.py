"""From the samples of a page to the metrics of an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from inferencepool.adapters.exposition._candidates import Candidates
from inferencepool.adapters.exposition._engines import ENGINES, Engine, engine_named, match_engine
from inferencepool.adapters.exposition._rules import UNTOLD, apply_rules, nothing_found
from inferencepool.adapters.exposition._samples import iterate_samples
from inferencepool.errors import InvalidMetricsError
from inferencepool.model import EndpointMetrics

__all__ = ["MetricsReading", "read_metrics", "read_page"]


@attrs.frozen(kw_only=True)
class MetricsReading:
    """
    What a page told about an endpoint.

    Attributes:
        metrics: The metrics; a field that the page does not give has its former value.
        engine: The engine whose metrics were looked for; None when the metrics do not come from a page.
        missing: What the page lacks: a metric as ``name{label="value"}``, or a label of one as ``name[label]``. A LoRA
            metric that is absent is not listed: servers write none until an adapter is used.
        wrong: What is wrong with a number of the page, by the field for which another one was taken.
    """

    metrics: EndpointMetrics
    engine: Engine | None = None
    missing: tuple[str, ...] = ()
    wrong: Mapping[str, str] = attrs.field(factory=dict)


def read_metrics(
    page: str | bytes,
    engine: Engine | str | None = None,
    previous: EndpointMetrics | None = None,
    observed_at: float | None = None,
) -> EndpointMetrics:
    """Read the metrics of an endpoint from a page; `read_page` takes the same and tells more."""
    return read_page(page, engine, previous, observed_at).metrics


def read_page(
    page: str | bytes,
    engine: Engine | str | None = None,
    previous: EndpointMetrics | None = None,
    observed_at: float | None = None,
) -> MetricsReading:
    """
    Read the metrics of an endpoint from a page, and what the page lacks.

    Where a page has the series of several engines, all of them count (`Combine`); of one engine's LoRA series the one
    with the greatest value does (protocol reference, section 5.1). A page with some of the metrics is enough: the other
    fields keep their value of *previous*. For a number that cannot be the nearest that can is taken: a share above 1
    counts as 1, a count below 0 as 0, one with a fraction as the nearest, one beyond 2^31 - 1 as that. NaN, a label
    that is no number, or a metric that is no gauge or counter, refuses the page; for pages that come again and again
    there is `PageReader`, for which a field that is NaN is unknown, and the others spoil one field.

    Args:
        page: The text of the page, or its bytes.
        engine: Whose metrics to look for: an engine, a name in `ENGINES`, or None to find out from the page.
        previous: What was known before; None stands for nothing.
        observed_at: When the page was asked for, in seconds of the registry's clock.

    Returns:
        The metrics, the engine and what is missing.

    Raises:
        InvalidMetricsError: The page cannot be read, holds none of the metrics, or something else where a number is
            meant. The message names the metric and the value.
        ConfigurationError: No engine has that name.
    """
    if isinstance(engine, str):
        engine = engine_named(engine)
    wanted = frozenset[str]().union(*(each.names for each in ([engine] if engine else ENGINES.values())))
    samples = tuple(sample for sample in iterate_samples(page) if sample.name in wanted)
    engine = engine or match_engine(samples)
    findings = apply_rules(engine, Candidates(engine, samples))
    for field, problem in findings.wrong.items():
        if field not in findings.values or findings.values[field] is UNTOLD.get(field):
            raise InvalidMetricsError(problem)
    if findings.tell_nothing:
        raise nothing_found(engine)
    values: dict[str, Any] = findings.values
    metrics = attrs.evolve(previous or EndpointMetrics(), **values, observed_at=observed_at)
    return MetricsReading(metrics=metrics, engine=engine, missing=tuple(findings.missing), wrong=findings.wrong)
