"""Compare the picks of other routers with ours."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from benchmarks.peers.catalog import OURS, PEERS, Peer
from benchmarks.peers.coordinator import (
    Connection,
    Filled,
    Plan,
    Timed,
    WorkerError,
    compare_memory,
    compare_speed,
    connect,
)
from benchmarks.peers.environments import NotInstalledError
from benchmarks.peers.table import memory_to_text, speed_to_text, ways_to_text

_Measured = TypeVar("_Measured", Timed, Filled)

_FOLDER = Path(__file__).parents[2] / ".peers"


def main(arguments: list[str]) -> int:
    """Make the environments, measure, print."""
    options = _parse(arguments)
    plan = Plan(sizes=options.sizes, rounds=options.rounds)
    peers = [peer for peer in PEERS if peer == OURS or not options.peers or peer.name in options.peers]
    with ExitStack() as stack:
        connections, versions, absent = _connect_all(peers, options.folder, stack)
        print(f"Python {platform.python_version()}, {platform.machine()}; rc = random.choice on a list of 1,000\n")
        if options.only != "memory":
            print(speed_to_text(list(_tell(compare_speed(connections, plan))), versions, absent), end="\n\n")
        if options.only != "speed":
            filled = list(_tell(compare_memory(connections, plan)))
            print(memory_to_text(filled, versions, plan.memory_size), end="\n\n")
        print(ways_to_text(peers, versions))
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    names = [peer.name for peer in PEERS if peer != OURS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument(
        "peers", nargs="*", metavar="PEER", help=f"whom to compare with; default: all of {', '.join(names)}"
    )
    parser.add_argument("--only", choices=["speed", "memory"], help="what to measure; default: both")
    parser.add_argument("--sizes", nargs="+", type=int, default=[10, 100, 1_000], help="numbers of endpoints")
    parser.add_argument("--rounds", type=int, default=11, help="turns that each way of picking has")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where environments and logs are kept")
    options = parser.parse_args(arguments)
    if unknown := set(options.peers) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return options


def _connect_all(
    peers: list[Peer], folder: Path, stack: ExitStack
) -> tuple[list[Connection], dict[str, str], dict[Peer, str]]:
    """Start the workers; give also their versions, and why peers are absent."""
    connections, versions, absent = [], {}, {}
    for peer in peers:
        print(f"{peer.name}: making its environment", file=sys.stderr)
        try:
            connection = stack.enter_context(connect(peer, folder))
            versions[peer.name] = connection.ask("about", distribution=peer.distribution)["version"]
            connections.append(connection)
        except (NotInstalledError, WorkerError) as error:
            absent[peer] = str(error)
    return connections, versions, absent


def _tell(measured: Iterable[_Measured]) -> Iterator[_Measured]:
    """Tell on the way what has been measured; the tables come at the end."""
    for one in measured:
        print(f"{one.peer.name}, {one.way.name}: {one.error or 'measured'}", file=sys.stderr)
        yield one


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
