"""What it costs to read metrics pages, and to keep the metrics of a hundred servers fresh."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from statistics import median

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.measure import Row, time_of
from benchmarks.scraping.hostile import measure_hostile_pages
from benchmarks.scraping.pages import vllm_pages
from inferencepool.adapters.exposition import ENGINES, PageReader, read_metrics

__all__ = ["measure_pages", "measure_scraping"]

_ENDPOINTS = 100
_ROUNDS = 5
_SECONDS = 3
_CHUNK = 64


def measure_pages() -> Iterator[Row]:
    """Measure reading a page of vLLM, against our own line parser and that of prometheus_client."""
    for name, adapters_move, limits in (("load moves", False, (45, 500)), ("LoRA times move too", True, (45, None))):
        pages = vllm_pages(_CHUNK, adapters_move=adapters_move)
        texts = [page.decode() for page in pages]
        reader = PageReader(ENGINES["vllm"])
        for page in pages:
            # All of them find the same.
            assert reader.read(page, 1.0) == read_metrics(page, "vllm", observed_at=1.0)
        ours = partial(_read, reader, pages)
        lines = partial(_next, cycle(pages).__next__, partial(read_metrics, engine="vllm"))
        families = partial(_next, cycle(texts).__next__, _all_families)
        own, parsed, official = [], [], []
        for _ in range(11):
            own.append(time_of(ours, 4) / len(pages))
            parsed.append(time_of(lines, 3))
            official.append(time_of(families, 3))
        size = len(pages[0]) // 1000
        for what, times, limit in (
            ("our line parser", parsed, limits[0]),
            ("prometheus_client", official, limits[1]),
        ):
            ratio = median(theirs / mine for theirs, mine in zip(times, own, strict=True))
            yield Row(
                f"read a vLLM page of {size} kB, {name}",
                f"{median(own) / 1000:.2f} µs",
                f"{what} {median(times) / 1000:.0f} µs",
                f"{ratio:.0f} times faster",
                "" if limit is None else f">= {limit} times",
                None if limit is None else ratio >= limit,
            )
    yield from measure_hostile_pages()


def _read(reader: PageReader, pages: list[bytes]) -> None:
    for page in pages:
        reader.read(page, 1.0)


def _next(take: Callable[[], object], read: Callable[..., object]) -> None:
    read(take())


def _all_families(text: str) -> None:
    for _ in text_string_to_metric_families(text):
        pass


def measure_scraping() -> Iterator[Row]:
    """Measure scraping a hundred servers every 50 ms over loopback, against fetching alone with aiohttp."""
    ours, theirs = [], []
    with _servers("busy") as ports:
        for _ in range(_ROUNDS):
            ours.append(_scrape("ours", ports))
            theirs.append(_scrape("aiohttp", ports))
    cores = median(cores for _, cores, _ in ours)
    yield Row(
        f"scrape {_ENDPOINTS} endpoints every 50 ms",
        f"{cores:.3f} core, {median(cost for _, _, cost in ours):.0f} µs CPU each",
        f"fetch with aiohttp {median(cores for _, cores, _ in theirs):.3f} core",
        f"{median(mine[2] / other[2] for mine, other in zip(ours, theirs, strict=True)):.2f}",
        "< 0.6 core",
        cores < 0.6 and min(rate for rate, _, _ in ours) > 0.9 * _ENDPOINTS / 0.05,
    )
    yield from _few_endpoints()
    with _servers("idle") as ports:
        idle = [_scrape("adaptive", ports) for _ in range(_ROUNDS)]
    cores = median(cores for _, cores, _ in idle)
    yield Row(
        f"scrape {_ENDPOINTS} idle endpoints, adaptive up to 1 s",
        f"{cores:.3f} core, {median(cost for _, _, cost in idle):.0f} µs CPU each",
        "",
        "",
        "< 0.05 core",
        cores < 0.05,
    )


def _few_endpoints() -> Iterator[Row]:
    """Measure scraping so few servers that waking up for each is most of the cost."""
    with _servers("small", 8) as ports:
        cores = min(_scrape("ours", ports)[1] for _ in range(_ROUNDS))
    name = "scrape 8 endpoints with small pages every 50 ms"
    yield Row(name, f"{cores:.3f} core", "", "", "<= 0.024 core", cores <= 0.024)
    with _servers("22kB", 4) as ports:
        cost = min(_scrape("ours", ports)[2] for _ in range(_ROUNDS))
    name = "scrape 4 endpoints with pages of 22 kB every 50 ms"
    yield Row(name, f"{cost:.0f} µs CPU each", "", "", "<= 120 µs", cost <= 120)


@contextmanager
def _servers(kind: str, count: int = _ENDPOINTS) -> Iterator[list[str]]:
    command = [sys.executable, "-m", "benchmarks.scraping.server", str(count), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()
        finally:
            process.kill()


def _scrape(way: str, ports: list[str]) -> tuple[float, float, float]:
    """Give scrapes per second, cores, and microseconds of CPU for each scrape."""
    command = [sys.executable, "-m", "benchmarks.scraping.scraper", way, str(_SECONDS), *ports]
    completed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    rate, cores, cost = map(float, completed.stdout.split())
    return rate, cores, cost
