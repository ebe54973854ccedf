"""The two clusters: the picker, and the pool's endpoints."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from inferencepool.gateway._address import HostPort
from inferencepool.gateway._options import ClusterKind, EnvoyOptions, Fallback, HealthCheck
from inferencepool.gateway._plan import Plan
from inferencepool.gateway._types import duration, extension, message, metadata_key, socket_address
from inferencepool.model import AppProtocol
from inferencepool.model._protocol import DESTINATION, LB_NAMESPACE, SERVED

__all__ = ["epp_cluster", "load_assignment", "pool_cluster"]

_EXT_PROC = "envoy.service.ext_proc.v3.ExternalProcessor"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_BALANCING = "load_balancing_policies"

_HEALTH_INTERVAL, _HEALTH_TIMEOUT, _UNHEALTHY_AFTER = 5.0, 2.0, 2
_MAX_RETRIES = 1024
# The picker ejects after 5 failures, and looks again after 2 seconds.
_EJECTED_AFTER, _EJECTION_INTERVAL, _EJECTION_TIME, _MOST_EJECTED = 10, 2.0, 10.0, 50
_PLAINTEXT = "plaintext"


def pool_cluster(planned: Plan, endpoints: Iterable[HostPort]) -> dict[str, Any]:
    """Render the cluster of the pool's endpoints."""
    options = planned.options
    h2c = planned.pool.app_protocol is AppProtocol.H2C
    cluster: dict[str, Any] = {
        "name": planned.pool_cluster,
        "connect_timeout": duration(options.endpoint_connect_timeout),
        "circuit_breakers": _circuit_breakers(options),
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: message(
                _HTTP_OPTIONS.removeprefix("envoy."),
                common_http_protocol_options={"idle_timeout": duration(options.endpoint_idle_timeout)},
                explicit_http_config={"http2_protocol_options": {"allow_connect": True} if options.upgrades else {}}
                if h2c
                else {"http_protocol_options": {}},
            )
        },
    }
    if options.cluster is ClusterKind.ORIGINAL_DST:
        # Only the header: Envoy finds no address in metadata here.
        place = {"use_http_header": True, "http_header_name": DESTINATION}
        return {**cluster, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "original_dst_lb_config": place}
    if options.outlier_detection:
        cluster["outlier_detection"] = _outlier_detection()
    return {**cluster, **_discovery(planned, endpoints), "load_balancing_policy": _override_host(planned.fallback)}


def load_assignment(name: str, endpoints: Iterable[HostPort]) -> dict[str, Any]:
    """Render the endpoints of a cluster."""
    members = [{"endpoint": {"address": socket_address(endpoint)}} for endpoint in endpoints]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": members}] if members else []}


def _outlier_detection() -> dict[str, Any]:
    """Let Envoy eject endpoints that keep failing although the picker sends next to nothing there."""
    return {
        "consecutive_5xx": _EJECTED_AFTER,
        # Below this number it is a matter of the picker's rules, which know what a status means to a model server.
        "enforcing_success_rate": 0,
        "interval": duration(_EJECTION_INTERVAL),
        "base_ejection_time": duration(_EJECTION_TIME),
        "max_ejection_time": duration(_EJECTION_TIME),
        "max_ejection_percent": _MOST_EJECTED,
    }


def _discovery(planned: Plan, endpoints: Iterable[HostPort]) -> dict[str, Any]:
    file = planned.options.eds_file
    if file is None:
        return {"type": "STATIC", "load_assignment": load_assignment(planned.pool_cluster, endpoints)}
    # Watching the directory sees the rename that replaces the file.
    source = {"path": file, "watched_directory": {"path": str(PurePosixPath(file).parent)}}
    config = {"path_config_source": source, "resource_api_version": "V3"}
    return {"type": "EDS", "eds_cluster_config": {"eds_config": config}}


def _override_host(fallback: Fallback) -> dict[str, Any]:
    return _policy(
        "override_host",
        "OverrideHost",
        # Metadata first: no client can write it.
        override_host_sources=[{"metadata": metadata_key(LB_NAMESPACE, DESTINATION)}, {"header": DESTINATION}],
        selected_host_key=metadata_key(LB_NAMESPACE, SERVED),
        fallback_policy=_fallback(fallback),
    )


def _fallback(fallback: Fallback) -> dict[str, Any]:
    match fallback:
        case Fallback.ROUND_ROBIN:
            return _policy("round_robin", "RoundRobin")
        case Fallback.LEAST_REQUEST:
            return _policy("least_request", "LeastRequest")
    # Envoy requires a fallback. This one splits the endpoints by a label that none of them and no route has, and so
    # never finds one.
    return _policy(
        "subset",
        "Subset",
        fallback_policy="NO_FALLBACK",
        subset_selectors=[{"keys": ["inferencepool.none"]}],
        subset_lb_policy=_policy("round_robin", "RoundRobin"),
    )


def _policy(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    config = extension(f"{_BALANCING}.{name}", f"{_BALANCING}.{name}.v3.{kind}", **fields)
    return {"policies": [{"typed_extension_config": config}]}


def epp_cluster(planned: Plan) -> dict[str, Any]:
    """Render the cluster of the picker."""
    options = planned.options
    keepalive = duration(options.epp_keepalive)
    http2 = {"connection_keepalive": {"interval": keepalive, "timeout": keepalive}}
    cluster: dict[str, Any] = {
        "name": planned.epp_cluster,
        "connect_timeout": duration(options.epp_connect_timeout),
        # The names of a Service may have addresses of both kinds, and localhost has.
        **({"type": "STATIC"} if planned.epp.is_ip else {"type": "STRICT_DNS", "dns_lookup_family": "V4_PREFERRED"}),
        "load_balancing_policy": _policy("least_request", "LeastRequest"),
        "load_assignment": _epp_assignment(planned),
        "circuit_breakers": _circuit_breakers(options),
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: message(
                _HTTP_OPTIONS.removeprefix("envoy."), explicit_http_config={"http2_protocol_options": http2}
            )
        },
    }
    if options.epp_tls:
        cluster["transport_socket"] = _tls(planned)
    if options.epp_health_check is not HealthCheck.OFF:
        cluster |= _health(planned)
    return cluster


def _epp_assignment(planned: Plan) -> dict[str, Any]:
    assignment = load_assignment(planned.epp_cluster, [planned.epp])
    port = planned.options.epp_health_port
    if port is not None:
        for member in assignment["endpoints"][0]["lb_endpoints"]:
            member["endpoint"]["health_check_config"] = {"port_value": port}
    return assignment


def _tls(planned: Plan) -> dict[str, Any]:
    options = planned.options
    name = options.epp_server_name or planned.epp.host
    own = options.epp_server_name is not None or not planned.epp.is_ip
    context: dict[str, Any] = {"alpn_protocols": ["h2"], "validation_context": {}}
    if options.epp_ca_file is not None:
        san = {"san_type": "DNS" if own else "IP_ADDRESS", "matcher": {"exact": name}}
        context["validation_context"] = {
            "trusted_ca": {"filename": options.epp_ca_file},
            "match_typed_subject_alt_names": [san],
        }
    # A server name is never an IP address (RFC 6066 section 3).
    server_name = {"sni": name} if own else {}
    kind = "transport_sockets.tls.v3.UpstreamTlsContext"
    return extension("transport_sockets.tls", kind, common_tls_context=context, **server_name)


def _health(planned: Plan) -> dict[str, Any]:
    options = planned.options
    own_port = options.epp_health_port is not None
    check: dict[str, Any] = {
        "interval": duration(_HEALTH_INTERVAL),
        # Unless told, a picker that has not been asked for anything is looked at once a minute.
        "no_traffic_interval": duration(_HEALTH_INTERVAL),
        "timeout": duration(_HEALTH_TIMEOUT),
        "unhealthy_threshold": _UNHEALTHY_AFTER,
        "healthy_threshold": 1,
        "grpc_health_check": {"service_name": _EXT_PROC, "authority": planned.epp.host},
    }
    # Below this percentage of healthy replicas Envoy tries them all: with 1 that is where none is healthy, and 0 is
    # never.
    percentage = 0 if options.epp_health_check is HealthCheck.REQUIRE else 1
    health: dict[str, Any] = {
        "health_checks": [check],
        "common_lb_config": {"healthy_panic_threshold": {"value": percentage}},
    }
    if options.epp_tls and own_port:
        socket = extension("transport_sockets.raw_buffer", "transport_sockets.raw_buffer.v3.RawBuffer")
        health["transport_socket_matches"] = [
            {"name": _PLAINTEXT, "match": {_PLAINTEXT: True}, "transport_socket": socket}
        ]
        check["transport_socket_match_criteria"] = {_PLAINTEXT: True}
    elif options.epp_tls:
        check["tls_options"] = {"alpn_protocols": ["h2"]}
    return health


def _circuit_breakers(options: EnvoyOptions) -> dict[str, Any]:
    most = options.max_requests
    limits = {"max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": _MAX_RETRIES}
    return {"thresholds": [limits]}
