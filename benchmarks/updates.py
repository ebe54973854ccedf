"""Metrics in, snapshots out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import cycle
from random import Random
from statistics import median

from benchmarks.fleets import endpoint_ids, make_registry, random_metrics
from benchmarks.measure import Row, ratio_to_choice, time_of
from inferencepool.plugins import default_profile
from inferencepool.scheduling import Scheduler

__all__ = ["measure_import", "measure_publishing", "measure_updates"]


def measure_updates() -> Iterator[Row]:
    """Measure one metrics update."""
    for size in (1_000, 10_000):
        rng, registry = Random(size), make_registry(size)
        metrics = cycle([random_metrics(rng) for _ in range(997)]).__next__
        endpoint = cycle(endpoint_ids(size)).__next__
        yield ratio_to_choice(
            f"metrics update, n={size}", lambda: registry.observe_metrics(endpoint(), metrics()), 5
        )


def measure_publishing() -> Iterator[Row]:
    """Measure a snapshot in which all metrics moved, and ranking it."""
    for size, limit in ((1_000, 1.0), (10_000, 8.0)):
        rng, registry, scheduler = Random(size), make_registry(size), Scheduler(default_profile())
        choices, published, ranked = [], [], []
        for _ in range(15):
            for endpoint in endpoint_ids(size):
                registry.observe_metrics(endpoint, random_metrics(rng))
            choices.append(_time_of_choice())
            published.append(time_of(registry.publish, 1) / 1e6)
            snapshot = registry.snapshot()
            ranked.append(time_of(lambda: scheduler.adopt(snapshot), 1) / 1e6)
        both = median(a + b for a, b in zip(published, ranked, strict=True))
        yield Row(
            f"publish and rank, all moved, n={size}",
            f"{median(published):.2f} + {median(ranked):.2f} ms",
            f"rc {median(choices) / 1000:.2f} µs",
            f"{median(1e6 * (a + b) / c for a, b, c in zip(published, ranked, choices, strict=True)):.0f}",
            f"<= {limit:g} ms",
            both <= limit,
        )


def _time_of_choice() -> float:
    rng, population = Random(1), list(range(1000))
    return time_of(lambda: rng.choice(population), 2000)


def measure_import() -> Iterator[Row]:
    """Measure ``import inferencepool`` in a fresh interpreter, against one that imports nothing."""
    own, bare = [], []
    for _ in range(9):
        bare.append(time_of(lambda: _run("pass"), 1) / 1e6)
        own.append(time_of(lambda: _run("import inferencepool"), 1) / 1e6)
    extra = median(a - b for a, b in zip(own, bare, strict=True))
    yield Row(
        "import inferencepool",
        f"{extra:.0f} ms",
        f"bare interpreter {median(bare):.0f} ms",
        f"{median(a / b for a, b in zip(own, bare, strict=True)):.1f}",
        "<= 100 ms",
        extra <= 100,
    )


def _run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603  # our own interpreter and code
