"""The filter that asks the picker."""

from __future__ import annotations

from typing import Any

from inferencepool.gateway._options import BodyMode
from inferencepool.gateway._plan import Plan
from inferencepool.gateway._types import duration, extension
from inferencepool.model._protocol import LB_NAMESPACE, SUBSET_NAMESPACE

__all__ = ["ext_proc_filter"]

_BODY_MODES = {
    BodyMode.NONE: "NONE",
    BodyMode.BUFFERED: "BUFFERED",
    BodyMode.FULL_DUPLEX: "FULL_DUPLEX_STREAMED",
}


def ext_proc_filter(planned: Plan, *, upgraded: bool = False) -> dict[str, Any]:
    """
    Render the filter: which phases the picker sees, how long it may take, and what its failure means.

    Args:
        planned: What the configuration comes to.
        upgraded: Whether it is for requests that go on in another protocol, and so have no bodies.
    """
    return extension(
        "filters.http.ext_proc",
        "filters.http.ext_proc.v3.ExternalProcessor",
        grpc_service={"envoy_grpc": {"cluster_name": planned.epp_cluster, "authority": str(planned.epp)}},
        failure_mode_allow=planned.fail_open,
        # Envoy would say 500; a picker that is away is no error of the request.
        status_on_error={"code": "ServiceUnavailable"},
        processing_mode=_processing_mode(planned, upgraded=upgraded),
        # By these the picker tells what an endpoint answered from what Envoy says in its place. They come with every
        # response and in any order, so that more of them would cost.
        response_attributes=["response.code_details", "upstream.request_attempt_count"],
        message_timeout=duration(planned.options.epp_timeout),
        metadata_options={
            "forwarding_namespaces": {"untyped": [LB_NAMESPACE, SUBSET_NAMESPACE]},
            "receiving_namespaces": {"untyped": [LB_NAMESPACE]},
        },
    )


def _processing_mode(planned: Plan, *, upgraded: bool) -> dict[str, str]:
    body_mode = BodyMode.NONE if upgraded else planned.body_mode
    full_duplex = body_mode is BodyMode.FULL_DUPLEX
    return {
        "request_header_mode": "SEND",
        "request_body_mode": _BODY_MODES[body_mode],
        # Envoy takes full duplex only with trailers.
        "request_trailer_mode": "SEND" if full_duplex else "SKIP",
        # The headers tell which endpoint served.
        "response_header_mode": "SEND",
        # Not full duplex: there a picker that ends its stream early truncates the response, and nobody is told.
        "response_body_mode": "STREAMED" if planned.options.usage and not upgraded else "NONE",
        # Asking for trailers keeps the stream open up to the end of the response, also where there are none; that end
        # releases the load of the request. Without it the stream ends right after the pick.
        "response_trailer_mode": "SEND",
    }
