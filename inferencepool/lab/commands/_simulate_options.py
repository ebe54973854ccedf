"""The options of ``simulate``, from text to values."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from math import inf, isfinite

import attrs

from inferencepool.cli._durations import duration
from inferencepool.cli._flags import whole
from inferencepool.errors import ConfigurationError
from inferencepool.lab.simulation import (
    EndpointLeaves,
    EndpointsJoin,
    EngineOptions,
    FaultChanges,
    FleetChange,
    ProfileFactory,
    SimulationOptions,
    SpeedChanges,
    Workload,
    parse_profile,
    parse_workload,
)
from inferencepool.registry import OutlierDetection

__all__ = ["add_fleet_options", "labelled_profile", "positive_number", "simulation_options", "whole_number", "workload"]

_MOST = 10**9 - 1

# What each option of the engine is called, and what its help says. The defaults are those of the value.
_ENGINE: dict[str, tuple[str, str]] = {
    "prefill_tokens_per_second": ("RATE", "tokens of prompts that an endpoint computes in a second"),
    "decode_tokens_per_second": ("RATE", "tokens that a single answer gets in a second"),
    "max_running_requests": ("N", "requests that an endpoint works on at a time; the others wait"),
    "max_step_tokens": ("N", "tokens in one step of an engine; longer prompts take several"),
    "kv_blocks": ("N", "blocks in the KV cache of an endpoint"),
    "kv_block_size": ("N", "tokens in a block"),
    "max_adapters": ("N", "LoRA adapters that run at a time"),
    "adapter_load_seconds": ("SECONDS", "how long it takes to load an adapter"),
}


def add_fleet_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is simulated, but for requests and profiles."""
    fleet = parser.add_argument_group("fleet")
    add = fleet.add_argument
    add("--endpoints", metavar="N", type=whole_number, default=8, help="endpoints at the beginning (8)")
    add(
        "--change",
        metavar="CHANGE",
        type=_change,
        action="append",
        default=[],
        help="30s:join:4, 1m:leave:2 (endpoint number 2 of 0, 1, ...), 10s:speed:0:0.5 or 10s:fault:0:dead (or frozen, "
        "stuck, a status such as 500, none for well again); may be given several times",
    )
    add(
        "--scrape-interval",
        metavar="TIME",
        type=duration,
        default=0.05,
        help="time from one scrape of an endpoint to the next (50ms)",
    )
    add(
        "--scrape-delay",
        metavar="TIME",
        type=duration,
        default=0.005,
        help="time until what was scraped is known (5ms)",
    )
    add(
        "--publish-interval",
        metavar="TIME",
        type=duration,
        default=0.05,
        help="least time between two snapshots of the picker (50ms)",
    )
    add("--retries", metavar="N", type=whole_number, default=0, help="other endpoints for a request that failed (0)")
    add("--timeout", metavar="TIME", type=duration, default=inf, help="time after which clients give up (never)")
    add("--no-outlier-detection", action="store_true", help="eject no endpoints by what comes back from them")
    add("--no-reserve", action="store_true", help="let picks that the metrics do not show yet count for nothing")
    engine = parser.add_argument_group("engine", "What the model server of each endpoint is like.")
    for name, field in attrs.fields_dict(EngineOptions).items():
        if name in _ENGINE:
            metavar, text = _ENGINE[name]
            read: Callable[[str], float] = int if isinstance(field.default, int) else float
            flag = f"--{name.replace('_', '-')}"
            engine.add_argument(
                flag, metavar=metavar, type=read, default=field.default, help=f"{text} ({field.default:g})"
            )
    engine.add_argument("--no-prefix-cache", action="store_true", help="keep no prompts in the KV cache")


def simulation_options(arguments: argparse.Namespace) -> SimulationOptions:
    """
    Put together what the options say.

    Raises:
        ConfigurationError: One of them is not allowed.
    """
    engine = {name: getattr(arguments, name) for name in _ENGINE}
    return SimulationOptions(
        endpoints=arguments.endpoints,
        engine=EngineOptions(keeps_prefixes=not arguments.no_prefix_cache, **engine),
        changes=arguments.change,
        scrape_interval=arguments.scrape_interval,
        scrape_delay=arguments.scrape_delay,
        publish_interval=arguments.publish_interval,
        reserve=not arguments.no_reserve,
        retries=arguments.retries,
        timeout=arguments.timeout,
        outlier_detection=None if arguments.no_outlier_detection else OutlierDetection(),
    )


def labelled_profile(text: str) -> tuple[str, ProfileFactory]:
    """Read ``NAME=PROFILE``, or a profile whose name is its text."""
    label, equals, rest = text.partition("=")
    name = label.strip()
    if not equals or "(" in label or not name:
        name, rest = text.strip(), text
    try:
        return name, parse_profile(rest)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


#: Reads a whole number of at most nine digits.
whole_number = whole(0, _MOST)


def workload(text: str) -> tuple[str, Workload]:
    """Read a workload."""
    try:
        return text, parse_workload(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive_number(text: str) -> float:
    """Read a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not (isfinite(number) and number > 0):
        message = f"{text!r} is not a finite number above 0"
        raise argparse.ArgumentTypeError(message)
    return number


def _change(text: str) -> FleetChange:
    """Read ``TIME:join:COUNT``, ``TIME:leave:NUMBER``, ``TIME:speed:NUMBER:FACTOR`` or ``TIME:fault:NUMBER:FAULT``."""
    time, *words = text.split(":")
    try:
        match words:
            case ["join", count]:
                return EndpointsJoin(duration(time), whole_number(count))
            case ["leave", number]:
                return EndpointLeaves(duration(time), whole_number(number))
            case ["speed", number, factor]:
                return SpeedChanges(duration(time), whole_number(number), positive_number(factor))
            case ["fault", number, fault]:
                return FaultChanges(duration(time), whole_number(number), fault)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    message = f"{text!r} is not TIME:join:COUNT, TIME:leave:NUMBER, TIME:speed:NUMBER:FACTOR or TIME:fault:NUMBER:FAULT"
    raise argparse.ArgumentTypeError(message)
