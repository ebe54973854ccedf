"""Names of headers and metadata of the Endpoint Picker Protocol; each with its older name, where it has one."""

from __future__ import annotations

import re
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
    "asks_upgrade",
    "content_length",
    "opens_tunnel",
    "value_of",
]

# So many digits no body has.
_LENGTH = re.compile("[0-9]{1,18}")

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


def content_length(headers: Mapping[str, str]) -> int | None:
    """Read how long the body is to be, in bytes; None where it is not told, or cannot be read."""
    text = headers.get("content-length")
    return int(text) if text is not None and _LENGTH.fullmatch(text) else None


def opens_tunnel(headers: Mapping[str, str]) -> bool:
    """
    Tell whether a request asks for another protocol on its connection, so that what follows is no body and has no end.

    Such are extended CONNECT (RFC 8441), and GET with ``upgrade`` (RFC 6455 section 4.1), as for WebSocket. Servers
    read a request of another method, and one that tells its length or is chunked, as one with a body, whatever it asks
    for. Where the proxy tells no method, a body that is not told is taken for none.
    """
    method = headers.get(":method", "GET")
    if method == "CONNECT":
        return ":protocol" in headers
    if method != "GET" or not asks_upgrade(headers):
        return False
    return headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers


def asks_upgrade(headers: Mapping[str, str]) -> bool:
    """Tell whether a request has ``upgrade`` (RFC 9110 section 7.8) that is no mere offer, as ``h2c`` is."""
    upgrade = headers.get("upgrade")
    return upgrade is not None and upgrade.strip().lower() not in ("", "h2c")
