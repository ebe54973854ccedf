"""From the samples of a page to the metrics of an endpoint."""

from __future__ import annotations

import re
from math import isfinite
from typing import Any

import attrs

from inferencepool.adapters.exposition._engines import ENGINES, Engine, engine_named, match_engine
from inferencepool.adapters.exposition._samples import Sample, iterate_samples
from inferencepool.adapters.exposition._specs import MetricSpec
from inferencepool.errors import InvalidMetricsError
from inferencepool.model import EndpointMetrics

__all__ = ["MetricsReading", "read_metrics", "read_page"]

_SINGLE_VALUED = frozenset({"counter", "gauge", "untyped", "unknown"})
_COUNT = re.compile(r"[0-9]{1,18}")
# What vLLM writes into a label while it does not know the number of blocks yet.
_UNKNOWN = "None"

_RUNNING_ADAPTERS = "running_lora_adapters"
_WAITING_ADAPTERS = "waiting_lora_adapters"
_MAX_ADAPTERS = "max_lora"


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
    enough: the other fields keep their value of *previous*. One impossible value refuses the whole page.

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
    reader = _Reader(samples)
    found = reader.read(engine or match_engine(samples))
    metrics = attrs.evolve(previous or EndpointMetrics(), **found, observed_at=observed_at)
    return MetricsReading(metrics=metrics, engine=reader.engine, missing=tuple(reader.missing))


class _Reader:
    """Looks up one field after the other and notes what is missing."""

    def __init__(self, samples: tuple[Sample, ...]) -> None:
        self.engine: Engine | None = None
        self.missing: list[str] = []
        self._samples = samples
        self._found: dict[str, Any] = {}

    def read(self, engine: Engine) -> dict[str, Any]:
        self.engine = engine
        self._read_count("waiting_queue_size", engine.queued_requests)
        self._read_count("running_requests", engine.running_requests)
        self._read_share("kv_cache_usage", engine.kv_usage)
        if engine.cache_info is not None:
            self._read_cache_labels(engine, engine.cache_info)
        self._read_count("cache_block_size", engine.cache_block_size)
        self._read_count("cache_num_blocks", engine.cache_num_blocks)
        if engine.lora is not None:
            self._read_adapters(engine.lora)
        if not self._found:
            looked_for = ", ".join(str(spec) for spec in engine.specs) or "nothing: every metric is disabled"
            message = f"metrics page: holds no metrics of engine {engine.name!r}; looked for {looked_for}"
            raise InvalidMetricsError(message)
        return self._found

    def _read_count(self, field: str, spec: MetricSpec | None) -> None:
        sample = self._find(spec)
        if sample is not None:
            if not sample.value.is_integer():
                raise _refusal(sample, sample.value, "a whole number of 0 or more")
            self._found[field] = int(sample.value)

    def _read_share(self, field: str, spec: MetricSpec | None) -> None:
        sample = self._find(spec)
        if sample is not None:
            if sample.value > 1:
                raise _refusal(sample, sample.value, "a number from 0 to 1")
            # Adding zero turns -0.0 into 0.0.
            self._found[field] = sample.value + 0.0

    def _read_cache_labels(self, engine: Engine, spec: MetricSpec) -> None:
        sample = self._find(spec)
        if sample is not None:
            self._read_label("cache_block_size", sample, engine.cache_block_size_label)
            self._read_label("cache_num_blocks", sample, engine.cache_num_blocks_label)

    def _read_adapters(self, spec: MetricSpec) -> None:
        series = [sample for sample in self._samples if spec.matches(sample)]
        if not series:
            return
        for sample in series:
            _check(sample)
        latest = max(series, key=lambda sample: sample.value)
        for field, label in (("active_models", _RUNNING_ADAPTERS), ("waiting_models", _WAITING_ADAPTERS)):
            if label in latest.labels:
                names = (name.strip() for name in latest.labels[label].split(","))
                self._found[field] = frozenset(name for name in names if name)
            else:
                self.missing.append(f"{latest.name}[{label}]")
        self._read_label("max_active_models", latest, _MAX_ADAPTERS)

    def _read_label(self, field: str, sample: Sample, label: str) -> None:
        text = sample.labels.get(label, _UNKNOWN).strip()
        if text == _UNKNOWN:
            self.missing.append(f"{sample.name}[{label}]")
        elif _COUNT.fullmatch(text):
            self._found[field] = int(text)
        else:
            raise _refusal(sample, text, "a whole number of 0 or more", label)

    def _find(self, spec: MetricSpec | None) -> Sample | None:
        if spec is None:
            return None
        sample = spec.find_latest(self._samples)
        if sample is None:
            self.missing.append(str(spec))
        else:
            _check(sample)
        return sample


def _check(sample: Sample) -> None:
    if sample.type not in _SINGLE_VALUED:
        raise _refusal(sample, sample.type, "a gauge or a counter")
    if not isfinite(sample.value) or sample.value < 0:
        raise _refusal(sample, sample.value, "a finite number of 0 or more")


def _refusal(sample: Sample, value: object, allowed: str, label: str = "") -> InvalidMetricsError:
    where = f"label {label} of {sample.name}" if label else sample.name
    return InvalidMetricsError(f"metrics page, line {sample.line}: {where}: {value!r} is not {allowed}")
