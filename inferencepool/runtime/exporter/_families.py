"""
The metrics by name: those of the reference, as far as there is something to tell here.

Names, labels and buckets are those of llm-d's endpoint picker, so that its dashboards work. One bucket differs: where
older metrics of the reference end a bucket of tokens and of response sizes at 32778, a slip, it is 32768 here. Metrics
that the reference does not have begin with ``inferencepool_``.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

__all__ = ["FAMILIES", "Family"]


@attrs.frozen(eq=False)
class Family:
    """
    One metric.

    Attributes:
        name: Its name, with the ending ``_total`` that counters have.
        kind: What it is.
        text: What it tells.
        labels: By what it is told apart, in this order.
        buckets: Upper bounds of a histogram's buckets, ascending; the one without a bound is not among them.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# fmt: off
_LATENCY = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
)
_FIRST_TOKEN = _LATENCY[:_LATENCY.index(120.0) + 1]
_PER_TOKEN = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_PER_STREAMED_TOKEN = (
    0.0005, 0.00205, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 2.0,
)
_SCHEDULING = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_PROCESSING = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)
_STREAM = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_TOKENS = (1.0, *(2.0**power for power in range(3, 21)))
_OUTPUT_TOKENS = _TOKENS[:_TOKENS.index(8192.0) + 1]
_REQUEST_BYTES = tuple(2.0**power for power in range(6, 31))
_RESPONSE_BYTES = _TOKENS[:_TOKENS.index(65536.0) + 1]
# fmt: on

_REQUEST = ("model_name", "target_model_name", "fairness_id", "priority")
_POOL = ("name",)
_ENDPOINT = ("name", "model_server_endpoint")

REQUEST_TOTAL: Final = Family("llm_d_epp_request_total", "counter", "Requests that got an endpoint.", _REQUEST)
REQUEST_ERROR_TOTAL: Final = Family(
    "llm_d_epp_request_error_total",
    "counter",
    "Requests that the picker refused or failed on, and responses of status 400 and above.",
    (*_REQUEST, "error_code"),
)
REQUEST_RUNNING: Final = Family(
    "llm_d_epp_request_running", "gauge", "Requests that got an endpoint and whose stream is open.", _REQUEST
)
REQUEST_DURATION: Final = Family(
    "llm_d_epp_request_duration_seconds",
    "histogram",
    "From a request's headers to the end of its response, where that was seen.",
    _REQUEST,
    _LATENCY,
)
REQUEST_SIZE: Final = Family(
    "llm_d_epp_request_size_bytes",
    "histogram",
    "Size of the bodies of requests that got an endpoint.",
    _REQUEST,
    _REQUEST_BYTES,
)
RESPONSE_SIZE: Final = Family(
    "llm_d_epp_response_size_bytes",
    "histogram",
    "Size of the bodies of responses, where the proxy sends them.",
    _REQUEST,
    _RESPONSE_BYTES,
)
INPUT_TOKENS: Final = Family(
    "llm_d_epp_request_input_tokens", "histogram", "Tokens of prompts, as responses tell.", _REQUEST, _TOKENS
)
OUTPUT_TOKENS: Final = Family(
    "llm_d_epp_request_output_tokens", "histogram", "Tokens of outputs, as responses tell.", _REQUEST, _OUTPUT_TOKENS
)
CACHED_TOKENS: Final = Family(
    "llm_d_epp_request_cached_tokens",
    "histogram",
    "Tokens of prompts that came from a cache, as responses tell.",
    _REQUEST,
    _TOKENS,
)
TIME_PER_TOKEN: Final = Family(
    "llm_d_epp_request_ntpot_seconds",
    "histogram",
    "Duration of a request, divided by the tokens of its output.",
    _REQUEST,
    _PER_TOKEN,
)
FIRST_TOKEN: Final = Family(
    "llm_d_epp_request_ttft_seconds",
    "histogram",
    "From a request's headers to the first part of its response's body, where the proxy sends bodies.",
    (*_REQUEST, "streaming"),
    _FIRST_TOKEN,
)
TIME_PER_STREAMED_TOKEN: Final = Family(
    "llm_d_epp_request_streaming_tpot_seconds",
    "histogram",
    "From the first part of a stream of events to its end, divided by the tokens after the first.",
    _REQUEST,
    _PER_STREAMED_TOKEN,
)
SCHEDULER_DURATION: Final = Family(
    "llm_d_epp_scheduler_e2e_duration_seconds",
    "histogram",
    "How long picks took that found an endpoint.",
    (),
    _SCHEDULING,
)
SCHEDULER_ATTEMPTS: Final = Family(
    "llm_d_epp_scheduler_attempts_total",
    "counter",
    "Picks, by whether they found an endpoint, and which.",
    ("status", "target_model_name", "endpoint_name", "namespace", "port"),
)
REQUEST_PROCESSING: Final = Family(
    "llm_d_epp_request_processing_duration_seconds",
    "histogram",
    "From a request's headers to the answer that names its endpoint; its body has to arrive in between.",
    (),
    _PROCESSING,
)
STREAM_DURATION: Final = Family(
    "llm_d_epp_extproc_stream_duration_seconds",
    "histogram",
    "From a request's headers to the end of its ext_proc stream.",
    (),
    _STREAM,
)
STREAMS_INFLIGHT: Final = Family("llm_d_epp_extproc_streams_inflight", "gauge", "Streams of ext_proc that are open.")
STREAMS_TOTAL: Final = Family(
    "llm_d_epp_extproc_streams_total",
    "counter",
    "Streams of ext_proc that have ended, by gRPC status; Envoy's reset at the end of a request counts as OK.",
    ("code",),
)
REWRITE_DECISIONS: Final = Family(
    "llm_d_epp_model_rewrite_decisions_total",
    "counter",
    "Requests whose model an InferenceModelRewrite decided.",
    ("model_rewrite_name", "model_name", "target_model"),
)
AVERAGE_KV_CACHE: Final = Family(
    "llm_d_epp_average_kv_cache_utilization",
    "gauge",
    "Mean share of the KV cache in use, of the endpoints whose metrics are fresh.",
    _POOL,
)
AVERAGE_QUEUE: Final = Family(
    "llm_d_epp_average_queue_size",
    "gauge",
    "Mean number of waiting requests, of the endpoints whose metrics are fresh.",
    _POOL,
)
AVERAGE_RUNNING: Final = Family(
    "llm_d_epp_average_running_requests",
    "gauge",
    "Mean number of running requests, of the endpoints whose metrics are fresh.",
    _POOL,
)
DEVIATION_KV_CACHE: Final = Family(
    "llm_d_epp_std_dev_kv_cache_utilization",
    "gauge",
    "Standard deviation of the share of the KV cache in use, of the endpoints whose metrics are fresh.",
    _POOL,
)
DEVIATION_QUEUE: Final = Family(
    "llm_d_epp_std_dev_queue_size",
    "gauge",
    "Standard deviation of the number of waiting requests, of the endpoints whose metrics are fresh.",
    _POOL,
)
DEVIATION_RUNNING: Final = Family(
    "llm_d_epp_std_dev_running_requests",
    "gauge",
    "Standard deviation of the number of running requests, of the endpoints whose metrics are fresh.",
    _POOL,
)
READY_ENDPOINTS: Final = Family(
    "llm_d_epp_ready_endpoints", "gauge", "Endpoints that may be picked, whether their metrics are fresh or not.", _POOL
)
ENDPOINT_QUEUE: Final = Family(
    "llm_d_epp_per_endpoint_queue_size",
    "gauge",
    "Requests that wait at an endpoint, as it told last.",
    _ENDPOINT,
)
INFLIGHT_REQUESTS: Final = Family(
    "llm_d_epp_inflight_requests",
    "gauge",
    "Picks of an endpoint that were not released yet.",
    ("endpoint_name", "namespace", "producer_name", "fairness_id", "priority"),
)
INFLIGHT_TOKENS: Final = Family(
    "llm_d_epp_inflight_tokens",
    "gauge",
    "Tokens of the picks of an endpoint that were not released yet.",
    ("endpoint_name", "namespace", "producer_name", "fairness_id", "priority"),
)
PREFIX_INDEXER_SIZE: Final = Family(
    "llm_d_epp_prefix_indexer_size",
    "gauge",
    "Blocks in an index of cached prefixes, summed over endpoints.",
    ("plugin_name", "plugin_type"),
)
POLL_ERRORS: Final = Family(
    "llm_d_epp_datalayer_poll_errors_total",
    "counter",
    "Scrapes of endpoints that got no page.",
    ("source_type",),
)
EXTRACT_ERRORS: Final = Family(
    "llm_d_epp_datalayer_extract_errors_total",
    "counter",
    "Scrapes of endpoints that got a page without metrics.",
    ("source_type", "extractor_type"),
)
POSTPONED_SCRAPES: Final = Family(
    "inferencepool_postponed_scrapes_total",
    "counter",
    "Scrapes of endpoints that began later because pages before took too much work.",
)
INFO: Final = Family("llm_d_epp_info", "gauge", "The build that runs; always 1.", ("commit", "build_ref"))
STALE_ENDPOINTS: Final = Family(
    "inferencepool_stale_endpoints", "gauge", "Endpoints that may be picked and whose metrics are not fresh.", _POOL
)
METRICS_AGE: Final = Family(
    "inferencepool_endpoint_metrics_age_seconds",
    "gauge",
    "How long ago the observation behind an endpoint's metrics began.",
    _ENDPOINT,
)
PENDING_REQUESTS: Final = Family(
    "inferencepool_pending_requests",
    "gauge",
    "Picks of an endpoint that its metrics do not show yet.",
    _ENDPOINT,
)
ENDPOINT_EJECTIONS: Final = Family(
    "inferencepool_endpoint_ejections_total",
    "counter",
    "How often an endpoint was ejected, for all models or for one.",
    ("name", "reason"),
)
EJECTED_ENDPOINTS: Final = Family(
    "inferencepool_ejected_endpoints",
    "gauge",
    "Endpoints that are ejected, for all models or for one; an endpoint may be so for several reasons.",
    ("name", "reason"),
)
ENDPOINT_EJECTED: Final = Family(
    "inferencepool_endpoint_ejected",
    "gauge",
    "Whether an endpoint is ejected for all models, 1 or 0; told where there are not too many endpoints.",
    _ENDPOINT,
)

LIMITS_REACHED: Final = Family(
    "inferencepool_limits_reached_total",
    "counter",
    "How often a limit acted that protects a server of the picker from all clients together.",
    ("server", "limit"),
)
PREFIX_LOOKUPS: Final = Family(
    "inferencepool_prefix_lookups_total",
    "counter",
    "Lookups in an index of cached prefixes, by whether some endpoint held the prompt's beginning: hit or miss.",
    ("plugin_name", "plugin_type", "result"),
)

FAMILIES: Final[tuple[Family, ...]] = tuple(value for value in list(globals().values()) if isinstance(value, Family))
"""All of them."""
