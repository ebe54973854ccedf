"""Some cases, or for another time: ``python -m benchmarks.hostile [--seconds N] [CASE...]``."""

from __future__ import annotations

import argparse
import signal
import sys

from benchmarks.hostile.cases import CASES
from benchmarks.hostile.measuring import measure_hostile
from benchmarks.measure import rows_to_text

# What shells report for programs that end by this signal.
_TERMINATED = 143


def main() -> int:
    """Measure and print; 1 if a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--seconds", type=float, help="how long the hostile one is there (20, or 10)")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"one of: {', '.join(CASES)}")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.cases if name not in CASES]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(CASES)}")
    # An end in order, so that no process is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    rows = list(measure_hostile(arguments.cases, arguments.seconds))
    print(rows_to_text(rows))
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
