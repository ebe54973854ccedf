"""Names on the wire between proxy and picker, and which of them a client may send."""

from __future__ import annotations

__all__ = [
    "CLIENT_HEADERS",
    "CONTROL_HEADERS",
    "DESTINATION",
    "LB_NAMESPACE",
    "SERVED",
    "SUBSET_NAMESPACE",
]

DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"

LB_NAMESPACE = "envoy.lb"
SUBSET_NAMESPACE = "envoy.lb.subset_hint"

#: Request headers that only the proxy, the picker or a sidecar may set: each of them makes something dial an address
#: or choose an endpoint. From a client they are forged, and removed where they come in.
CONTROL_HEADERS: tuple[str, ...] = (
    # Where the request goes, and what belongs to it.
    DESTINATION,
    f"{DESTINATION}-fallback",
    f"{DESTINATION}-scores",
    SERVED,
    f"{DESTINATION}-subset",
    # Addresses that the sidecar of a pod dials when prefill, decode and encode run apart.
    "x-data-parallel-host-port",
    "x-encoder-hosts-ports",
    "x-kv-cache-source-host-port",
    "x-prefiller-host-port",
    # Pins the endpoint in the reference's test filter and in its minimal picker.
    "test-epp-endpoint-selection",
)

#: Request headers that the protocol takes from clients; they pass. A gateway that knows its clients sets them itself,
#: and removes what clients send.
CLIENT_HEADERS: tuple[str, ...] = (
    "x-gateway-inference-fairness-id",
    "x-gateway-inference-objective",
    "x-gateway-model-name-rewrite",
    "x-llm-d-inference-fairness-id",
    "x-llm-d-inference-objective",
    "x-llm-d-model-name-rewrite",
    "x-llm-d-slo-tpot-ms",
    "x-llm-d-slo-ttft-ms",
    "x-request-id",
    "x-session-token",
    "x-slo-tpot-ms",
    "x-slo-ttft-ms",
)
