"""What ``simulate`` found out, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from inferencepool.cli._output import columns
from inferencepool.lab.simulation import Distribution, SimulationResult

__all__ = ["SimulationReport"]

_PERCENTILES = (50, 90, 99)


@attrs.frozen(kw_only=True)
class SimulationReport:
    """
    What came of one workload with several profiles.

    Attributes:
        source: The workload, or the file of the trace.
        requests: How many requests came.
        seconds: The time over which they came.
        endpoints: Endpoints at the beginning.
        seed: The seed.
        results: What came of each profile.
    """

    source: str
    requests: int
    seconds: float
    endpoints: int
    seed: int
    results: Sequence[SimulationResult]

    @property
    def title(self) -> str:
        """One line about what was simulated."""
        rate = self.requests / self.seconds if self.seconds else 0.0
        return (
            f"{self.source}: {self.requests:,} requests in {self.seconds:g} s ({rate:.4g} a second), "
            f"{self.endpoints} endpoints, seed {self.seed}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        return {
            "workload": self.source,
            "requests": self.requests,
            "seconds": self.seconds,
            "endpoints": self.endpoints,
            "seed": self.seed,
            "profiles": [result.to_dict() for result in self.results],
        }

    def lines(self) -> Iterator[str]:
        """Give it as text."""
        yield self.title
        yield from self._times("Time to first token, in milliseconds:", 1000, "time_to_first_token")
        yield from self._times("Whole answers, in seconds:", 1, "end_to_end")
        yield ""
        yield "Caches and load:"
        yield ""
        yield from columns(self._load_rows())
        for result in self.results:
            for reason, count in result.rejected.items():
                yield f"  {result.profile}: {count} rejected: {reason}"
            for reason, count in result.failed.items():
                yield f"  {result.profile}: {count} failed: {reason}"

    def _times(self, title: str, unit: float, field: str) -> Iterator[str]:
        yield ""
        yield title
        yield ""
        rows = [("", "mean", *(f"p{percent}" for percent in _PERCENTILES), "max")]
        for result in self.results:
            times: Distribution = getattr(result, field)
            values = (times.mean, *map(times.percentile, (*_PERCENTILES, 100)))
            rows.append((result.profile, *(f"{value * unit:.{0 if unit > 1 else 2}f}" for value in values)))
        yield from columns(rows)

    def _load_rows(self) -> Iterator[tuple[str, ...]]:
        yield ("", "hit rate", "picks per endpoint", "load spread", "longest queue", "completed")
        for result in self.results:
            picks = [endpoint.picks for endpoint in result.endpoints]
            yield (
                result.profile,
                f"{result.hit_rate:.1%}",
                f"{min(picks)} to {max(picks)}",
                f"{result.load_spread:.3f}",
                str(result.longest_queue),
                str(result.completed),
            )
