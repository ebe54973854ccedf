"""Picks through the public API: ``picker.pick(request)`` and ``release()`` together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import cycle
from statistics import median

from benchmarks.fleets import ADAPTERS, make_registry, profile_by_load, profile_with_lora, profile_without_ranking
from benchmarks.measure import Row, ratio_to_choice, time_of
from inferencepool import EndpointPicker, InferenceRequest, PickResult
from inferencepool.scheduling import SchedulingProfile

__all__ = ["measure_picks", "measure_scan"]

SIZES = (10, 100, 1_000, 10_000)


def _requests() -> Callable[[], InferenceRequest]:
    return cycle([InferenceRequest(model=name) for name in ADAPTERS]).__next__


def measure_picks() -> Iterator[Row]:
    """Measure a profile by load, which has targets, beside it one with LoRA affinity, and the default one with ties."""
    for size in SIZES:
        yield from _measure("queue and KV cache", profile_by_load(), size, targets=True)
    for size in SIZES:
        yield from _measure("and LoRA affinity", profile_with_lora(), size, targets=False)
    yield from _measure_ties()


def _measure(name: str, profile: SchedulingProfile, size: int, *, targets: bool) -> Iterator[Row]:
    picker, request = EndpointPicker(make_registry(size), profile=profile), _requests()
    at_once, held, many = (120, 180, None) if size > 1_000 else (40, 90, 150)
    yield ratio_to_choice(
        f"pick, {name}, n={size}, released at once",
        lambda: picker.pick(request()).release(),
        at_once if targets else None,
    )
    yield _measure_held(f"pick, {name}, n={size}, 200 held", picker, 200, held if targets else None)
    if size == 1_000:
        yield _measure_held(f"pick, {name}, n={size}, {size} held", picker, size, many if targets else None)


def _measure_held(name: str, picker: EndpointPicker, held: int, limit: float | None) -> Row:
    """Measure with *held* picks in flight: each new one releases the oldest."""
    request = _requests()
    flight: deque[PickResult] = deque(picker.pick(request()) for _ in range(held))

    def step() -> None:
        flight.append(picker.pick(request()))
        flight.popleft().release()

    for _ in range(held):
        step()
    row = ratio_to_choice(name, step, limit)
    for result in flight:
        result.release()
    return row


def _measure_ties() -> Iterator[Row]:
    """Measure fleets in which all or some of the endpoints tie, against one in which none do, in turns."""
    for size in (10, 1_000, 10_000):
        for idle in (size, max(2, size // 40)):
            for held in (0, 200):
                yield _measure_tied(size, idle, held)


def _measure_tied(size: int, idle: int, held: int) -> Row:
    tied = _holder(EndpointPicker(make_registry(size, idle=idle)), held)
    single = _holder(EndpointPicker(make_registry(size)), held)
    ours, theirs = [], []
    for _ in range(41):
        ours.append(time_of(tied, 300))
        theirs.append(time_of(single, 300))
    # Both take a few microseconds, and what else the machine does makes either longer: the fastest rounds are compared.
    ratio = min(ours) / min(theirs)
    return Row(
        f"pick, no prompt, n={size}, {idle} tie, {f'{held} held' if held else 'released at once'}",
        f"{min(ours) / 1000:.2f} µs",
        f"no ties {min(theirs) / 1000:.2f} µs",
        f"{ratio:.2f}",
        "<= 1.3",
        ratio <= 1.3,
    )


def _holder(picker: EndpointPicker, held: int) -> Callable[[], None]:
    """Give what picks without a prompt and releases, with *held* picks in flight."""
    request = InferenceRequest(model="chat")
    flight: deque[PickResult] = deque(picker.pick(request) for _ in range(held))

    def step() -> None:
        flight.append(picker.pick(request))
        flight.popleft().release()

    return step


def measure_scan(size: int = 1_000) -> Iterator[Row]:
    """Measure the ranking against the scan, in turns."""
    registry, request = make_registry(size), _requests()
    ranked = EndpointPicker(registry, profile=profile_by_load())
    scanned = EndpointPicker(registry, profile=profile_without_ranking())
    ours, theirs = [], []
    for _ in range(11):
        ours.append(time_of(lambda: ranked.pick(request()).release(), 500))
        theirs.append(time_of(lambda: scanned.pick(request()).release(), 10))
    ratio = median(scan / rank for scan, rank in zip(theirs, ours, strict=True))
    yield Row(
        f"pick, n={size}, ranking against scan",
        f"{median(ours) / 1000:.2f} µs",
        f"scan {median(theirs) / 1000:.0f} µs",
        f"{ratio:.0f} times faster",
        ">= 60 times",
        ratio >= 60,
    )
