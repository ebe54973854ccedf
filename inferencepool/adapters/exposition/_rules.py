"""What the series of an engine's metrics say about an endpoint: one rule for each field of `EndpointMetrics`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from typing import TypeVar

import attrs

from inferencepool.adapters.exposition._engines import Engine
from inferencepool.adapters.exposition._samples import Series
from inferencepool.adapters.exposition._specs import MetricSpec
from inferencepool.errors import InvalidMetricsError

__all__ = [
    "MAX_ADAPTERS",
    "SINGLE_VALUED",
    "Findings",
    "apply_rules",
    "count_of",
    "is_later_list",
    "latest_adapters",
    "nothing_found",
    "share_of",
]

#: Types of metrics with one number for each series.
SINGLE_VALUED = frozenset({"counter", "gauge", "untyped", "unknown"})
#: Most LoRA adapters of an endpoint that run, and that wait, of which the names are taken.
MAX_ADAPTERS = 512
# How much of a label's text an error shows.
_SHOWN = 80
_COUNT = re.compile(r"[0-9]{1,18}")
# What no server has more of anything; see `EndpointMetrics`.
_MOST = 2**31 - 1
# What vLLM writes into a label while it does not know the number of blocks yet.
_UNKNOWN = "None"

_RUNNING_ADAPTERS = "running_lora_adapters"
_WAITING_ADAPTERS = "waiting_lora_adapters"
_MAX_ADAPTERS = "max_lora"

_A_COUNT = f"a whole number from 0 to {_MOST}"


_S = TypeVar("_S", bound=Series)


@attrs.define(eq=False)
class Findings:
    """
    What was found out about the fields of `EndpointMetrics`.

    Attributes:
        values: Values by field.
        missing: What there is no series or label for.
        wrong: Why there is no value, by field, where the series or label has an impossible one.
    """

    values: dict[str, object] = attrs.field(factory=dict)
    missing: list[str] = attrs.field(factory=list)
    wrong: dict[str, str] = attrs.field(factory=dict)


def apply_rules(engine: Engine, series: Sequence[Series]) -> Findings:
    """
    Read every field that *engine* has a metric for.

    Of several series of a metric the one with the greatest timestamp counts, the first where the page gives none; of
    LoRA series the one with the greatest value (protocol reference, section 5.1).
    """
    findings = Findings()
    _read_number(findings, "waiting_queue_size", engine.queued_requests, series)
    _read_number(findings, "running_requests", engine.running_requests, series)
    _read_number(findings, "kv_cache_usage", engine.kv_usage, series)
    if engine.cache_info is not None:
        _read_cache_labels(findings, engine, engine.cache_info, series)
    _read_number(findings, "cache_block_size", engine.cache_block_size, series)
    _read_number(findings, "cache_num_blocks", engine.cache_num_blocks, series)
    if engine.lora is not None:
        _read_adapters(findings, engine.lora, series)
    return findings


def nothing_found(engine: Engine) -> InvalidMetricsError:
    """Build the error for a page that holds none of the engine's metrics."""
    looked_for = ", ".join(str(spec) for spec in engine.specs) or "nothing: every metric is disabled"
    message = f"metrics page: holds no metrics of engine {engine.name!r}; looked for {looked_for}"
    return InvalidMetricsError(message)


def count_of(value: float) -> int | None:
    """Give *value* as a count; None where it is none."""
    return int(value) if 0 <= value <= _MOST and value == int(value) else None


def share_of(value: float) -> float | None:
    """Give *value* as a share of 1; None where it is none."""
    # Adding zero turns -0.0 into 0.0.
    return value + 0.0 if 0 <= value <= 1 else None


def latest_adapters(series: Sequence[_S]) -> _S:
    """Give the LoRA series that counts: the one with the greatest value, the first of equals; NaN never does."""
    return max(series, key=_time_of_list)


def is_later_list(series: Series, other: Series) -> bool:
    """Tell whether the LoRA series *series* counts more than *other*, which stands before it in the page."""
    return _time_of_list(series) > _time_of_list(other)


def _time_of_list(series: Series) -> float:
    return series.value if series.value == series.value else -1.0


def _read_number(findings: Findings, field: str, spec: MetricSpec | None, series: Sequence[Series]) -> None:
    found = _find(findings, spec, series)
    if found is None:
        return
    if problem := _problem_of(found):
        findings.wrong[field] = problem
        return
    is_share = field == "kv_cache_usage"
    value = share_of(found.value) if is_share else count_of(found.value)
    if value is None:
        findings.wrong[field] = _refusal(found, found.value, "a number from 0 to 1" if is_share else _A_COUNT)
    else:
        findings.values[field] = value


def _read_cache_labels(findings: Findings, engine: Engine, spec: MetricSpec, series: Sequence[Series]) -> None:
    found = _find(findings, spec, series)
    if found is None:
        return
    for field, label in (
        ("cache_block_size", engine.cache_block_size_label),
        ("cache_num_blocks", engine.cache_num_blocks_label),
    ):
        if problem := _problem_of(found):
            findings.wrong[field] = problem
        else:
            _read_label(findings, field, found, label)


def _read_adapters(findings: Findings, spec: MetricSpec, series: Sequence[Series]) -> None:
    # Servers write none until an adapter is used, so none is not missing.
    matching = [each for each in series if spec.matches(each)]
    if not matching:
        return
    latest = latest_adapters(matching)
    if problem := _problem_of(latest):
        findings.wrong.update(dict.fromkeys(("active_models", "waiting_models", "max_active_models"), problem))
        return
    for field, label in (("active_models", _RUNNING_ADAPTERS), ("waiting_models", _WAITING_ADAPTERS)):
        if label in latest.labels:
            names, rest = _read_names(latest.labels[label])
            findings.values[field] = names
            if rest:
                findings.missing.append(f"{latest.name}[{label}] beyond {MAX_ADAPTERS} names")
        else:
            findings.missing.append(f"{latest.name}[{label}]")
    _read_label(findings, "max_active_models", latest, _MAX_ADAPTERS)


def _read_names(text: str) -> tuple[frozenset[str], str]:
    """Give the first `MAX_ADAPTERS` names of a list, and what follows them."""
    *words, rest = f"{text},".split(",", MAX_ADAPTERS)
    return frozenset(name for word in words if (name := word.strip())), rest.strip(" ,")


def _read_label(findings: Findings, field: str, series: Series, label: str) -> None:
    text = series.labels.get(label, _UNKNOWN).strip()
    if text == _UNKNOWN:
        findings.missing.append(f"{series.name}[{label}]")
    elif _COUNT.fullmatch(text) and int(text) <= _MOST:
        findings.values[field] = int(text)
    else:
        findings.wrong[field] = _refusal(series, text, _A_COUNT, label)


def _find(findings: Findings, spec: MetricSpec | None, series: Sequence[Series]) -> Series | None:
    if spec is None:
        return None
    found = spec.find_latest(series)
    if found is None:
        findings.missing.append(str(spec))
    return found


def _problem_of(series: Series) -> str:
    if series.type not in SINGLE_VALUED:
        return _refusal(series, series.type, "a gauge or a counter")
    if not isfinite(series.value) or series.value < 0:
        return _refusal(series, series.value, "a finite number of 0 or more")
    return ""


def _refusal(series: Series, value: object, allowed: str, label: str = "") -> str:
    where = f"label {label} of {series.name}" if label else series.name
    line = f", line {series.line}" if series.line else ""
    shown = f"{value[:_SHOWN]}..." if isinstance(value, str) and len(value) > _SHOWN else value
    return f"metrics page{line}: {where}: {shown!r} is not {allowed}"
