"""Four threads that pick while another updates, against one thread that picks meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from random import Random
from statistics import median
from threading import Event, Thread
from time import perf_counter

import attrs

from benchmarks.fleets import endpoint_ids, make_registry, profile_by_load, random_metrics
from benchmarks.measure import Row
from inferencepool import EndpointPicker, InferenceRequest
from inferencepool.scheduling import MaxScorePicker, SchedulingProfile, Standing

__all__ = ["measure_threads"]

PICKS = 60_000


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
    """Measure the throughput of 1 and of 4 threads, in turns, with a thread beside them that updates metrics."""
    yield _compare(size, "updates without pause", partial(_throughput, size, pause=0.0), ">= 1")
    yield _compare(size, "20,000 updates/s", partial(_throughput, size, pause=0.005), ">= 1")
    yield _compare(size, "20,000 updates/s, a picker for each", partial(_throughput, size, pause=0.005, apart=True))
    checker = _Checked()
    _throughput(size, 4, pause=0.005, checker=checker)
    found = f"{checker.checked} checked"
    yield Row(f"wrong picks of 4 threads, n={size}", f"{checker.wrong}", found, "", "0", not checker.wrong)


def _compare(size: int, name: str, throughput: Callable[[int], float], target: str = "") -> Row:
    single, four = [], []
    for _ in range(9):
        single.append(throughput(1))
        four.append(throughput(4))
    ratio = median(a / b for a, b in zip(four, single, strict=True))
    return Row(
        f"4 threads pick, another: {name}, n={size}",
        f"{median(four):.0f} picks/s",
        f"1 thread {median(single):.0f} picks/s",
        f"{ratio:.2f}",
        target,
        ratio >= 1 if target else None,
    )


def _throughput(
    size: int, threads: int, *, pause: float, apart: bool = False, checker: _Checked | None = None
) -> float:
    """
    Give picks per second of all threads together, while another thread updates metrics.

    Args:
        size: Endpoints.
        threads: Threads that pick.
        pause: Seconds between two batches of 100 updates.
        apart: Whether each thread has a picker and a registry of its own: shows what threads cost without a lock.
        checker: The picker strategy, if choices are to be checked.
    """
    profile = profile_by_load()
    if checker is not None:
        profile = SchedulingProfile(scorers=profile.scorers, picker=checker)
    registries = [make_registry(size) for _ in range(threads if apart else 1)]
    pickers = [EndpointPicker(registry, profile=profile) for registry in registries]
    stop, rng, request = Event(), Random(size), InferenceRequest(model="chat")
    updates = cycle([(endpoint, random_metrics(rng)) for endpoint in endpoint_ids(size)]).__next__

    def update() -> None:
        while not stop.is_set():
            for _ in range(100):
                registries[0].observe_metrics(*updates())
            if pause:
                stop.wait(pause)

    def work(picker: EndpointPicker) -> None:
        for _ in range(PICKS // threads):
            picker.pick(request).release()

    updater = Thread(target=update)
    workers = [Thread(target=work, args=(pickers[index % len(pickers)],)) for index in range(threads)]
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
