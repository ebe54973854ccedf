"""Flags of the reference picker that its charts pass, and that have no meaning here or the meaning of another flag."""

from __future__ import annotations

import argparse
from typing import Final

from inferencepool.cli._flags import boolean, flag_of, usage_error_of

__all__ = ["add_reference_flags", "check_reference_flags", "reference_notes"]

# What is said in the log where one is given: why it changes nothing.
_WITHOUT_EFFECT: Final = {
    "v": "what is logged is chosen by --log-requests alone",
    "zap_log_level": "what is logged is chosen by --log-requests alone",
    "zap_devel": "there is one form of log lines for all",
    "zap_stacktrace_level": "errors of this program have their traceback, others have none",
    "zap_time_encoding": "times are always in ISO 8601",
    "grpc_max_recv_msg_size": "messages may be as long as the longest body; --max-held-bytes bounds all of them",
    "grpc_max_send_msg_size": "answers are as long as what they answer; --max-held-bytes bounds all of them",
    "refresh_prometheus_metrics_interval": "metrics are computed when they are scraped",
    "enable_grpc_stream_metrics": "metrics of streams are always there",
    "allow_experimental_plugins": "the default profile has none",
}
# The same for what is on or off: only what asks for something that is not there is told.
_MISSING: Final = {
    "tracing": "there are no traces yet",
    "enable_pprof": "there is no profiler",
}
# What would make the picker safer, if it had an effect: nobody is left to believe that it has.
_REFUSED: Final = {
    "metrics_endpoint_auth": "the port of metrics asks nobody who they are; give false, and keep the port inside",
    "metrics_cert_dir": "the port of metrics has no TLS",
    "metrics_client_ca_file": "the port of metrics has no TLS",
    "tls_cipher_suites": "the suites are those of the system's OpenSSL",
}
_LEAST_TLS: Final = "VersionTLS12"


def add_reference_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags to *group*."""
    add = group.add_argument
    text = "form of the log lines, as --log-format: json, or console, which is text"
    add("--zap-encoder", choices=("json", "console"), help=text)
    add("-v", "--v", metavar="N", help="no effect")
    for name in [name for name in _WITHOUT_EFFECT if name != "v"]:
        add(flag_of(name), metavar="VALUE", nargs="?", const="true", help="no effect")
    for name, text in sorted((_MISSING | _REFUSED).items()):
        if name in _MISSING or name == "metrics_endpoint_auth":
            add(flag_of(name), metavar="true|false", nargs="?", type=boolean, const=True, help=f"no effect: {text}")
        else:
            add(flag_of(name), metavar="VALUE", help=f"refused: {text}")
    add("--tls-min-version", metavar="VERSION", help=f"refused, but for {_LEAST_TLS}, which is the least there is")


def check_reference_flags(arguments: argparse.Namespace) -> None:
    """End with a message about usage where a flag would be believed to make the picker safer; take over the others."""
    usage_error = usage_error_of(arguments)
    for name, reason in _REFUSED.items():
        if getattr(arguments, name):
            usage_error(f"argument {flag_of(name)}: has no effect here: {reason}")
    if arguments.tls_min_version not in {None, _LEAST_TLS}:
        usage_error(
            f"argument --tls-min-version: {arguments.tls_min_version!r} cannot be asked for: it is {_LEAST_TLS}"
        )
    if arguments.zap_encoder is not None:
        arguments.log_format = "json" if arguments.zap_encoder == "json" else "text"


def reference_notes(arguments: argparse.Namespace) -> list[str]:
    """Tell of the flags that were given and change nothing, one line for each."""
    given = [(name, why) for name, why in _WITHOUT_EFFECT.items() if getattr(arguments, name) is not None]
    given += [(name, why) for name, why in _MISSING.items() if getattr(arguments, name)]
    return [f"{flag_of(name)}: {why}" for name, why in given]
