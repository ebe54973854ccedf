"""Four threads that pick while another updates, against one thread that picks meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from random import Random
from statistics import median
from threading import Event, Thread
from time import perf_counter

import attrs

from benchmarks.fleets import endpoint_ids, make_registry, random_metrics
from benchmarks.measure import Row
from inferencepool import EndpointPicker, InferenceRequest
from inferencepool.plugins import default_profile
from inferencepool.scheduling import MaxScorePicker, SchedulingProfile, Standing

__all__ = ["measure_threads"]

PICKS = 80_000


@attrs.define
class _Checked:
    """Picks by score, and checks some choices against the score of every member."""

    checked: int = 0
    wrong: int = 0
    _picks: int = 0
    _picker: MaxScorePicker = attrs.field(factory=MaxScorePicker)

    def choose(self, request: InferenceRequest, standing: Standing, count: int) -> Sequence[int]:
        chosen = self._picker.choose(request, standing, count)
        self._picks += 1
        if self._picks % 500 == 0:
            best = max(standing.score(slot) for slot in standing.snapshot.fleet.slots)
            self.checked += 1
            self.wrong += standing.score(chosen[0]) != best
        return chosen


def measure_threads(size: int = 1_000) -> Iterator[Row]:
    """Measure the throughput of 1 and of 4 threads, in turns."""
    single, four = [], []
    for _ in range(7):
        single.append(_throughput(size, 1))
        four.append(_throughput(size, 4))
    ratio = median(a / b for a, b in zip(four, single, strict=True))
    yield Row(
        f"4 threads pick while another updates, n={size}",
        f"{median(four):.0f} picks/s",
        f"1 thread {median(single):.0f} picks/s",
        f"{ratio:.2f}",
        ">= 1",
        ratio >= 1,
    )
    checker = _Checked()
    _throughput(size, 4, checker)
    yield Row(
        f"wrong picks of 4 threads, n={size}", f"{checker.wrong}", f"{checker.checked} checked", "", "0", not checker.wrong
    )


def _throughput(size: int, threads: int, checker: _Checked | None = None) -> float:
    """Give picks per second of all threads together, while another thread updates metrics."""
    registry, stop, rng = make_registry(size), Event(), Random(size)
    profile = default_profile()
    if checker is not None:
        profile = SchedulingProfile(scorers=profile.scorers, picker=checker)
    picker, request = EndpointPicker(registry, profile=profile), InferenceRequest(model="chat")
    updates = cycle([(endpoint, random_metrics(rng)) for endpoint in endpoint_ids(size)]).__next__

    def update() -> None:
        # About 20,000 updates a second: 1,000 endpoints scraped every 50 ms.
        while not stop.wait(0.005):
            for _ in range(100):
                registry.observe_metrics(*updates())

    def work() -> None:
        for _ in range(PICKS // threads):
            picker.pick(request).release()

    updater = Thread(target=update)
    workers = [Thread(target=work) for _ in range(threads)]
    updater.start()
    start = perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed = perf_counter() - start
    stop.set()
    updater.join()
    return PICKS / elapsed
