"""What came of a simulation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from statistics import fmean, pstdev
from typing import Any, Self

import attrs

__all__ = ["Distribution", "EndpointResult", "SimulationResult", "spread"]

_PERCENT = range(101)


def spread(values: Sequence[float]) -> float:
    """Tell how uneven *values* are: standard deviation by mean, 0 where all are equal or there are none."""
    mean = fmean(values) if values else 0.0
    return pstdev(values, mean) / mean if mean else 0.0


@attrs.frozen
class Distribution:
    """
    How long something took, over many requests, in seconds.

    Attributes:
        mean: The mean; 0 without requests.
        percentiles: The 0th to the 100th percentile: the least value that so many percent do not exceed. Empty without
            requests.
    """

    mean: float
    percentiles: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Describe *values*, in O(n log n)."""
        ordered = sorted(values)
        if not ordered:
            return cls(0.0, ())
        last = len(ordered) - 1
        ranks = (min(last, max(0, ceil(percent * len(ordered) / 100) - 1)) for percent in _PERCENT)
        return cls(fmean(ordered), tuple(ordered[rank] for rank in ranks))

    def percentile(self, percent: int) -> float:
        """Give a percentile, 0 to 100; 0 without requests."""
        return self.percentiles[percent] if self.percentiles else 0.0

    def to_dict(self) -> dict[str, float]:
        """Give the mean, three percentiles and the maximum, ready for JSON."""
        named = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
        return {"mean": round(self.mean, 6)} | {
            name: round(self.percentile(percent), 6) for name, percent in named.items()
        }


@attrs.frozen(kw_only=True)
class EndpointResult:
    """
    What one endpoint did.

    Attributes:
        name: The name of its pod.
        picks: Requests that were sent to it.
        mean_load: Requests that were there at a time, running and waiting, on average.
        busy_share: Share of the time in which it worked, 0 to 1.
        longest_queue: The most requests that waited there at a time.
        hit_rate: Share of the blocks of its prompts that were in its cache, 0 to 1.
        adapter_loads: How often it loaded a LoRA adapter.
    """

    name: str
    picks: int
    mean_load: float
    busy_share: float
    longest_queue: int
    hit_rate: float
    adapter_loads: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        return {
            key: round(value, 6) if isinstance(value, float) else value for key, value in attrs.asdict(self).items()
        }


@attrs.frozen(kw_only=True)
class SimulationResult:
    """
    What came of a simulation with one profile.

    Attributes:
        profile: Name of the profile.
        requests: Requests that came.
        completed: Those that were answered.
        rejected: Those that no endpoint got, by reason.
        failed: Those that failed there, with all retries, by what went wrong last.
        seconds: When the last answer was finished, in simulated seconds.
        prompt_blocks: Blocks that the prompts of answered requests fill.
        hit_blocks: Those of them that were in the cache of the endpoint that answered.
        time_to_first_token: From the arrival of a request to the first token of its answer.
        end_to_end: From the arrival of a request to the end of its answer.
        endpoints: What each endpoint did, in the order in which they joined.
    """

    profile: str
    requests: int
    completed: int
    rejected: Mapping[str, int]
    failed: Mapping[str, int] = attrs.field(factory=dict)
    seconds: float
    prompt_blocks: int
    hit_blocks: int
    time_to_first_token: Distribution
    end_to_end: Distribution
    endpoints: tuple[EndpointResult, ...]

    @property
    def hit_rate(self) -> float:
        """Share of the blocks of prompts that came from caches, 0 to 1."""
        return self.hit_blocks / self.prompt_blocks if self.prompt_blocks else 0.0

    @property
    def load_spread(self) -> float:
        """How unevenly the endpoints were loaded: standard deviation by mean of their mean loads."""
        return spread([endpoint.mean_load for endpoint in self.endpoints])

    @property
    def picks_spread(self) -> float:
        """How unevenly requests were dealt out: standard deviation by mean of the requests of an endpoint."""
        return spread([endpoint.picks for endpoint in self.endpoints])

    @property
    def longest_queue(self) -> int:
        """The most requests that waited at an endpoint at a time."""
        return max((endpoint.longest_queue for endpoint in self.endpoints), default=0)

    @property
    def adapter_loads(self) -> int:
        """How often LoRA adapters were loaded."""
        return sum(endpoint.adapter_loads for endpoint in self.endpoints)

    def to_dict(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        return {
            "profile": self.profile,
            "requests": self.requests,
            "completed": self.completed,
            "rejected": dict(self.rejected),
            "failed": dict(self.failed),
            "seconds": round(self.seconds, 6),
            "hit_rate": round(self.hit_rate, 6),
            "time_to_first_token": self.time_to_first_token.to_dict(),
            "end_to_end": self.end_to_end.to_dict(),
            "load_spread": round(self.load_spread, 6),
            "picks_spread": round(self.picks_spread, 6),
            "longest_queue": self.longest_queue,
            "adapter_loads": self.adapter_loads,
            "endpoints": [endpoint.to_dict() for endpoint in self.endpoints],
        }
