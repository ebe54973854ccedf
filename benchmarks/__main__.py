"""Run all benchmarks, or those named on the command line, and print one table: ``python -m benchmarks [NAME...]``."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator

from benchmarks.affinities import measure_affinities, measure_prefix_picks, measure_token_picks
from benchmarks.bodies import measure_bodies
from benchmarks.cluster.measuring import measure_cluster
from benchmarks.extproc.measuring import measure_extproc
from benchmarks.health import measure_health
from benchmarks.hostile.measuring import measure_hostile
from benchmarks.measure import Row, rows_to_text
from benchmarks.metrics import measure_metrics
from benchmarks.outages.measuring import measure_outages
from benchmarks.picks import measure_picks, measure_scan
from benchmarks.prefix import measure_prefix, measure_prefix_memory
from benchmarks.scraping.measuring import measure_pages, measure_scraping
from benchmarks.simulation import measure_simulation
from benchmarks.threads import measure_threads
from benchmarks.updates import measure_import, measure_publishing, measure_updates

BENCHMARKS: dict[str, Callable[[], Iterator[Row]]] = {
    "picks": measure_picks,
    "scan": measure_scan,
    "prefix-picks": measure_prefix_picks,
    "token-picks": measure_token_picks,
    "affinities": measure_affinities,
    "health": measure_health,
    "updates": measure_updates,
    "publishing": measure_publishing,
    "prefix": measure_prefix,
    "prefix-memory": measure_prefix_memory,
    "threads": measure_threads,
    "import": measure_import,
    "bodies": measure_bodies,
    "extproc": measure_extproc,
    "metrics": measure_metrics,
    "pages": measure_pages,
    "scraping": measure_scraping,
    "cluster": measure_cluster,
    "hostile": measure_hostile,
    "outages": measure_outages,
    "simulation": measure_simulation,
}


def main(names: list[str]) -> int:
    """Run and print; 1 if a target was missed, 2 if a name is not known."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    rows = [row for name, measure in BENCHMARKS.items() if not names or name in names for row in measure()]
    print(f"Python {platform.python_version()}, {platform.machine()}; rc = random.choice on a list of 1,000\n")
    print(rows_to_text(rows))
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
