"""Compare the picks of other routers with ours: ``python -m benchmarks.peers --help``."""

from __future__ import annotations

import argparse
import platform
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.peers.catalog import OURS, PEERS, Peer
from benchmarks.peers.coordinator import Connection, Plan, WorkerError, compare_memory, compare_speed, connect
from benchmarks.peers.environments import NotInstalledError
from benchmarks.peers.table import memory_to_text, speed_to_text, ways_to_text

_FOLDER = Path(__file__).parents[2] / ".peers"


def main(arguments: list[str]) -> int:
    """Make the environments, measure, print."""
    options = _parse(arguments)
    plan = Plan(sizes=options.sizes, rounds=options.rounds)
    peers = [peer for peer in PEERS if peer == OURS or not options.peers or peer.name in options.peers]
    with ExitStack() as stack:
        connections, versions, absent = _connect_all(peers, options.folder, stack)
        print(f"Python {platform.python_version()}, {platform.machine()}; rc = random.choice on a list of 1,000\n")
        if "speed" in options.parts:
            timed = []
            for one in compare_speed(connections, plan):
                print(f"{one.peer.name}, {one.way.name}, {one.workload}, n={one.size}: measured", file=sys.stderr)
                timed.append(one)
            print(speed_to_text(timed, versions, absent), end="\n\n")
        if "memory" in options.parts:
            print(memory_to_text(list(compare_memory(connections, plan)), versions, plan.memory_size), end="\n\n")
        print(ways_to_text(peers, versions))
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    names = [peer.name for peer in PEERS if peer != OURS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"whom to compare with; default: all of {names}")
    parser.add_argument("--parts", nargs="+", choices=["speed", "memory"], default=["speed", "memory"])
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
