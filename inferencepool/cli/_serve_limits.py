"""The flags of ``serve`` that say what clients may use."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

import attrs

from inferencepool.cli._durations import duration
from inferencepool.cli._flags import flag_of, usage_error_of, whole
from inferencepool.errors import ConfigurationError

if TYPE_CHECKING:
    from inferencepool.adapters.extproc import ExternalProcessor
    from inferencepool.runtime.grpc import Limits
    from inferencepool.runtime.http import PageLimits

__all__ = ["add_limit_flags", "check_limit_flags", "page_limits", "server_limits"]

_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,12})(Ki|Mi|Gi|)")


def add_limit_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags to *group*."""
    add, number = group.add_argument, whole()
    add("--max-connections", metavar="N", type=number, default=1024, help="of ext_proc, and of health (1024)")
    add(
        "--max-connections-per-peer",
        metavar="N",
        type=number,
        default=256,
        help="those of one address; 0 for any number (256)",
    )
    add("--max-handshakes", metavar="N", type=number, default=128, help="TLS handshakes at a time (128)")
    add("--max-streams", metavar="N", type=number, default=32_768, help="streams of ext_proc at a time (32768)")
    add(
        "--max-held-bytes",
        metavar="SIZE",
        type=_size,
        help="what is held for requests that are not whole, and for answers that wait (520Mi)",
    )
    add(
        "--answer-timeout",
        metavar="TIME",
        type=duration,
        default=60.0,
        help="end streams whose gateway takes nothing of what waits for it (1m)",
    )
    add(
        "--least-body-rate",
        metavar="SIZE",
        type=_size,
        default=4096,
        help="bytes per second that a body must bring, or it is refused (4Ki)",
    )
    add("--max-page-connections", metavar="N", type=number, default=32, help="of the pages (32)")
    add(
        "--max-page-connections-per-peer",
        metavar="N",
        type=number,
        default=16,
        help="those of one address; 0 for any number (16)",
    )
    add(
        "--exempt-peer",
        metavar="NETWORK",
        action="append",
        default=[],
        help="an address or network without limits of its own; may be given several times",
    )


def check_limit_flags(arguments: argparse.Namespace) -> None:
    """End with a message about usage if a limit leaves no room for anything."""
    usage_error = usage_error_of(arguments)
    for name in ("max_connections", "max_handshakes", "max_streams", "max_page_connections", "least_body_rate"):
        if not getattr(arguments, name):
            usage_error(f"argument {flag_of(name)}: 0 leaves no room for any request; allowed is 1 or more")
    if not arguments.answer_timeout:
        usage_error("argument --answer-timeout: 0 leaves no time for any answer; allowed is more than 0")
    from inferencepool.runtime._listening import read_networks  # noqa: PLC0415 - who only validates need not wait

    try:
        arguments.exempt_peer = read_networks("argument --exempt-peer", arguments.exempt_peer)
    except ConfigurationError as error:
        usage_error(str(error))


def server_limits(arguments: argparse.Namespace, processor: ExternalProcessor) -> Limits:
    """Give what clients of ext_proc may use; end with a message about usage if that does not hold a body."""
    from inferencepool.runtime.extproc import extproc_limits  # noqa: PLC0415 - it imports extras

    limits = extproc_limits(processor)
    held: int | None = arguments.max_held_bytes
    if held is not None:
        least = limits.message_bytes
        if held < least:
            text = f"{held} bytes do not hold the longest body that is taken; allowed is {least} or more"
            usage_error_of(arguments)(f"argument --max-held-bytes: {text}")
        # Half of it for one connection, as by default.
        limits = attrs.evolve(limits, server_bytes=held, partial_bytes=max(least, held // 2))
    return attrs.evolve(
        limits,
        connections=arguments.max_connections,
        connections_per_peer=arguments.max_connections_per_peer or None,
        exempt_peers=arguments.exempt_peer,
        handshakes=arguments.max_handshakes,
        server_streams=arguments.max_streams,
        queued_seconds=arguments.answer_timeout,
    )


def page_limits(arguments: argparse.Namespace) -> PageLimits:
    """Give what clients of the pages may use."""
    from inferencepool.runtime.http import PageLimits  # noqa: PLC0415 - as above

    return PageLimits(
        connections=arguments.max_page_connections,
        connections_per_peer=arguments.max_page_connections_per_peer or None,
        exempt_peers=arguments.exempt_peer,
    )


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        message = f"{text!r} is not a number of bytes such as 4096, 64Ki, 512Mi or 2Gi"
        raise argparse.ArgumentTypeError(message)
    return int(found[1]) * _UNITS[found[2]]
