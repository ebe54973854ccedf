"""Run the study, or the parts that are named, and print its tables: ``python -m benchmarks.study [PART...]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.study.cases import PARTS
from benchmarks.study.runs import run
from benchmarks.study.tables import table
from inferencepool.cli._collector import calm_collector


def main() -> int:
    """Run, print, and draw the parts that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study")
    parser.add_argument("parts", metavar="PART", nargs="*", help=f"{', '.join(PARTS)}; all unless given")
    parser.add_argument("--seeds", type=int, default=10, help="how many seeds to average over (10)")
    parser.add_argument("--plots", type=Path, help="folder for a picture of each part")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.parts if name not in PARTS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if arguments.plots is not None:
        # Now, not after minutes of work.
        arguments.plots.mkdir(parents=True, exist_ok=True)
    for name in arguments.parts or PARTS:
        with calm_collector():
            outcomes = list(run(PARTS[name], arguments.seeds, lambda line: print(line, file=sys.stderr)))
        print(f"\n## {name}: {PARTS[name].title}\n", *table(PARTS[name], outcomes), sep="\n", flush=True)
        if arguments.plots is not None:
            from benchmarks.study.plots import draw  # noqa: PLC0415 - only for this option

            draw(outcomes, arguments.plots / f"study-{name}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
