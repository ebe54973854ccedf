"""The whole configuration of an Envoy in front of a pool."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from inferencepool.errors import ConfigurationError
from inferencepool.gateway._address import HostPort
from inferencepool.gateway._clusters import epp_cluster, load_assignment, pool_cluster
from inferencepool.gateway._ext_proc import ext_proc_filter
from inferencepool.gateway._options import EnvoyOptions
from inferencepool.gateway._plan import Plan, plan
from inferencepool.gateway._types import duration, extension, message, socket_address
from inferencepool.model import Endpoint, InferencePool

__all__ = ["render_endpoints", "render_envoy"]

# What the picker reads and what servers read is then one path: Envoy decodes dots, resolves `.` and `..` and joins
# slashes. Escaped slashes are sent back to the client as plain ones rather than refused, for names of models have
# slashes (`/v1/models/org%2Fname`); to forward them unescaped would let a path pass whoever judged it before Envoy.
_PLAIN_PATHS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
    }
)

_RETRY_ON = "connect-failure,refused-stream,retriable-status-codes"


def render_envoy(
    pool: InferencePool, endpoints: Iterable[Endpoint] = (), options: EnvoyOptions | None = None
) -> dict[str, Any]:
    """
    Render the bootstrap of an Envoy in front of *pool*, ready for JSON or YAML.

    Args:
        pool: The pool; its failure mode decides what a failing picker means, its protocol what endpoints are spoken to.
        endpoints: The endpoints that may serve. Only an override-host cluster without a file of endpoints uses them;
            with none every request gets 503. Endpoints at the same address count once.
        options: What to choose differently; None for the defaults.

    Returns:
        A document of the type ``envoy.config.bootstrap.v3.Bootstrap``.

    Raises:
        ConfigurationError: Envoy cannot do what pool and options ask for together, nothing tells where the picker is,
            or an endpoint has no IP address; the message names the option and the reason.
    """
    planned = plan(pool, options if options is not None else EnvoyOptions())
    document: dict[str, Any] = {
        # Envoy needs a name of itself for endpoints from a file.
        "node": {"id": f"inferencepool/{planned.pool_cluster}", "cluster": "inferencepool"},
        "static_resources": {
            "listeners": [_listener(planned)],
            "clusters": [pool_cluster(planned, _addresses(endpoints)), epp_cluster(planned)],
        },
    }
    admin = planned.options.admin
    return document if admin is None else {"admin": {"address": _bind(admin)}, **document}


def render_endpoints(pool: InferencePool, endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """
    Render the file of endpoints that a configuration with `EnvoyOptions.eds_file` reads.

    Envoy reads the file again when another one is renamed onto it, and not when it is written in place.

    Returns:
        A document of the type ``envoy.service.discovery.v3.DiscoveryResponse``; its version depends on nothing but the
        endpoints.

    Raises:
        ConfigurationError: An endpoint has no IP address.
    """
    assignment = load_assignment(f"{pool.namespace}/{pool.name}", _addresses(endpoints))
    version = hashlib.sha256(json.dumps(assignment).encode()).hexdigest()[:16]
    resource = message("config.endpoint.v3.ClusterLoadAssignment", **assignment)
    return {"version_info": version, "resources": [resource]}


def _addresses(endpoints: Iterable[Endpoint]) -> list[HostPort]:
    addresses: dict[HostPort, None] = {}
    for endpoint in endpoints:
        try:
            address = HostPort(endpoint.address, endpoint.port)
        except ConfigurationError as error:
            reason = f"endpoints: {endpoint}: {error}"
            raise ConfigurationError(reason) from None
        if not address.is_ip or not address.port:
            reason = f"endpoints: {endpoint} has no IP address with a port"
            raise ConfigurationError(reason)
        addresses[address] = None
    return list(addresses)


def _bind(address: HostPort) -> dict[str, Any]:
    return socket_address(address, ipv4_compat=True) if address.host == "::" else socket_address(address)


def _listener(planned: Plan) -> dict[str, Any]:
    return {
        "name": "inference",
        "address": _bind(planned.options.listen),
        "per_connection_buffer_limit_bytes": planned.options.buffer_limit,
        "filter_chains": [{"filters": [_connection_manager(planned)]}],
    }


def _connection_manager(planned: Plan) -> dict[str, Any]:
    options = planned.options
    limits: dict[str, Any] = {}
    if options.max_duration is not None:
        limits["common_http_protocol_options"] = {"max_stream_duration": duration(options.max_duration)}
    return extension(
        "filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="inference",
        stream_idle_timeout=duration(options.idle_timeout),
        **limits,
        # Clients are strangers, from whatever address: Envoy takes none of its own x-envoy- headers from them. An empty
        # list would mean all private addresses, so it holds one that no client has.
        use_remote_address=True,
        internal_address_config={"cidr_ranges": [{"address_prefix": "0.0.0.0", "prefix_len": 32}]},  # noqa: S104 - not bound to
        **_PLAIN_PATHS,
        **_request_id(),
        **_upgrades(planned),
        early_header_mutation_extensions=_stripping(planned.stripped),
        route_config={
            "name": "inference",
            "virtual_hosts": [{"name": "inference", "domains": ["*"], "routes": [_route(planned)]}],
        },
        http_filters=_filters(planned),
    )


def _upgrades(planned: Plan) -> dict[str, Any]:
    """Let clients go on in another protocol; what they say in it is no body, so the picker gets the headers alone."""
    filters = _filters(planned, upgraded=True)
    upgrades = [{"upgrade_type": each, "filters": filters} for each in planned.options.upgrades]
    # HTTP/2 has an upgrade of its own, the extended CONNECT of RFC 8441.
    return {"upgrade_configs": upgrades, "http2_protocol_options": {"allow_connect": True}} if upgrades else {}


def _filters(planned: Plan, *, upgraded: bool = False) -> list[dict[str, Any]]:
    router = extension("filters.http.router", "filters.http.router.v3.Router")
    return [ext_proc_filter(planned, upgraded=upgraded), router]


def _request_id() -> dict[str, Any]:
    """Keep the id that a client gave, whole, make one where there is none, and tell it in the response."""
    uuid = message("extensions.request_id.uuid.v3.UuidRequestIdConfig", pack_trace_reason=False)
    return {
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {"typed_config": uuid},
    }


def _stripping(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Remove headers before anything looks at them; removing them in a route would also remove what the picker set."""
    if not names:
        return []
    kind = "http.early_header_mutation.header_mutation.v3.HeaderMutation"
    name = "http.early_header_mutation.header_mutation"
    return [extension(name, kind, mutations=[{"remove": each} for each in names])]


def _route(planned: Plan) -> dict[str, Any]:
    # Envoy's own limit for a whole response is 15 seconds; the idle timeout takes its place.
    action: dict[str, Any] = {"cluster": planned.pool_cluster, "timeout": "0s"}
    if planned.retries:
        action["retry_policy"] = _retry_policy(planned)
    return {"match": {"prefix": "/"}, "route": action}


def _retry_policy(planned: Plan) -> dict[str, Any]:
    """Send again what no endpoint has begun to answer, each time to an endpoint that was not tried."""
    kind = "retry.host.previous_hosts.v3.PreviousHostsPredicate"
    return {
        "retry_on": f"{_RETRY_ON},{'reset' if planned.retry_resets else 'reset-before-request'}",
        "retriable_status_codes": [503],
        "num_retries": planned.retries,
        "retry_host_predicate": [extension("retry_host_predicates.previous_hosts", kind)],
        "host_selection_retry_max_attempts": planned.retries,
    }
