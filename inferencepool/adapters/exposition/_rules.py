"""What the series of an engine's metrics say about an endpoint: one rule for each field of `EndpointMetrics`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from math import floor, fsum, isnan
from typing import Any, Final, TypeAlias

import attrs

from inferencepool.adapters.exposition._candidates import ADAPTER_LABELS, Candidates, latest_adapters
from inferencepool.adapters.exposition._engines import Engine
from inferencepool.adapters.exposition._samples import Series
from inferencepool.adapters.exposition._specs import Combine, MetricSpec
from inferencepool.errors import InvalidMetricsError
from inferencepool.model._metrics import UNTOLD_COUNT, UNTOLD_SHARE

__all__ = [
    "MAX_ADAPTERS",
    "SINGLE_VALUED",
    "UNTOLD",
    "Findings",
    "apply_rules",
    "combined",
    "count_of",
    "nearest_count",
    "nothing_found",
    "share_of",
    "weights_of",
]

#: Types of metrics with one number for each series.
SINGLE_VALUED: Final = frozenset({"counter", "gauge", "untyped", "unknown"})
#: Most LoRA adapters of an endpoint that run, and that wait, of which the names are taken.
MAX_ADAPTERS: Final = 512
# How much of a label's text an error shows.
_SHOWN: Final = 80
_NUMBER: Final = re.compile(r"[+-]?+[0-9]++(?:\.[0-9]*+)?+(?:[eE][+-]?+[0-9]++)?+")
# What no server has more of anything; see `EndpointMetrics`.
_MOST: Final = 2**31 - 1
# What vLLM writes into a label while it does not know the number of blocks yet.
_UNKNOWN: Final = "None"

_RUNNING_ADAPTERS, _WAITING_ADAPTERS, _MAX_ADAPTERS = ADAPTER_LABELS
_USAGE: Final = "kv_cache_usage"
#: What stands for a signal that a page tells nothing about, by field.
UNTOLD: Final[Mapping[str, float]] = {
    "waiting_queue_size": UNTOLD_COUNT,
    "running_requests": UNTOLD_COUNT,
    _USAGE: UNTOLD_SHARE,
}
_COMBINE: Final = {_USAGE: Combine.MEAN, "cache_block_size": Combine.LATEST}

_A_COUNT: Final = f"a whole number from 0 to {_MOST}"
_A_SHARE: Final = "a number from 0 to 1"

_Found: TypeAlias = Candidates[Series]


@attrs.define(eq=False)
class Findings:
    """
    What was found out about the fields of `EndpointMetrics`.

    Attributes:
        values: Values by field.
        missing: What there is no series or label for.
        wrong: What is wrong with a number, by field. There is a value all the same where another number is near.
    """

    values: dict[str, object] = attrs.field(factory=dict)
    missing: list[str] = attrs.field(factory=list)
    wrong: dict[str, str] = attrs.field(factory=dict)

    @property
    def tell_nothing(self) -> bool:
        """Whether there is no value, save for what stands for none."""
        return all(value is UNTOLD.get(field) for field, value in self.values.items())


def apply_rules(engine: Engine, found: Candidates[Any]) -> Findings:
    """
    Read every field that *engine* has a metric for from the series that were *found*.

    A number that cannot be counts as the nearest one that can, and NaN as a signal that is unknown.
    """
    findings = Findings()
    _read_number(findings, "waiting_queue_size", engine.queued_requests, found)
    _read_number(findings, "running_requests", engine.running_requests, found)
    _read_number(findings, _USAGE, engine.kv_usage, found, weights_of(engine, found))
    if engine.cache_info is not None:
        _read_cache_labels(findings, engine, engine.cache_info, found)
    _read_number(findings, "cache_block_size", engine.cache_block_size, found)
    _read_number(findings, "cache_num_blocks", engine.cache_num_blocks, found)
    if engine.lora is not None:
        _read_adapters(findings, engine.lora, found)
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


def combined(values: Sequence[float], combine: Combine, weights: Sequence[float] | None = None) -> float:
    """Make one of the *values* of several engines; *weights* are those of a mean, None for equal ones."""
    if len(values) == 1:
        return values[0]
    if combine is Combine.SUM:
        return fsum(values)
    if combine is Combine.MEAN:
        if weights is None:
            return fsum(values) / len(values)
        return fsum(value * weight for value, weight in zip(values, weights, strict=True)) / fsum(weights)
    return max(values) if combine is Combine.GREATEST else values[0]


def weights_of(engine: Engine, found: Candidates[Any]) -> list[float] | None:
    """
    Give the blocks of the engine that each series of the KV cache's usage is of; None where those of one are not known.

    An engine's series of its blocks is the one that agrees in all labels that both metrics have.
    """
    spec, blocks_spec = engine.kv_usage, engine.cache_num_blocks or engine.cache_info
    usages = found.of(spec) if spec is not None else []
    blocks = found.of(blocks_spec) if blocks_spec is not None else []
    if spec is None or blocks_spec is None or len(usages) <= 1 or not blocks:
        return None
    keys = set(usages[0].labels).intersection(*(each.labels for each in (*usages, *blocks)))
    shared = sorted(keys.difference(spec.labels, blocks_spec.labels, engine.shard_labels))
    by_engine: dict[tuple[str, ...], float | None] = {}
    for each in blocks:
        key = tuple(each.labels[name] for name in shared)
        # Two for one engine tell nothing about it.
        by_engine[key] = None if key in by_engine else _blocks_of(engine, each)
    weights = [by_engine.get(tuple(each.labels[name] for name in shared)) for each in usages]
    known = [weight for weight in weights if weight]
    return known if len(known) == len(weights) else None


def _blocks_of(engine: Engine, series: Series) -> float | None:
    if engine.cache_num_blocks is not None:
        return _nearest(series.value, _MOST)
    text = series.labels.get(engine.cache_num_blocks_label, "").strip()
    return _nearest(float(text), _MOST) if _NUMBER.fullmatch(text) else None


def _nearest(value: float, most: int) -> float | None:
    """Give the nearest number from 0 to *most*; None for NaN."""
    return min(max(value, 0.0), float(most)) if not isnan(value) else None


def nearest_count(value: float) -> int:
    """Give the nearest count, half of one rounded up."""
    return floor(min(max(value, 0.0), float(_MOST)) + 0.5)


def _read_number(
    findings: Findings,
    field: str,
    spec: MetricSpec | None,
    found: _Found,
    weights: Sequence[float] | None = None,
) -> None:
    series = _find(findings, spec, found)
    if spec is None or not series:
        return
    if problem := _problem_of(series[0]):
        findings.wrong[field] = problem
        return
    is_share = field == _USAGE
    values: list[float] = []
    for each in series:
        value: float | None = share_of(each.value) if is_share else count_of(each.value)
        if value is None:
            allowed = _A_SHARE if is_share else _A_COUNT
            findings.wrong.setdefault(field, _refusal(each, each.value, allowed))
            value = _nearest(each.value, 1 if is_share else _MOST)
            if value is None:
                # What one engine tells is not what all of them do.
                weights = None
                continue
            value = value if is_share else nearest_count(value)
        values.append(value)
    if values:
        one = combined(values, spec.combine or _COMBINE.get(field, Combine.SUM), weights)
        findings.values[field] = min(one, 1.0) if is_share else nearest_count(one)
    elif field in UNTOLD:
        findings.values[field] = UNTOLD[field]


def _read_cache_labels(findings: Findings, engine: Engine, spec: MetricSpec, found: _Found) -> None:
    series = _find(findings, spec, found)
    if not series:
        return
    if problem := _problem_of(series[0]):
        findings.wrong.update(dict.fromkeys(("cache_block_size", "cache_num_blocks"), problem))
        return
    _read_labels(findings, "cache_block_size", series[:1], engine.cache_block_size_label)
    _read_labels(findings, "cache_num_blocks", series, engine.cache_num_blocks_label)


def _read_adapters(findings: Findings, spec: MetricSpec, found: _Found) -> None:
    # Servers write none until an adapter is used, so none is not missing.
    series = found.of(spec)
    if not series:
        return
    if problem := _problem_of(series[0]):
        findings.wrong.update(dict.fromkeys(("active_models", "waiting_models", "max_active_models"), problem))
        return
    if spec.combine is Combine.LATEST:
        series = [latest_adapters(series)]
    for field, label in (("active_models", _RUNNING_ADAPTERS), ("waiting_models", _WAITING_ADAPTERS)):
        texts = [each.labels[label] for each in series if label in each.labels]
        if texts:
            names, is_more = _read_names(texts)
            findings.values[field] = names
            if is_more:
                findings.missing.append(f"{series[0].name}[{label}] beyond {MAX_ADAPTERS} names")
        if len(texts) < len(series):
            findings.missing.append(f"{series[0].name}[{label}]")
    _read_labels(findings, "max_active_models", series, _MAX_ADAPTERS)


def _read_names(texts: Iterable[str]) -> tuple[frozenset[str], bool]:
    """Give the first `MAX_ADAPTERS` names of some lists, and whether there are more."""
    names: set[str] = set()
    room = MAX_ADAPTERS
    is_more = False
    for text in texts:
        *words, rest = f"{text},".split(",", room)
        names.update(name for word in words if (name := word.strip()))
        room -= len(words)
        is_more = is_more or bool(rest.strip(" ,"))
    return frozenset(names), is_more


def _read_labels(findings: Findings, field: str, series: Sequence[Series], label: str) -> None:
    """Add up the counts that a label of *series* tells."""
    counts: list[int] = []
    for each in series:
        text = each.labels.get(label, _UNKNOWN).strip()
        if text == _UNKNOWN:
            if (missing := f"{each.name}[{label}]") not in findings.missing:
                findings.missing.append(missing)
        elif _NUMBER.fullmatch(text):
            count = count_of(float(text))
            if count is None:
                findings.wrong.setdefault(field, _refusal(each, text, _A_COUNT, label))
            counts.append(nearest_count(float(text)) if count is None else count)
        else:
            findings.wrong[field] = _refusal(each, text, _A_COUNT, label)
            return
    if counts:
        findings.values[field] = min(sum(counts), _MOST)


def _find(findings: Findings, spec: MetricSpec | None, found: _Found) -> list[Series]:
    series = found.of(spec) if spec is not None else []
    if spec is not None and not series:
        findings.missing.append(str(spec))
    return series


def _problem_of(series: Series) -> str:
    return "" if series.type in SINGLE_VALUED else _refusal(series, series.type, "a gauge or a counter")


def _refusal(series: Series, value: object, allowed: str, label: str = "") -> str:
    where = f"label {label} of {series.name}" if label else series.name
    line = f", line {series.line}" if series.line else ""
    shown = f"{value[:_SHOWN]}..." if isinstance(value, str) and len(value) > _SHOWN else value
    return f"metrics page{line}: {where}: {shown!r} is not {allowed}"
