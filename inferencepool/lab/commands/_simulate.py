"""The command ``simulate``: profiles side by side, on a fleet that exists on paper."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inferencepool.cli._collector import calm_collector
from inferencepool.cli._durations import duration
from inferencepool.cli._flags import usage_error_of
from inferencepool.cli._input_file import display_name, read_lines
from inferencepool.cli._output import one_line
from inferencepool.errors import ConfigurationError
from inferencepool.lab.commands._progress import ProgressBar
from inferencepool.lab.commands._simulate_help import HelpFormatter, epilog
from inferencepool.lab.commands._simulate_options import (
    add_fleet_options,
    labelled_profile,
    positive_number,
    simulation_options,
    whole_number,
    workload,
)
from inferencepool.lab.commands._simulate_report import SimulationReport
from inferencepool.lab.plots import check_plot, plot_results
from inferencepool.lab.simulation import (
    PROFILES,
    Arrival,
    ProfileFactory,
    SharedPrompts,
    SimulationOptions,
    SimulationResult,
    compare,
    read_trace,
    write_trace,
)

if TYPE_CHECKING:
    from argparse import _SubParsersAction

__all__ = ["add_command"]

_COMPARED = ("default", "least-request", "random")
_SECONDS = 60.0


def add_command(commands: _SubParsersAction[argparse.ArgumentParser], text: str) -> None:
    """Add the command to the parser; the *text* says what it does."""
    description = (
        "Let requests come to a fleet of simulated model servers, pick an endpoint for each with the picker itself, "
        "and tell what came of it: how much of the prompts was in caches, how long requests took, how load was "
        "spread. Several profiles get the same requests. Nothing is sent anywhere, and the same seed gives the same "
        "result."
    )
    usage = "inferencepool simulate [--workload WORKLOAD | --trace FILE] [--profile [NAME=]PROFILE]... [OPTION]..."
    parser = commands.add_parser(
        "simulate", usage=usage, help=text, description=description, epilog=epilog(), formatter_class=HelpFormatter
    )
    _add_request_options(parser.add_argument_group("requests"))
    profiles = parser.add_argument_group("profiles")
    profiles.add_argument(
        "--profile",
        metavar="[NAME=]PROFILE",
        type=labelled_profile,
        action="append",
        help=f"a profile to compare, see below; may be given several times ({', '.join(_COMPARED)})",
    )
    add_fleet_options(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--output", choices=("text", "json"), default="text", help="text, or one JSON object (text)")
    output.add_argument("--plot", metavar="FILE", help="draw a picture, too: .svg, .png or .pdf; needs the extra plot")
    parser.set_defaults(run=_run, usage_error=parser.error)


def _add_request_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    source = group.add_mutually_exclusive_group()
    source.add_argument(
        "--workload", metavar="WORKLOAD", type=workload, help="which requests, see below (shared-prompts)"
    )
    source.add_argument("--trace", metavar="FILE", help="replay the requests of a file, - for standard input")
    add("--rate", metavar="RATE", type=positive_number, help="requests per second (what suits workload and endpoints)")
    add("--duration", metavar="TIME", type=duration, help="how long requests come: 90s, 5m (60s)")
    add("--seed", metavar="N", type=whole_number, default=0, help="makes other requests, and settles ties (0)")
    add("--save-trace", metavar="FILE", help="write the requests to a file that --trace reads")


def _run(arguments: argparse.Namespace) -> int:
    options = _options(arguments)
    profiles = _profiles(arguments)
    if arguments.plot is not None:
        try:
            check_plot(arguments.plot)
        except ConfigurationError as error:
            arguments.usage_error(str(error))
    source, seconds, arrivals = _arrivals(arguments, options)
    if arguments.save_trace is not None:
        with Path(arguments.save_trace).open("w", encoding="utf-8") as file:
            file.writelines(write_trace(arrivals))
    report = SimulationReport(
        source=source,
        requests=len(arrivals),
        seconds=seconds,
        endpoints=options.endpoints,
        seed=arguments.seed,
        results=_simulate(arrivals, profiles, options, arguments.seed),
    )
    if arguments.output == "json":
        print(json.dumps(report.to_dict()))
    else:
        for line in report.lines():
            print(one_line(line))
    if arguments.plot is not None:
        plot_results(report.results, arguments.plot, title=report.title)
    return 0


def _options(arguments: argparse.Namespace) -> SimulationOptions:
    refuse = usage_error_of(arguments)
    if arguments.trace is not None and (arguments.rate is not None or arguments.duration is not None):
        refuse("argument --trace: the file says when requests come; leave out --rate and --duration")
    try:
        return simulation_options(arguments)
    except ConfigurationError as error:
        refuse(str(error))


def _profiles(arguments: argparse.Namespace) -> Mapping[str, ProfileFactory]:
    given: Sequence[tuple[str, ProfileFactory]] = arguments.profile or [(name, PROFILES[name]) for name in _COMPARED]
    twice = [name for name, count in Counter(name for name, _ in given).items() if count > 1]
    if twice:
        arguments.usage_error(f"argument --profile: {twice[0]!r} is given twice; tell them apart with NAME=PROFILE")
    return dict(given)


def _arrivals(arguments: argparse.Namespace, options: SimulationOptions) -> tuple[str, float, Sequence[Arrival]]:
    """Give what the requests are called, over how many seconds they come, and the requests."""
    if arguments.trace is not None:
        name = display_name(arguments.trace)
        arrivals: Sequence[Arrival] = read_trace(read_lines(arguments.trace), name)
        return name, round(arrivals[-1].at, 3), arrivals
    name, made = arguments.workload or ("shared-prompts", SharedPrompts())
    seconds = arguments.duration if arguments.duration is not None else _SECONDS
    rate = arguments.rate if arguments.rate is not None else made.rate_per_endpoint * options.endpoints
    arrivals = tuple(made.arrivals(rate=rate, duration=seconds, seed=arguments.seed))
    return name, seconds, arrivals


def _simulate(
    arrivals: Sequence[Arrival], profiles: Mapping[str, ProfileFactory], options: SimulationOptions, seed: int
) -> Sequence[SimulationResult]:
    names = list(profiles)
    with calm_collector(), ProgressBar(max(1, len(names) * len(arrivals))) as bar:

        def tell(name: str, count: int) -> None:
            bar.tell(names.index(name) * len(arrivals) + count, name)

        return compare(arrivals, profiles, options, seed=seed, progress=tell)
