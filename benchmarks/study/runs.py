"""Runs of a part, over all seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

import attrs

from benchmarks.study.cases import ENDPOINTS, Part
from inferencepool.lab.simulation import SimulationResult, parse_workload, simulate

__all__ = ["Outcome", "run"]


@attrs.frozen
class Outcome:
    """
    What came of one workload with one profile.

    Attributes:
        workload: The workload.
        profile: The profile's name.
        results: One for each seed.
    """

    workload: str
    profile: str
    results: Sequence[SimulationResult]

    def mean(self, measure: Callable[[SimulationResult], float]) -> float:
        """Give the mean over the seeds."""
        return fmean(map(measure, self.results))

    def wins(self, other: Outcome, measure: Callable[[SimulationResult], float]) -> int:
        """Count the seeds in which *measure* is no higher than that of *other*."""
        pairs = zip(self.results, other.results, strict=True)
        return sum(measure(ours) <= measure(theirs) for ours, theirs in pairs)


def run(part: Part, seeds: int, tell: Callable[[str], object]) -> Iterator[Outcome]:
    """Simulate every workload of *part* with every profile, in the order of both; *tell* hears of each workload."""
    for text, factor in part.workloads.items():
        workload = parse_workload(text)
        results: dict[str, list[SimulationResult]] = {name: [] for name in part.profiles}
        for seed in range(seeds):
            tell(f"{part.title} {text}, seed {seed + 1} of {seeds}")
            rate = factor * workload.rate_per_endpoint * ENDPOINTS
            arrivals = tuple(workload.arrivals(rate=rate, duration=part.seconds, seed=seed))
            for name, make in part.profiles.items():
                results[name].append(simulate(arrivals, make, part.options_of(name), name=name, seed=seed))
        yield from (Outcome(text, name, found) for name, found in results.items())
