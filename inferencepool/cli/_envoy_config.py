"""The command ``envoy-config``: an Envoy in front of a pool."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from inferencepool.cli._flags import add_strict, boolean, flag_of
from inferencepool.cli._input_file import STANDARD_INPUT
from inferencepool.cli._manifests import read_pods_file, read_pool_file
from inferencepool.cli._output import report
from inferencepool.cli._yaml import write_yaml
from inferencepool.errors import ConfigurationError
from inferencepool.gateway import (
    BodyMode,
    ClusterKind,
    EnvoyOptions,
    Fallback,
    HealthCheck,
    HostPort,
    Plan,
    plan,
    render_endpoints,
    render_envoy,
)
from inferencepool.model import Endpoint, InferencePool
from inferencepool.selection import expand

if TYPE_CHECKING:
    from argparse import _SubParsersAction

__all__ = ["add_command"]

_NO_UPGRADE = "none"
# Options that are given once for each of several values.
_SINGULAR = {"keep_headers": "keep_header", "strip_headers": "strip_header", "upgrades": "upgrade"}
_METAVARS: dict[Any, str] = {int: "N", float: "SECONDS"}


def add_command(commands: _SubParsersAction[argparse.ArgumentParser], text: str) -> None:
    """Add the command to the parser; the *text* says what it does."""
    description = f"{text[:1].upper()}{text[1:]}, from files."
    parser = commands.add_parser("envoy-config", help=text, description=description)
    add = parser.add_argument
    add("--pool", metavar="FILE", required=True, help="the InferencePool: YAML or JSON; - for standard input")
    add("--pods", metavar="FILE", help="its Pods: the ready ones are the endpoints of an override-host cluster")
    add(
        "--print",
        choices=("bootstrap", "endpoints"),
        default="bootstrap",
        help="the whole configuration, or the file of endpoints for --eds-file (bootstrap)",
    )
    add("--output", choices=("yaml", "json"), default="json", help="the form of the output (json)")
    add_strict(parser)
    _add_endpoint_options(parser.add_argument_group("endpoints"))
    _add_picker_options(parser.add_argument_group("endpoint picker"))
    _add_listener_options(parser.add_argument_group("listener"))
    parser.set_defaults(run=_run, usage_error=parser.error)


def _add_endpoint_options(group: argparse._ArgumentGroup) -> None:
    add = _Adder(group)
    add("cluster", [*ClusterKind], "how Envoy finds the picked endpoint")
    add("fallback", [*Fallback], "where a request without a usable pick goes")
    add("retries", int, "how often a request is sent again that no endpoint began to answer")
    add("retry_resets", boolean, "whether also when it had the request", metavar="true|false")
    add("outlier_detection", boolean, "whether Envoy, too, ejects endpoints that fail", metavar="true|false")
    add("eds_file", str, "file on Envoy's machine to read endpoints from, again at each rename", metavar="FILE")
    add("endpoint_connect_timeout", float, "seconds to connect to an endpoint")
    add("endpoint_idle_timeout", float, "seconds that an unused connection to an endpoint is kept")


def _add_picker_options(group: argparse._ArgumentGroup) -> None:
    add = _Adder(group)
    add("epp_address", _address, "where the picker is; otherwise the Service that the pool names")
    add("epp_tls", boolean, "whether it speaks TLS", metavar="true|false")
    add("epp_ca_file", str, "certificates that vouch for it; otherwise any certificate is taken", metavar="FILE")
    add("epp_server_name", str, "name that its certificate must carry; otherwise that of its address", metavar="NAME")
    add("epp_health_check", [*HealthCheck], "leave out unhealthy replicas if others are healthy, or always")
    add("epp_health_port", int, "port to ask for its health without TLS; otherwise that of ext_proc")
    add("epp_connect_timeout", float, "seconds to connect to it")
    add("epp_keepalive", float, "seconds between probes of its connection, and to wait for their answer")
    add("epp_timeout", float, "seconds to wait for its answers, except for bodies in full duplex")
    add("body_mode", [*BodyMode], "how it gets the request's body")
    group.add_argument("--usage", action="store_true", help="also give it the response's body, to count tokens")


def _add_listener_options(group: argparse._ArgumentGroup) -> None:
    add = _Adder(group)
    add("listen", _address, "where Envoy listens")
    add("admin", _address, "where its administration interface listens; otherwise it has none")
    add("buffer_limit", int, "largest request body that is held", metavar="BYTES")
    add("idle_timeout", float, "seconds that an exchange may pass without a byte")
    add("max_duration", float, "seconds that an exchange may take in all")
    add("max_requests", int, "how many exchanges may run at the same time")
    for flag, help_ in (
        ("--upgrade", f"a protocol that clients may go on in (websocket), or {_NO_UPGRADE}; may be repeated"),
        ("--strip-header", "one more request header to remove from what clients send; may be repeated"),
        ("--keep-header", "a control header not to remove, for clients that are trusted proxies; may be repeated"),
    ):
        group.add_argument(flag, metavar="NAME", dest=f"{flag[2:].replace('-', '_')}s", action="append", help=help_)


class _Adder:
    """Adds an option for a field of `EnvoyOptions`; one that is not given leaves the field's default."""

    def __init__(self, group: argparse._ArgumentGroup) -> None:
        self._group = group
        self._defaults = {field.name: field.default for field in attrs.fields(EnvoyOptions)}

    def __call__(self, field: str, kind: list[str] | Callable[[str], Any], text: str, metavar: str = "") -> None:
        default = self._defaults[field]
        # Percent signs would be read as formats; no default has one.
        value = f"{default:g}" if isinstance(default, float) else str(default).lower()
        shown = text if default is None else f"{text} ({value})"
        settings: dict[str, Any] = {"default": None, "dest": field, "help": shown}
        if isinstance(kind, list):
            settings["choices"] = [str(each) for each in kind]
        else:
            settings |= {"type": kind, "metavar": metavar or _METAVARS.get(kind, "HOST:PORT")}
        self._group.add_argument(flag_of(field), **settings)


def _address(text: str) -> HostPort:
    try:
        return HostPort.parse(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _run(arguments: argparse.Namespace) -> int:
    if [arguments.pool, arguments.pods].count(STANDARD_INPUT) > 1:
        arguments.usage_error("standard input (-) can be read only once")
    if arguments.print == "endpoints" and arguments.pods is None:
        arguments.usage_error("argument --print: endpoints come from --pods, which is missing")
    try:
        options = _options(arguments)
    except ConfigurationError as error:
        field, _, reason = str(error).partition(": ")
        arguments.usage_error(f"argument {flag_of(_SINGULAR.get(field, field))}: {reason}")
    pool = read_pool_file(arguments.pool, strict=arguments.strict)
    endpoints = _endpoints(pool, arguments.pods, strict=arguments.strict)
    if arguments.print == "endpoints":
        document = render_endpoints(pool, endpoints)
    else:
        document = render_envoy(pool, endpoints, options)
    text = json.dumps(document, indent=2) if arguments.output == "json" else write_yaml([document])
    _tell_of_endpoints(arguments, options, endpoints)
    if arguments.print == "bootstrap":
        _tell_of_fallbacks(plan(pool, options))
    print(text)
    return 0


def _options(arguments: argparse.Namespace) -> EnvoyOptions:
    fields = (field.name for field in attrs.fields(EnvoyOptions))
    given = {name: value for name in fields if (value := getattr(arguments, name)) is not None}
    if given.get("upgrades") == [_NO_UPGRADE]:
        given["upgrades"] = ()
    return EnvoyOptions(**given)


def _endpoints(pool: InferencePool, file: str | None, *, strict: bool) -> list[Endpoint]:
    if file is None:
        return []
    return [endpoint for document in read_pods_file(file, strict=strict) for endpoint in expand(pool, document.pod)]


def _tell_of_endpoints(arguments: argparse.Namespace, options: EnvoyOptions, endpoints: list[Endpoint]) -> None:
    unused = "an original-dst cluster" if options.cluster is ClusterKind.ORIGINAL_DST else ""
    if options.eds_file is not None and arguments.print == "bootstrap":
        unused = "a configuration with --eds-file"
    if unused and arguments.pods is not None:
        report(f"note: --pods has no effect: {unused} does not list endpoints")
    elif not unused and not endpoints:
        reason = "no pod is a ready member of the pool" if arguments.pods is not None else "there is no --pods"
        report(f"note: the list of endpoints is empty, for {reason}: every request will get 503")


def _tell_of_fallbacks(planned: Plan) -> None:
    """Say what the picker has to do for retries to have somewhere to go, where the proxy goes nowhere by itself."""
    overrides = planned.options.cluster is ClusterKind.OVERRIDE_HOST
    if overrides and planned.retries and planned.fallback is Fallback.NONE:
        flag = f"inferencepool serve --fallbacks {planned.retries}"
        report(f"note: a request is sent again to endpoints that the picker lists: {flag}")
