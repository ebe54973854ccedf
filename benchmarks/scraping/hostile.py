"""Metrics pages of about 1 MiB that are made to be dear, and what reading them takes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from time import thread_time_ns

from benchmarks.measure import Row
from inferencepool.adapters.exposition import ENGINES, PageReader, iterate_samples
from inferencepool.errors import InvalidMetricsError

__all__ = ["HOSTILE", "measure_hostile_pages"]

_LORA = "vllm:lora_requests_info"
_ROUNDS = 5
_LONGEST_STEP = 25
_WHOLE = 500
_FIRST = "vllm:num_requests_waiting 1\n"
_SIZE = 1024 * 1024


def _page(lines: Iterator[str]) -> bytes:
    """Write as many lines as fit, behind one of a gauge."""
    page = [_FIRST]
    size = len(_FIRST)
    for line in lines:
        size += len(line)
        if size > _SIZE:
            break
        page.append(line)
    return "".join(page).encode()


def _adapters(number: int, *, renamed: bool) -> Iterator[str]:
    names = number if renamed else 0
    for series in range(10_000):
        yield (
            f'{_LORA}{{max_lora="4",running_lora_adapters="a{series + names}",waiting_lora_adapters=""}} '
            f"{1_000_000 + (series * 7919 + number * 104_729) % 10_000}\n"
        )


def _repeated(line: str) -> Iterator[str]:
    while True:
        yield line


#: The next of a server's pages by its number, by what is dear about them.
HOSTILE: Mapping[str, Callable[[int], bytes]] = {
    "10,000 LoRA series change": lambda number: _page(_adapters(number, renamed=False)),
    "10,000 LoRA series, other labels each time": lambda number: _page(_adapters(number, renamed=True)),
    "long escapes": lambda number: _page(_repeated(f'{_LORA}{{a="{chr(92) * 60_000}"}} {number}\n')),
    "250 labels a series": lambda number: _page(
        _repeated(f"{_LORA}{{{','.join(f'l{label}={chr(34) * 2} ' for label in range(250))}}} {number}\n")
    ),
    "one gauge 36,000 times": lambda number: _page(_repeated(f"vllm:num_requests_waiting {number}\n")),
    "timestamps, 33,000 times": lambda number: _page(_repeated(f"vllm:num_requests_waiting  {number} 1\n")),
    "27,000 types": lambda _: _page(_repeated("# TYPE vllm:num_requests_waiting gauge\n")),
    "a line without an end": lambda _: f'{_FIRST}{_LORA}{{a="{"x" * (_SIZE - 1000)}'.encode(),
    "names that nearly are": lambda _: _page(_repeated("vllm:num_requests_waitin_waiting 1\n")),
}


def measure_hostile_pages() -> Iterator[Row]:
    """Measure reading dear pages: the time of a page, and the longest step of it, against parsing every line."""
    for name, make in HOSTILE.items():
        reader = PageReader(ENGINES["vllm"])
        wholes, steps, parsed = [], [], []
        for number in range(_ROUNDS):
            page = make(number)
            gc.collect()
            taken = list(_steps(reader, page))
            wholes.append(sum(taken) / 1e6)
            steps.append(max(taken) / 1e6)
            parsed.append(_parse(page) / 1e6)
        whole, step = median(wholes), median(steps)
        yield Row(
            f"read a page of 1 MiB: {name}",
            f"{whole:.1f} ms, longest step {step:.1f} ms",
            f"our line parser, one step of {median(parsed):.0f} ms",
            f"{median(parsed) / step:.0f} times shorter steps",
            f"<= {_WHOLE} ms, no step > {_LONGEST_STEP} ms",
            whole <= _WHOLE and step <= _LONGEST_STEP,
        )


def _steps(reader: PageReader, page: bytes) -> Iterator[int]:
    """Read *page*; give the nanoseconds of CPU time of each step."""
    began = thread_time_ns()
    try:
        is_read = reader.follow(page, 1.0)
        yield thread_time_ns() - began
        steps = reader.learn(page, 1.0)
        while not is_read:
            began = thread_time_ns()
            is_read = next(steps, True) is True
            yield thread_time_ns() - began
    except InvalidMetricsError:
        yield thread_time_ns() - began


def _parse(page: bytes) -> int:
    began = thread_time_ns()
    try:
        for _ in iterate_samples(page):
            pass
    except InvalidMetricsError:
        pass
    return thread_time_ns() - began
