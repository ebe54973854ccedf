"""
Names of headers and metadata of the Endpoint Picker Protocol, and who may send them: one list for picker and gateway.

A pair of names is a name and the older one that is still read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = [
    "CLIENT_HEADERS",
    "CONTROL_HEADERS",
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

LB_NAMESPACE: Final = "envoy.lb"
SUBSET_NAMESPACE: Final = "envoy.lb.subset_hint"

DESTINATION: Final = "x-gateway-destination-endpoint"
SUBSET: Final = f"{DESTINATION}-subset"
SERVED: Final = f"{DESTINATION}-served"
SCORES: Final = f"{DESTINATION}-scores"

REQUEST_ID: Final = "x-request-id"
DROPPED_REASON: Final = "x-llm-d-request-dropped-reason"

OBJECTIVE: Final = ("x-llm-d-inference-objective", "x-gateway-inference-objective")
FAIRNESS_ID: Final = ("x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id")
MODEL_REWRITE: Final = ("x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite")

CONTROL_HEADERS: Final = (
    # Where the request goes, and what belongs to it.
    DESTINATION,
    f"{DESTINATION}-fallback",
    SCORES,
    SERVED,
    SUBSET,
    # Addresses that the sidecar of a pod dials when prefill, decode and encode run apart.
    "x-data-parallel-host-port",
    "x-encoder-hosts-ports",
    "x-kv-cache-source-host-port",
    "x-prefiller-host-port",
    # Pins the endpoint in the reference's test filter and in its minimal picker.
    "test-epp-endpoint-selection",
    # The picker's word of why it refused.
    DROPPED_REASON,
)
"""
Headers that only the gateway, the picker or a sidecar may set: each makes something dial an address, choose an endpoint
or believe the picker said something. From a client they are forged, and removed where they come in.
"""

FORGEABLE: Final = frozenset(CONTROL_HEADERS) - {DESTINATION}
"""What the picker removes of them. The destination is not among them: the picker's answer overwrites it."""

CLIENT_HEADERS: Final = tuple(
    sorted(
        {
            *OBJECTIVE,
            *FAIRNESS_ID,
            *MODEL_REWRITE,
            REQUEST_ID,
            "x-llm-d-slo-tpot-ms",
            "x-llm-d-slo-ttft-ms",
            "x-session-token",
            "x-slo-tpot-ms",
            "x-slo-ttft-ms",
        }
    )
)
"""
Headers that the protocol takes from clients; they pass. A gateway that knows its clients sets them itself, and removes
what clients send.
"""


def value_of(names: tuple[str, str], headers: Mapping[str, str]) -> str | None:
    """Give the value under the first of *names* that is present, if empty; None when none is."""
    value = headers.get(names[0])
    return value if value is not None else headers.get(names[1])
