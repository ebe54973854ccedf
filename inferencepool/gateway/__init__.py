"""The gateway's side of a pool: the configuration of a proxy in front of it. Pure functions, no I/O."""

from inferencepool.gateway._address import HostPort
from inferencepool.gateway._envoy import render_endpoints, render_envoy
from inferencepool.gateway._options import BodyMode, ClusterKind, EnvoyOptions, Fallback, HealthCheck
from inferencepool.gateway._plan import Plan, plan
from inferencepool.model._protocol import CLIENT_HEADERS, CONTROL_HEADERS

__all__ = [
    "CLIENT_HEADERS",
    "CONTROL_HEADERS",
    "BodyMode",
    "ClusterKind",
    "EnvoyOptions",
    "Fallback",
    "HealthCheck",
    "HostPort",
    "Plan",
    "plan",
    "render_endpoints",
    "render_envoy",
]
