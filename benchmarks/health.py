"""What it costs to know how endpoints are: beside the same picks by a registry without outlier detection."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter_ns

from benchmarks.fleets import make_registry, profile_by_load
from benchmarks.measure import Row
from inferencepool import EndpointPicker, InferenceRequest
from inferencepool.model import Outcome
from inferencepool.registry import OutlierDetection

__all__ = ["measure_health"]

SIZES = (10, 1_000, 10_000)
_REQUEST = InferenceRequest(model="chat")
_ROUNDS, _AT_ONCE = 1500, 20
_MOST_RATIO, _MOST_RELEASE, _MOST_BYTES = 1.03, 1.0, 500


def measure_health() -> Iterator[Row]:
    """Measure picks, releases and failures on fleets of several sizes, and bytes per endpoint."""
    for size in SIZES:
        yield from _measure_picks(size, ejected=False)
        yield from _measure_picks(size, ejected=True)
        yield _measure_failure(size)
    yield _measure_bytes(10_000)


def _picker(size: int, rules: OutlierDetection | None, *, ejected: bool = False) -> EndpointPicker:
    """A picker of a fleet that was used; one endpoint is ejected for as long as it is measured, if *ejected*."""
    picker = EndpointPicker(make_registry(size, outlier_detection=rules), profile=profile_by_load())
    picker.pick(_REQUEST).release()
    if ejected:
        # Not the best one: without it, others tie or do not, which costs what has nothing to do with this.
        _fail(picker, size // 2, "reset")
    for _ in range(10):
        picker.pick(_REQUEST).release()
    return picker


def _fail(picker: EndpointPicker, slot: int, reason: str) -> None:
    births = picker.registry.snapshot().fleet.births
    for _ in range(5):
        picker.registry.health.report(slot, births[slot], Outcome.of_reason(reason), 0.0)


def _measure_picks(size: int, *, ejected: bool) -> Iterator[Row]:
    """
    Time picks and their releases on both sides in many short turns.

    What else the machine does makes some turns longer: of picks the median of the ratios is told, of releases, which
    may take so many microseconds more, the difference of the fastest.
    """
    rules = OutlierDetection(base_ejection_time=3600, max_ejection_time=3600)
    sides = [_picker(size, None), _picker(size, rules, ejected=ejected)]
    picks: list[list[float]] = [[], []]
    releases: list[list[float]] = [[], []]
    for turn in range(_ROUNDS):
        for side in (0, 1) if turn % 2 else (1, 0):
            pick = sides[side].pick
            began = perf_counter_ns()
            results = [pick(_REQUEST) for _ in range(_AT_ONCE)]
            picked = perf_counter_ns()
            for result in results:
                result.release()
            released = perf_counter_ns()
            picks[side].append((picked - began) / _AT_ONCE)
            releases[side].append((released - picked) / _AT_ONCE)
    state = "one ejected" if ejected else "all well"
    ratio = median(mine / theirs for theirs, mine in zip(*picks, strict=True))
    without, ours = (min(times) / 1000 for times in picks)
    yield Row(
        f"pick, outlier detection, n={size}, {state}",
        f"{ours:.2f} µs",
        f"without {without:.2f} µs",
        f"{ratio:.3f}",
        f"<= {_MOST_RATIO:g}",
        ratio <= _MOST_RATIO,
    )
    without, ours = (min(times) / 1000 for times in releases)
    yield Row(
        f"release, outlier detection, n={size}, {state}",
        f"{ours:.2f} µs",
        f"without {without:.2f} µs",
        f"{ours - without:+.2f} µs",
        f"<= {_MOST_RELEASE:g} µs more",
        ours - without <= _MOST_RELEASE,
    )


def _measure_failure(size: int) -> Row:
    """Time failures that come in a storm, from all endpoints in turn."""
    registry = make_registry(size)
    births, outcome, health = registry.publish().fleet.births, Outcome.of_reason(500), registry.health
    slots = [slot for slot, birth in enumerate(births) if birth]

    def fail(slot: int) -> None:
        health.report(slot, births[slot], outcome, 0.0, "chat")

    times = [_time(fail, slots[turn * 10 % size]) for turn in range(_ROUNDS)]
    return Row(f"failure reported, n={size}", f"{min(times) / 1000:.2f} µs", "", "", "", None)


def _time(call: Callable[[int], None], slot: int) -> float:
    began = perf_counter_ns()
    for _ in range(_AT_ONCE):
        call(slot)
    return (perf_counter_ns() - began) / _AT_ONCE


def _measure_bytes(size: int) -> Row:
    """Tell what is kept of an endpoint that is ejected, when thousands are."""
    registry = make_registry(size, outlier_detection=OutlierDetection(max_ejection_percent=100))
    births, health = registry.publish().fleet.births, registry.health
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for slot in range(size):
            for _ in range(20):
                health.report(slot, births[slot], Outcome.of_reason(f"reset by {slot}"), 0.0)
        taken = (tracemalloc.get_traced_memory()[0] - before) / size
    finally:
        tracemalloc.stop()
    return Row(
        f"an ejected endpoint, n={size}", f"{taken:.0f} bytes", "", "", f"<= {_MOST_BYTES} bytes", taken <= _MOST_BYTES
    )
