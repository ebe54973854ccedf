"""The command ``serve``: the endpoint picker behind a gateway."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from typing import TYPE_CHECKING

from inferencepool.cli._collector import calm_collector
from inferencepool.cli._durations import duration
from inferencepool.cli._flags import UsageError, add_boolean, add_strict, flag_of, port, usage_error_of, whole
from inferencepool.cli._input_file import STANDARD_INPUT
from inferencepool.cli._output import report
from inferencepool.cli._serve_cluster import CLUSTER_EVENTS, add_cluster_flags, check_cluster_flags
from inferencepool.cli._serve_election import add_election_flags, check_election_flags
from inferencepool.cli._serve_limits import add_limit_flags, check_limit_flags
from inferencepool.cli._serve_outliers import add_outlier_flags, check_outlier_flags
from inferencepool.cli._serve_reference import add_reference_flags, check_reference_flags
from inferencepool.cli._serve_scraping import ScrapingSetup, add_scraping_flags, scraping_setup
from inferencepool.errors import ConfigurationError, InvalidDocumentError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from inferencepool.runtime.server import ServerOptions

__all__ = ["add_command"]

_MOST_FALLBACKS = 100
_FILES = ("pool_file", "pods_file", "endpoints_file")
_SOURCES = ("pool_name", "endpoint_selector", "endpoint_target_ports", *_FILES)
_WAYS: tuple[set[str], ...] = (
    {"pool_name"},
    {"endpoint_selector", "endpoint_target_ports"},
    {"pool_file", "pods_file"},
    {"endpoints_file"},
)
_LATER = {"config_file": "EndpointPickerConfig files are not supported yet; leave it out"}


def add_command(commands: _SubParsersAction[argparse.ArgumentParser], text: str) -> None:
    """Add the command to the parser; the *text* says what it does."""
    # Abbreviations would mean something else, or nothing, as soon as there are more flags.
    parser = commands.add_parser("serve", help=text, description=f"{text.capitalize()}.", allow_abbrev=False)
    add_cluster_flags(parser.add_argument_group("endpoints of a cluster: those of a pool, or by labels and ports"))
    _add_files(parser.add_argument_group("endpoints of files: a pool and its pods, or a list of endpoints"))
    _add_ports(parser.add_argument_group("ports"))
    add_election_flags(parser.add_argument_group("several replicas"))
    _add_behavior(parser.add_argument_group("requests"))
    add_limit_flags(parser.add_argument_group("limits: what clients may use"))
    add_outlier_flags(parser.add_argument_group("outlier detection: endpoints that are ready, and ill"))
    add_scraping_flags(parser.add_argument_group("metrics of the model servers"))
    _add_pages(parser.add_argument_group("pages: metrics, and what the picker knows"))
    _add_logs(parser.add_argument_group("logs"))
    add_reference_flags(parser.add_argument_group("flags of the reference picker, for its charts"))
    parser.set_defaults(run=_run, usage_error=parser.error)


def _add_files(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--pool-file", metavar="FILE", help="the InferencePool, its objectives and model rewrites; read once")
    add("--pods-file", metavar="FILE", help="its Pods, as `kubectl get pods -o yaml` prints them; read when it changes")
    add("--endpoints-file", metavar="FILE", help="endpoints: name, address, port, labels; read when it changes")
    add_strict(group)
    add("--config-file", metavar="FILE", help="an EndpointPickerConfig; not supported yet")


def _add_ports(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--address", default="", help="address to listen on (all)")
    add("--grpc-port", metavar="PORT", type=port(0), default=9002, help="port of ext_proc; 0 for any (9002)")
    add("--grpc-health-port", metavar="PORT", type=port(0), default=9003, help="port of health; 0 for any (9003)")
    add(
        "--metrics-port",
        metavar="PORT|off",
        type=_port_or_off,
        default=9090,
        help="port of the pages; 0 for any (9090)",
    )
    add_boolean(group, "--secure-serving", "serve ext_proc with TLS", default=True)
    add("--cert-path", metavar="DIR", help="directory with tls.crt and tls.key; otherwise self-signed")
    add_boolean(group, "--enable-cert-reload", "follow changes of these two files")
    add_boolean(group, "--health-checking", "serve health on the port of ext_proc as well")
    add("--drain-timeout", metavar="TIME", type=duration, default=600.0, help="go on serving after SIGTERM (10m)")
    add("--drain-notice", metavar="TIME", type=duration, default=5.0, help="let gateways notice SIGTERM, before (5s)")


def _add_behavior(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--request-deadline", metavar="TIME", type=duration, default=10.0, help="refuse requests that stall (10s)")
    add_boolean(group, "--disable-endpoint-subset-filter", "disregard subset hints of the gateway")
    add_boolean(group, "--emit-endpoint-scores", "tell the gateway the score of each candidate")
    add(
        "--keep-header",
        metavar="NAME",
        action="append",
        default=[],
        help="let a header pass that clients may not set, as the client is a gateway; may be given several times",
    )
    add(
        "--fallbacks",
        metavar="N",
        type=whole(0, _MOST_FALLBACKS),
        default=0,
        help="endpoints to list behind the picked one, for an Envoy that balances by override_host (0)",
    )
    add(
        "--parser",
        metavar="NAME",
        action="append",
        default=[],
        help="read bodies with this parser, by the reference's name; may be given several times (openai-parser, "
        "anthropic-parser, vllmhttp-parser, passthrough-parser)",
    )
    add(
        "--response-phase",
        choices=("keep", "auto", "end"),
        default="keep",
        help="how long to stay with a request: until its response ends, wherever the gateway sends it (keep)",
    )
    add("--error-format", choices=("text", "json"), default="text", help="what refused clients are told (text)")
    add("--hold", metavar="TIME", type=duration, help="how long load counts whose end cannot be seen (an estimate)")
    add_boolean(group, "--usage", "count tokens, where the gateway sends the bodies of responses")
    add_boolean(group, "--reserve", "count picks as load before the metrics show them", default=True)
    add_boolean(group, "--prefix-compatibility", "remember prompts as the reference does, in hashes of 64 tokens")
    add("--seed", metavar="N", type=int, help="make ties fall the same way each time")


def _add_pages(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--model-name-metric-label-limit",
        metavar="N",
        type=whole(),
        default=100,
        help="names of models that are told apart in metrics (100)",
    )
    add(
        "--fairness-id-metric-label-limit",
        metavar="N",
        type=whole(),
        default=1000,
        help="fairness ids that are told apart in metrics (1000)",
    )
    add(
        "--ejected-endpoint-metric-label-limit",
        metavar="N",
        type=whole(),
        default=100,
        help="endpoints up to which metrics tell of each whether it is ejected (100)",
    )
    add_boolean(group, "--deprecated-metrics", "export metrics under their former names as well")
    add_boolean(group, "--debug", "show at /debug/ what the picker knows and why it decided as it did")
    choices = ("loopback", "anywhere")
    add("--debug-from", choices=choices, default="loopback", help="which connections are shown /debug/ (loopback)")
    add(
        "--debug-decisions",
        metavar="N",
        type=whole(),
        default=100,
        help="how many decisions are shown (100)",
    )


def _add_logs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--log-format", choices=("text", "json"), default="text", help="form of the log lines (text)")
    add_boolean(group, "--log-requests", "a line for each request, not only for those that are refused")


def _port_or_off(text: str) -> int | None:
    return None if text == "off" else port(0)(text)


def _run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    # Whoever only validates manifests need not wait for these.
    from inferencepool.cli._memory import give_back_large_blocks  # noqa: PLC0415 - as above
    from inferencepool.runtime.logs import LineLimit, LogFormat, start_logging  # noqa: PLC0415 - as above
    from inferencepool.runtime.server import EJECTION_EVENTS, LIMITED_EVENTS  # noqa: PLC0415 - as above

    give_back_large_blocks()
    options, scraping = _options(arguments), _scraping(arguments)
    limit = LineLimit((*LIMITED_EVENTS, *EJECTION_EVENTS, *CLUSTER_EVENTS))
    end_logging = start_logging(LogFormat(arguments.log_format), limit=limit)
    try:
        asyncio.run(_serve(arguments, options, scraping))
    except InvalidDocumentError as error:
        report(str(error), "")
        return 1
    finally:
        end_logging()
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """End with a message about usage if flags make no sense together."""
    usage_error = usage_error_of(arguments)
    for name, reason in _LATER.items():
        if getattr(arguments, name) is not None:
            usage_error(f"argument {flag_of(name)}: {reason}")
    given = {name for name in _SOURCES if getattr(arguments, name) is not None}
    if given not in _WAYS:
        ways = ", or ".join(" and ".join(flag_of(name) for name in _SOURCES if name in way) for way in _WAYS)
        shown = ", ".join(flag_of(name) for name in _SOURCES if name in given) or "none of them"
        usage_error(f"needed is {ways}; given: {shown}")
    check_cluster_flags(arguments)
    check_election_flags(arguments)
    check_limit_flags(arguments)
    check_outlier_flags(arguments)
    check_reference_flags(arguments)
    for name in given.intersection(_FILES):
        if getattr(arguments, name) == STANDARD_INPUT:
            usage_error(f"argument {flag_of(name)}: standard input (-) cannot be read again; give a file")
    if not arguments.request_deadline:
        usage_error("argument --request-deadline: 0 leaves no time for any request")
    if arguments.hold == 0:
        usage_error("argument --hold: 0 would let go of the load of requests that run; leave it out for an estimate")
    _check_headers(arguments, usage_error)
    _check_parsers(arguments, usage_error)
    _check_pages(arguments, usage_error)


def _check_headers(arguments: argparse.Namespace, usage_error: UsageError) -> None:
    from inferencepool.adapters.extproc import FORGEABLE  # noqa: PLC0415 - as in _run

    for name in arguments.keep_header:
        if name.lower() not in FORGEABLE:
            usage_error(f"argument --keep-header: {name!r} is none of {', '.join(sorted(FORGEABLE))}")


def _check_parsers(arguments: argparse.Namespace, usage_error: UsageError) -> None:
    from inferencepool.adapters.bodies import BodyParsers, parser_named  # noqa: PLC0415 - as in _run

    try:
        BodyParsers(map(parser_named, arguments.parser))
    except ConfigurationError as error:
        usage_error(f"argument --parser: {error}")


def _check_pages(arguments: argparse.Namespace, usage_error: UsageError) -> None:
    if not arguments.metrics_staleness_threshold:
        usage_error("argument --metrics-staleness-threshold: 0 leaves no metrics that are fresh")
    for name in ("grpc_port", "grpc_health_port"):
        if arguments.metrics_port == getattr(arguments, name) != 0:
            usage_error(f"argument --metrics-port: {arguments.metrics_port} is {flag_of(name)} as well")
    if arguments.debug and arguments.metrics_port is None:
        usage_error("argument --debug: there is no port for it; leave out --metrics-port off")
    if arguments.debug and not arguments.debug_decisions:
        usage_error("argument --debug-decisions: 0 leaves none to show; allowed is 1 or more")


def _options(arguments: argparse.Namespace) -> ServerOptions:
    from inferencepool.runtime.server import ServerOptions  # noqa: PLC0415 - as above

    try:
        return ServerOptions(
            address=arguments.address,
            grpc_port=arguments.grpc_port,
            grpc_health_port=arguments.grpc_health_port,
            secure_serving=arguments.secure_serving,
            cert_path=arguments.cert_path,
            enable_cert_reload=arguments.enable_cert_reload,
            health_checking=arguments.health_checking,
            drain_timeout=arguments.drain_timeout,
            drain_notice=arguments.drain_notice,
        )
    except ConfigurationError as error:
        usage_error_of(arguments)(f"argument {flag_of(error.field)}: {error.reason.replace('_', '-')}")


def _scraping(arguments: argparse.Namespace) -> ScrapingSetup:
    try:
        return scraping_setup(arguments)
    except ConfigurationError as error:
        usage_error_of(arguments)(str(error))


async def _serve(arguments: argparse.Namespace, options: ServerOptions, scraping: ScrapingSetup) -> None:
    from inferencepool.cli._serve_assembly import assemble  # noqa: PLC0415 - it imports extras

    server = assemble(arguments, options, scraping)
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        # It would end the process, and is sent by whoever wants files to be read again.
        loop.add_signal_handler(signal.SIGHUP, _ignore)
    with calm_collector():
        await server.run()


def _ignore() -> None:
    from inferencepool.runtime.logs import log_event  # noqa: PLC0415 - as in _run

    reason = "files are read again when they change; flags hold until the end"
    log_event(logging.getLogger(__name__), logging.INFO, "signal ignored", signal="SIGHUP", reason=reason)
