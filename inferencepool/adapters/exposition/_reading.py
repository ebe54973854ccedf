"""From the samples of a page to the metrics of an endpoint."""

from __future__ import annotations

from typing import Any

import attrs

from inferencepool.adapters.exposition._engines import ENGINES, Engine, engine_named, match_engine
from inferencepool.adapters.exposition._rules import apply_rules, nothing_found
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
    """

    metrics: EndpointMetrics
    engine: Engine | None = None
    missing: tuple[str, ...] = ()


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

    Of several series of a metric the one with the greatest timestamp counts, the first where the page gives none; of
    LoRA series the one with the greatest value (protocol reference, section 5.1). A page with some of the metrics is
    enough: the other fields keep their value of *previous*. One impossible value refuses the whole page; for pages that
    come again and again there is `PageReader`, for which it spoils one field.

    Args:
        page: The text of the page, or its bytes.
        engine: Whose metrics to look for: an engine, a name in `ENGINES`, or None to find out from the page.
        previous: What was known before; None stands for nothing.
        observed_at: When the page was asked for, in seconds of the registry's clock.

    Returns:
        The metrics, the engine and what is missing.

    Raises:
        InvalidMetricsError: The page cannot be read, holds none of the metrics, or a value that cannot be: NaN,
            infinite, negative, a count that is not whole, a share above 1. The message names the metric and the value.
        ConfigurationError: No engine has that name.
    """
    if isinstance(engine, str):
        engine = engine_named(engine)
    wanted = {spec.name for each in ([engine] if engine else ENGINES.values()) for spec in each.specs}
    samples = tuple(sample for sample in iterate_samples(page) if sample.name in wanted)
    engine = engine or match_engine(samples)
    findings = apply_rules(engine, samples)
    for problem in findings.wrong.values():
        raise InvalidMetricsError(problem)
    if not findings.values:
        raise nothing_found(engine)
    values: dict[str, Any] = findings.values
    metrics = attrs.evolve(previous or EndpointMetrics(), **values, observed_at=observed_at)
    return MetricsReading(metrics=metrics, engine=engine, missing=tuple(findings.missing))
