"""The metrics' names, labels and buckets, against a table of the reference's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inferencepool.runtime.exporter import FAMILIES, Family

# Transcribed from the reference's list of metrics: name, kind, labels; R stands for the four labels of a request. What
# is not implemented here is left out: flow control, disaggregation, encoder caches, predicted latency, plugins.
_TABLE = """
request_total                         counter   R
request_error_total                   counter   R error_code
request_running                       gauge     R
request_duration_seconds              histogram R
request_size_bytes                    histogram R
response_size_bytes                   histogram R
request_input_tokens                  histogram R
request_output_tokens                 histogram R
request_cached_tokens                 histogram R
request_ntpot_seconds                 histogram R
request_ttft_seconds                  histogram R streaming
request_streaming_tpot_seconds        histogram R
scheduler_e2e_duration_seconds        histogram
scheduler_attempts_total              counter   status target_model_name endpoint_name namespace port
request_processing_duration_seconds   histogram
extproc_stream_duration_seconds       histogram
extproc_streams_inflight              gauge
extproc_streams_total                 counter   code
model_rewrite_decisions_total         counter   model_rewrite_name model_name target_model
average_kv_cache_utilization          gauge     name
average_queue_size                    gauge     name
average_running_requests              gauge     name
std_dev_kv_cache_utilization          gauge     name
std_dev_queue_size                    gauge     name
std_dev_running_requests              gauge     name
ready_endpoints                       gauge     name
per_endpoint_queue_size               gauge     name model_server_endpoint
inflight_requests                     gauge     endpoint_name namespace producer_name fairness_id priority
inflight_tokens                       gauge     endpoint_name namespace producer_name fairness_id priority
prefix_indexer_size                   gauge     plugin_name plugin_type
datalayer_poll_errors_total           counter   source_type
datalayer_extract_errors_total        counter   source_type extractor_type
info                                  gauge     commit build_ref
"""
_REQUEST = ["model_name", "target_model_name", "fairness_id", "priority"]
REFERENCE = {
    f"llm_d_epp_{name}": (kind, [label for word in labels for label in (_REQUEST if word == "R" else [word])])
    for name, kind, *labels in map(str.split, _TABLE.strip().splitlines())
}

LATENCY = (
    "0.005 0.025 0.05 0.1 0.2 0.4 0.6 0.8 1 1.25 1.5 2 3 4 5 6 8 10 15 20 30 45 60 120 "
    "180 240 300 360 480 600 900 1200 1800 2700 3600"
)
TOKENS = "1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384 32768 65536 131072 262144 524288 1048576"
SCHEDULING = "0.0001 0.0002 0.0005 0.001 0.002 0.005 0.01 0.02 0.05 0.1"
BUCKETS = {
    "llm_d_epp_request_duration_seconds": LATENCY,
    "llm_d_epp_request_size_bytes": " ".join(str(64 << power) for power in range(25)),
    "llm_d_epp_response_size_bytes": "1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384 32768 65536",
    "llm_d_epp_request_input_tokens": TOKENS,
    "llm_d_epp_request_output_tokens": "1 8 16 32 64 128 256 512 1024 2048 4096 8192",
    "llm_d_epp_request_cached_tokens": TOKENS,
    "llm_d_epp_request_ntpot_seconds": "0.001 0.002 0.005 0.01 0.02 0.05 0.1 0.2 0.5 1 2 5 10",
    "llm_d_epp_request_ttft_seconds": LATENCY.partition(" 180")[0],
    "llm_d_epp_request_streaming_tpot_seconds": (
        "0.0005 0.00205 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.125 0.15 0.2 0.3 0.4 0.5 0.6 0.8 1 2"
    ),
    "llm_d_epp_scheduler_e2e_duration_seconds": SCHEDULING,
    "llm_d_epp_request_processing_duration_seconds": (
        "0.0005 0.001 0.002 0.005 0.01 0.015 0.025 0.04 0.06 0.1 0.25 0.5 1 2.5 5 10"
    ),
    "llm_d_epp_extproc_stream_duration_seconds": "0.001 0.005 0.01 0.05 0.1 0.5 1 5 10 30 60 120 300 600",
}
OURS = [family for family in FAMILIES if family.name not in REFERENCE]


def test_all_of_the_reference() -> None:
    """Everything in the table exists, with its kind and its labels; of the same names there are no others."""
    exported = {family.name: (family.kind, list(family.labels)) for family in FAMILIES if family not in OURS}

    assert REFERENCE == exported
    assert len(FAMILIES) == len({family.name for family in FAMILIES})


def test_what_the_reference_has_not() -> None:
    """Such metrics have a prefix of their own."""
    assert {True} == {family.name.startswith("inferencepool_") for family in OURS}


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.kind == "histogram"], ids=lambda f: f.name)
def test_buckets(family: Family) -> None:
    """Histograms count in the reference's buckets."""
    assert list(map(float, BUCKETS[family.name].split())) == list(family.buckets)


def test_the_latest_latency_buckets() -> None:
    """There are 35 of them, up to an hour."""
    assert (35, "3600") == (len(LATENCY.split()), LATENCY.rsplit(maxsplit=1)[-1])


def test_documentation(root: Path) -> None:
    """The page about metrics lists all of them as they are, and asks for none that does not exist."""
    page = (root / "docs" / "how-to" / "read-the-metrics.md").read_text(encoding="utf-8")
    rows = []
    for family in FAMILIES:
        labels = [f"`{label}`" for label in family.labels]
        if list(family.labels[:4]) == _REQUEST:
            labels[:4] = ["*request*"]
        rows.append(f"| `{family.name}` | {family.kind} | {', '.join(labels)} | {family.text} |")
    assert rows == [line for line in page.splitlines() if line.startswith(("| `llm_d_epp_", "| `inferencepool_"))]

    samples = {f"{family.name}{ending}" for family in FAMILIES for ending in ("", "_bucket", "_sum", "_count")}
    assert set(re.findall(r"\b(?:llm_d_epp|inferencepool)_\w+", page)) <= samples


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_names_and_texts(family: Family) -> None:
    """Counters, and nothing else, end in ``_total``; only histograms have buckets; a text is a sentence."""
    assert ("counter" == family.kind) is family.name.endswith("_total")
    assert ("histogram" == family.kind) is bool(family.buckets)
    assert family.text.endswith(".")
    assert family.text[0].isupper()
