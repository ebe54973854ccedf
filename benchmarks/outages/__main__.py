"""Play single faults: ``python -m benchmarks.outages [FAULT...]``."""

from __future__ import annotations

import sys

from benchmarks.measure import rows_to_text
from benchmarks.outages.measuring import measure_outages
from benchmarks.outages.stack import FAULTS

if __name__ == "__main__":
    chosen = sys.argv[1:] or list(FAULTS)
    unknown = [each for each in chosen if each not in FAULTS]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    print(rows_to_text(list(measure_outages(chosen))))
