"""Real Envoys with the settings that Istio and Envoy AI Gateway give them for a pool."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Any, Final, Self, final

from inferencepool.gateway import EnvoyOptions, HostPort, render_envoy
from inferencepool.lab.envoy import EnvoyProcess
from tests.envoy.stage import endpoint_at
from tests.gateway.pools import connection_manager, picker_filter, pool

__all__ = ["EnvoyAiGateway", "EnvoyGateway", "Istio"]

_FILTER: Final = "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3"
_MODES: Final = {
    "request_header_mode": "SEND",
    "request_body_mode": "FULL_DUPLEX_STREAMED",
    "request_trailer_mode": "SEND",
    "response_header_mode": "SEND",
    "response_body_mode": "FULL_DUPLEX_STREAMED",
    "response_trailer_mode": "SEND",
}
_SKIPPED: Final = {"request_header_mode": "SKIP", "response_header_mode": "SKIP"}
_NAMESPACES: Final = {"untyped": ["envoy.lb"]}


class EnvoyGateway:
    """
    An Envoy with the settings of a gateway, while the block lasts.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, picker: HostPort, addresses: Iterable[str], *, fails_open: bool = False) -> None:
        document = self.render(picker, addresses, fails_open=fails_open)
        self.url = ""
        self._envoy = EnvoyProcess(document, log_level="error")
        self._resources = AsyncExitStack()

    def render(self, picker: HostPort, addresses: Iterable[str], *, fails_open: bool) -> dict[str, Any]:
        """Give the bootstrap."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self._resources.enter_async_context(self._envoy)
        (address,) = self._envoy.listeners.values()
        self.url = f"http://{address}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()


@final
class Istio(EnvoyGateway):
    """Istio: one filter for the listener that is skipped, and what counts on the route; served endpoints are told."""

    def render(self, picker: HostPort, addresses: Iterable[str], *, fails_open: bool) -> dict[str, Any]:
        """Give the bootstrap."""
        document = _render(picker, addresses, cluster="override-host", epp_tls=False, fallback="round-robin")
        asks = picker_filter(document)
        service = {**asks["grpc_service"], "timeout": "10s"}
        asks |= {
            "grpc_service": service,
            "failure_mode_allow": True,
            "processing_mode": _SKIPPED,
            "message_timeout": "1000s",
            "metadata_options": {"forwarding_namespaces": _NAMESPACES, "receiving_namespaces": _NAMESPACES},
        }
        del asks["status_on_error"]
        route = _route(document)
        overrides = {"grpc_service": service, "processing_mode": _MODES, "failure_mode_allow": fails_open}
        route["typed_per_filter_config"] = {
            "envoy.filters.http.ext_proc": {"@type": f"{_FILTER}.ExtProcPerRoute", "overrides": overrides}
        }
        route["route"]["retry_policy"] = {
            "retry_on": "connect-failure,refused-stream,unavailable,cancelled",
            "num_retries": 2,
            "retry_host_predicate": route["route"]["retry_policy"]["retry_host_predicate"],
            "host_selection_retry_max_attempts": 5,
        }
        balancing = document["static_resources"]["clusters"][0]["load_balancing_policy"]["policies"][0]
        sources = balancing["typed_extension_config"]["typed_config"]["override_host_sources"]
        del sources[1:]  # metadata alone
        return document


@final
class EnvoyAiGateway(EnvoyGateway):
    """Envoy AI Gateway: dials what the header says, over TLS to the picker, and fails closed whatever the pool says."""

    def render(self, picker: HostPort, addresses: Iterable[str], *, fails_open: bool) -> dict[str, Any]:  # noqa: ARG002 - as said
        """Give the bootstrap."""
        document = _render(picker, addresses, cluster="original-dst", epp_tls=True)
        asks = picker_filter(document)
        asks |= {"failure_mode_allow": False, "processing_mode": _MODES, "message_timeout": "300s"}
        del asks["metadata_options"], asks["status_on_error"]
        return document


def _render(picker: HostPort, addresses: Iterable[str], **options: Any) -> dict[str, Any]:
    chosen = EnvoyOptions(
        listen=HostPort("127.0.0.1", 0), epp_address=picker, epp_health_check="off", body_mode="none", **options
    )
    document = render_envoy(pool(), map(endpoint_at, addresses), chosen)
    manager = connection_manager(document)
    # Neither removes headers of clients; the protocols that a connection may go on in pass the same filters.
    manager["early_header_mutation_extensions"] = []
    manager["upgrade_configs"] = [{"upgrade_type": "websocket"}]
    return document


def _route(document: dict[str, Any]) -> dict[str, Any]:
    route: dict[str, Any] = connection_manager(document)["route_config"]["virtual_hosts"][0]["routes"][0]
    return route
