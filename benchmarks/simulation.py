"""Simulated requests per second of processor time: what else the machine does would say nothing of the simulation."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from time import process_time

from benchmarks.measure import Row
from inferencepool.cli._collector import calm_collector
from inferencepool.lab.simulation import (
    Arrival,
    ProfileFactory,
    SharedPrompts,
    SimulationOptions,
    parse_profile,
    simulate,
)
from inferencepool.plugins import default_profile

__all__ = ["measure_simulation"]

_ROUNDS = 5
_TARGET = 20_000


def measure_simulation(size: int = 100) -> Iterator[Row]:
    """Measure the default profile against random picks, in turns: what is not picking is the same in both."""
    workload = SharedPrompts()
    arrivals = tuple(workload.arrivals(rate=size * workload.rate_per_endpoint, duration=20, seed=1))
    options = SimulationOptions(endpoints=size)
    ours, random = [], []
    with calm_collector():
        for _ in range(_ROUNDS):
            ours.append(_rate(arrivals, default_profile, options))
            random.append(_rate(arrivals, parse_profile("random-picker"), options))
    ratio = median(a / b for a, b in zip(ours, random, strict=True))
    yield Row(
        f"simulated requests, default profile, n={size}",
        f"{median(ours):.0f}/s",
        f"random picks {median(random):.0f}/s",
        f"{ratio:.2f}",
        f">= {_TARGET}/s",
        median(ours) >= _TARGET,
    )


def _rate(arrivals: tuple[Arrival, ...], profile: ProfileFactory, options: SimulationOptions) -> float:
    start = process_time()
    result = simulate(arrivals, profile, options)
    assert result.completed == len(arrivals)
    return len(arrivals) / (process_time() - start)
