"""Former names of metrics, for dashboards that still ask for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, final

import attrs

from inferencepool.runtime.exporter._prometheus import Collector, Metric, Sample

__all__ = ["DeprecatedNames"]


@attrs.frozen
class _Former:
    """
    How a metric was called.

    Attributes:
        name: Its former name.
        labels: The labels it had, by the names that they have.
    """

    name: str
    labels: Mapping[str, str]


def _same(*labels: str) -> dict[str, str]:
    return {label: label for label in labels}


_MODELS: Final = _same("model_name", "target_model_name")
_POOL: Final = _same("name")

_FORMER: Final[Mapping[str, _Former]] = {
    "llm_d_epp_request_total": _Former("inference_objective_request_total", _MODELS | _same("priority")),
    "llm_d_epp_request_error_total": _Former("inference_objective_request_error_total", _MODELS | _same("error_code")),
    "llm_d_epp_request_duration_seconds": _Former("inference_objective_request_duration_seconds", _MODELS),
    "llm_d_epp_request_size_bytes": _Former("inference_objective_request_sizes", _MODELS),
    "llm_d_epp_response_size_bytes": _Former("inference_objective_response_sizes", _MODELS),
    "llm_d_epp_request_input_tokens": _Former("inference_objective_input_tokens", _MODELS),
    "llm_d_epp_request_output_tokens": _Former("inference_objective_output_tokens", _MODELS),
    "llm_d_epp_request_cached_tokens": _Former("inference_objective_prompt_cached_tokens", _MODELS),
    "llm_d_epp_request_running": _Former("inference_objective_running_requests", _same("model_name")),
    "llm_d_epp_request_ntpot_seconds": _Former("inference_objective_normalized_time_per_output_token_seconds", _MODELS),
    "llm_d_epp_average_kv_cache_utilization": _Former("inference_pool_average_kv_cache_utilization", _POOL),
    "llm_d_epp_average_queue_size": _Former("inference_pool_average_queue_size", _POOL),
    "llm_d_epp_average_running_requests": _Former("inference_pool_average_running_requests", _POOL),
    "llm_d_epp_ready_endpoints": _Former("inference_pool_ready_pods", _POOL),
    "llm_d_epp_per_endpoint_queue_size": _Former(
        "inference_pool_per_pod_queue_size", _POOL | {"model_server_endpoint": "model_server_pod"}
    ),
    "llm_d_epp_scheduler_e2e_duration_seconds": _Former("inference_extension_scheduler_e2e_duration_seconds", {}),
    "llm_d_epp_scheduler_attempts_total": _Former(
        "inference_extension_scheduler_attempts_total",
        _same("status", "target_model_name", "namespace", "port") | {"endpoint_name": "pod_name"},
    ),
    "llm_d_epp_info": _Former("inference_extension_info", _same("commit", "build_ref")),
    "llm_d_epp_model_rewrite_decisions_total": _Former(
        "inference_extension_model_rewrite_decisions_total",
        _same("model_rewrite_name", "model_name", "target_model"),
    ),
}


@final
class DeprecatedNames:
    """
    Gives what another collector gives, and once more what the reference still exports under former names.

    Where a metric had fewer labels, its values are added up.
    """

    def __init__(self, collector: Collector) -> None:
        """Give what *collector* gives."""
        self._collector = collector

    def collect(self) -> Iterator[Metric]:
        """Give all metrics, each under all its names."""
        for metric in self._collector.collect():
            yield metric
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            if name in _FORMER:
                yield _rename(metric, name, _FORMER[name])


def _rename(metric: Metric, name: str, former: _Former) -> Metric:
    renamed = Metric(
        former.name.removesuffix("_total") if metric.type == "counter" else former.name,
        f"Deprecated, use {name}. {metric.documentation}",
        metric.type,
    )
    labels = {**former.labels, "le": "le"}
    sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for sample in metric.samples:
        kept = tuple((labels[label], value) for label, value in sample.labels.items() if label in labels)
        key = (sample.name.replace(name, former.name, 1), kept)
        sums[key] = sums.get(key, 0) + sample.value
    renamed.samples = [Sample(sample_name, dict(kept), value) for (sample_name, kept), value in sums.items()]
    return renamed
