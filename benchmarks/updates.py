"""Metrics in, snapshots out."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from random import Random
from statistics import median

import attrs

from benchmarks.fleets import endpoint_ids, make_registry, profile_by_load, random_metrics
from benchmarks.measure import Row, ratio_to_choice, time_of
from inferencepool import EndpointMetrics, EndpointRegistry
from inferencepool.scheduling import Scheduler

__all__ = ["measure_import", "measure_publishing", "measure_updates"]


def measure_updates() -> Iterator[Row]:
    """Measure one metrics update, when LoRA adapters change with every one and when they do one time in ten."""
    for size in (1_000, 10_000):
        for name, steady in (("adapters change every time", 0.0), ("adapters change 1 time in 10", 0.9)):
            registry = make_registry(size)
            update = cycle(list(_updates(size, steady))).__next__
            yield ratio_to_choice(f"metrics update, {name}, n={size}", partial(_observe, registry, update), 5)


def _updates(size: int, steady: float) -> Iterator[tuple[str, EndpointMetrics]]:
    """Load that always moves; with the probability *steady* the LoRA adapters of an endpoint stay as they were."""
    rng = Random(size)
    last: dict[str, EndpointMetrics] = {}
    for _ in range(4):
        for endpoint in endpoint_ids(size):
            found = random_metrics(rng)
            if rng.random() < steady and endpoint in last:
                known = last[endpoint]
                found = attrs.evolve(
                    found,
                    active_models=known.active_models,
                    waiting_models=known.waiting_models,
                    max_active_models=known.max_active_models,
                )
            last[endpoint] = found
            yield endpoint, found


def _observe(registry: EndpointRegistry, update: Callable[[], tuple[str, EndpointMetrics]]) -> None:
    registry.observe_metrics(*update())


def measure_publishing() -> Iterator[Row]:
    """Measure a snapshot in which all metrics moved, and ranking it."""
    for size, limit in ((1_000, 1.0), (10_000, 8.0)):
        rng, registry, scheduler = Random(size), make_registry(size), Scheduler(profile_by_load())
        choices, published, ranked = [], [], []
        for _ in range(15):
            for endpoint in endpoint_ids(size):
                registry.observe_metrics(endpoint, random_metrics(rng))
            choices.append(_time_of_choice())
            published.append(time_of(registry.publish, 1) / 1e6)
            snapshot = registry.snapshot()
            ranked.append(time_of(partial(scheduler.adopt, snapshot), 1) / 1e6)
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
    """Measure whole processes that import something, compiled before, against one that imports nothing."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        yield _started("import inferencepool", ["-c", "import inferencepool"], environment, 8)
        yield _started("inferencepool --version", ["-m", "inferencepool", "--version"], environment, 3)
        yield _started("import an EndpointPicker", ["-c", "from inferencepool import EndpointPicker"], environment)


def _started(what: str, arguments: Sequence[str], environment: Mapping[str, str], limit: float | None = None) -> Row:
    own, bare = [], []
    _cpu_of(arguments, environment)
    for _ in range(15):
        bare.append(_cpu_of(["-c", "pass"], environment))
        own.append(_cpu_of(arguments, environment))
    ratio = median(own) / median(bare)
    return Row(
        f"{what}, whole process",
        f"{median(own) * 1000:.0f} ms CPU",
        f"bare interpreter {median(bare) * 1000:.0f} ms CPU",
        f"{ratio:.1f}",
        "" if limit is None else f"<= {limit:g} x",
        None if limit is None else ratio <= limit,
    )


def _cpu_of(arguments: Sequence[str], environment: Mapping[str, str]) -> float:
    """Run an interpreter; give the seconds of processor time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
