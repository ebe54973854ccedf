"""Names of headers and metadata of the Endpoint Picker Protocol; each with its older name, where it has one."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "DESTINATION",
    "DROPPED_REASON",
    "FAIRNESS_ID",
    "FORGEABLE",
    "LB_NAMESPACE",
    "MODEL_REWRITE",
    "OBJECTIVE",
    "REQUEST_ID",
    "SCORES",
    "SERVED",
    "SUBSET",
    "SUBSET_NAMESPACE",
    "value_of",
]

LB_NAMESPACE = "envoy.lb"
SUBSET_NAMESPACE = "envoy.lb.subset_hint"

DESTINATION = "x-gateway-destination-endpoint"
SUBSET = "x-gateway-destination-endpoint-subset"
SERVED = "x-gateway-destination-endpoint-served"
SCORES = "x-gateway-destination-endpoint-scores"

REQUEST_ID = "x-request-id"
DROPPED_REASON = "x-llm-d-request-dropped-reason"

OBJECTIVE = ("x-llm-d-inference-objective", "x-gateway-inference-objective")
FAIRNESS_ID = ("x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id")
MODEL_REWRITE = ("x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite")

FORGEABLE = frozenset(
    {
        SUBSET,
        SERVED,
        SCORES,
        "x-gateway-destination-endpoint-fallback",
        "x-prefiller-host-port",
        "x-encoder-hosts-ports",
        "x-data-parallel-host-port",
        "x-kv-cache-source-host-port",
        DROPPED_REASON,
    }
)
"""
Headers that only the gateway and the picker may set, as a model server or a proxy behind this one would act on them.

The destination is not among them: the picker's answer overwrites it.
"""


def value_of(names: tuple[str, str], headers: Mapping[str, str]) -> str | None:
    """Give the value under the first of *names* that is present, if empty; None when none is."""
    value = headers.get(names[0])
    return value if value is not None else headers.get(names[1])
