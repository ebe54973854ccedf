"""Play requests live and in the simulator, and compare: ``python -m benchmarks.live [--case NAME] [--seeds N]``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import attrs

from benchmarks.live.cases import CASES, POLICIES
from benchmarks.live.runs import Outcome, play_again, play_live, play_simulated
from benchmarks.live.tables import differences, knowledge, stages, table


def main() -> int:
    """Play the case with each policy and seed, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live")
    parser.add_argument("--case", choices=CASES, default="chats", help="what is played (chats)")
    parser.add_argument("--policy", choices=POLICIES, action="append", help="whom to compare; all unless given")
    parser.add_argument("--seeds", type=int, default=7, help="how many seeds (7)")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long requests come in each run (20)")
    parser.add_argument("--runs", type=Path, help="file that each run is added to; runs that it has are not repeated")
    arguments = parser.parse_args()
    case, names = CASES[arguments.case], arguments.policy or list(POLICIES)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    live: dict[str, list[Outcome]] = {name: [] for name in names}
    simulated: dict[str, list[Outcome]] = {name: [] for name in names}
    again: dict[str, list[Outcome]] = {name: [] for name in names}
    kept = _read(arguments.runs)
    for seed in seeds:
        # Policies in turn within a seed, so that what else the machine does meets all of them.
        for name in names:
            key = f"{arguments.case}, {name}, seed {seed}, {arguments.seconds:g} s"
            if key not in kept:
                others = os.getloadavg()[0]
                kept[key] = play_live(arguments.case, case, POLICIES[name], arguments.seconds, seed)
                print(f"{key}, load average {others:.1f}: {kept[key]}", file=sys.stderr, flush=True)
                _keep(arguments.runs, key, kept[key])
            live[name].append(kept[key])
            simulated[name].append(play_simulated(case, POLICIES[name], arguments.seconds, seed))
            again[name].append(play_again(case, POLICIES[name], arguments.seconds, seed, kept[key]))
    print(*table(live, simulated, again), "", *stages(live), "", *knowledge(live), sep="\n")
    if len(names) > 1 and len(seeds) > 1:
        print("", *differences(live, simulated), sep="\n")
    return 0


def _read(file: Path | None) -> dict[str, Outcome]:
    if file is None or not file.exists():
        return {}
    runs = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {run["run"]: Outcome(**run["outcome"]) for run in runs}


def _keep(file: Path | None, run: str, outcome: Outcome) -> None:
    if file is not None:
        with file.open("a", encoding="utf-8") as output:
            output.write(json.dumps({"run": run, "outcome": attrs.asdict(outcome)}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
