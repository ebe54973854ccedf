"""Pools, endpoints and options for tests of the gateway's side."""

from __future__ import annotations

from typing import Any

from inferencepool.gateway import EnvoyOptions, HostPort
from inferencepool.model import AppProtocol, Endpoint, EndpointPickerRef, FailureMode, InferencePool

__all__ = ["ANY_PORT", "connection_manager", "endpoint", "local_options", "picker_filter", "pool"]

ANY_PORT = HostPort("127.0.0.1", 0)


def pool(
    mode: str = FailureMode.FAIL_CLOSE,
    protocol: AppProtocol = AppProtocol.HTTP,
    name: str = "llama",
    picker_name: str = "llama-epp",
    port: int | None = 9002,
    **picker: Any,
) -> InferencePool:
    """Make a pool with a picker, which is behind a Service unless told otherwise."""
    reference = EndpointPickerRef(name=picker_name, port=port, failure_mode=FailureMode(mode), **picker)
    return InferencePool(
        name=name, selector={"app": name}, target_ports=[8000], app_protocol=protocol, endpoint_picker_ref=reference
    )


def endpoint(address: str = "10.0.0.1", port: int = 8000, name: str = "llama-0") -> Endpoint:
    """Make an endpoint."""
    return Endpoint(namespace="default", pod_name=name, address=address, port=port)


def local_options(epp: HostPort, **options: Any) -> EnvoyOptions:
    """Make options for an Envoy on this machine, at a free port, with a picker that speaks no TLS."""
    return EnvoyOptions(**{"listen": ANY_PORT, "epp_address": epp, "epp_tls": False, **options})


def connection_manager(document: dict[str, Any]) -> dict[str, Any]:
    """Find the HTTP connection manager of a bootstrap."""
    (listener,) = document["static_resources"]["listeners"]
    config: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return config


def picker_filter(document: dict[str, Any]) -> dict[str, Any]:
    """Find the ext_proc filter of a bootstrap."""
    config: dict[str, Any] = connection_manager(document)["http_filters"][0]["typed_config"]
    return config
