"""
The prefix tree: lookups, inserts, what an endpoint that leaves costs, and memory.

Memory is measured in a process of its own, as resident memory: ``python -m benchmarks.prefix text``.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from random import Random
from statistics import median
from threading import Thread
from time import perf_counter
from typing import Any

from benchmarks.measure import Row, ratio_to_choice, time_of
from inferencepool.prefix import HashChainIndex, PrefixIndex, PrefixTree

__all__ = ["measure_prefix", "measure_prefix_memory"]

ENDPOINTS = 1_000
KIB = 1024
SYSTEM = 2 * KIB
LONG = 128 * KIB
CAPACITY = 31_250


def measure_prefix() -> Iterator[Row]:
    """Measure lookups, inserts and removals."""
    yield from _measure_lookups()
    yield from _measure_branches()
    yield from _measure_inserts()
    yield _measure_removal()
    yield _measure_threads()


def _send(index: PrefixIndex, prompt: bytes, slot: int) -> None:
    index.insert(index.match(prompt), slot)


def _measure_lookups() -> Iterator[Row]:
    """Look up in what 1,000 endpoints hold: a system prompt of 2 KiB each, and three of them one long prompt."""
    kinds: list[tuple[str, PrefixIndex, tuple[float | None, ...]]] = [
        ("", PrefixTree(), (25, 105, 6)),
        (", fingerprints", PrefixTree(fingerprints=True), (None, None, None)),
        (", hash chains of 64-byte blocks", HashChainIndex(block_size=64), (None, None, None)),
    ]
    rng = Random(1)
    known = rng.randbytes(LONG)
    prompts = {
        "full hit": known,
        "half hit": known[: LONG // 2] + rng.randbytes(LONG // 2),
        "miss": rng.randbytes(LONG),
    }
    for name, index, limits in kinds:
        for slot in range(ENDPOINTS):
            _send(index, known[:SYSTEM], slot)
        for slot in range(3):
            _send(index, known, slot)
        assert [blocks for blocks, _ in index.match(known).levels] == [LONG // 64, SYSTEM // 64]
        for (what, prompt), limit in zip(prompts.items(), limits, strict=True):
            yield ratio_to_choice(f"prefix lookup 128 KiB, {what}{name}", partial(index.match, prompt), limit)


def _measure_branches() -> Iterator[Row]:
    """Look up a prompt off which another one branches at every block, and again when those are forgotten."""
    tree, known = PrefixTree(), Random(2).randbytes(LONG)
    _send(tree, known, 0)
    for end in range(64, LONG, 64):
        _send(tree, known[:end] + bytes(64), 1)
    assert tree.statistics().nodes > LONG // 64
    yield ratio_to_choice("prefix lookup 128 KiB, full hit, a branch at every block", partial(tree.match, known))
    tree.remove(1)
    assert tree.statistics().nodes == 1
    yield ratio_to_choice("prefix lookup 128 KiB, full hit, branches forgotten", partial(tree.match, known), 25)


def _measure_inserts() -> Iterator[Row]:
    """Look up and insert new prompts at an endpoint that is full, so that each pushes out as much."""
    small, large = (_filling(size, PrefixTree(), 0) for size in (4 * KIB, 32 * KIB))
    yield ratio_to_choice("prefix lookup and insert, new 4 KiB, endpoint full", small)
    yield ratio_to_choice("prefix lookup and insert, new 32 KiB, endpoint full", large)
    pairs = [(time_of(small, 1_000), time_of(large, 1_000)) for _ in range(11)]
    ratio = median(b / a for a, b in pairs)
    yield Row(
        "prefix insert, 32 KiB against 4 KiB",
        f"{median(b for _, b in pairs) / 1000:.2f} µs",
        f"4 KiB {median(a for a, _ in pairs) / 1000:.2f} µs",
        f"{ratio:.2f}",
        "<= 1.5",
        ratio <= 1.5,
    )


def _filling(size: int, tree: PrefixTree, slot: int) -> Callable[[], None]:
    """Give a call that sends the next prompt of *size* bytes to a full endpoint; it forgot that prompt before."""
    rng = Random(slot)
    prompts = [rng.randbytes(size) for _ in range(CAPACITY * 64 // size + 3)]
    for prompt in prompts:
        _send(tree, prompt, slot)
    following = cycle(prompts).__next__

    def step() -> None:
        _send(tree, following(), slot)

    before = tree.statistics()
    step()
    assert tree.statistics().held == before.held == CAPACITY * before.endpoints
    assert tree.statistics().misses == before.misses + 1
    return step


def _measure_removal() -> Row:
    """Remove an endpoint that is full of prompts of 4 KiB, half of which another one holds as well."""
    rng = Random(3)
    prompts = [rng.randbytes(4 * KIB) for _ in range(CAPACITY // 64)]
    tree = PrefixTree()
    taken, choices = [], []
    for _ in range(11):
        for number, prompt in enumerate(prompts):
            _send(tree, prompt, 0)
            if number % 2:
                _send(tree, prompt, 1)
        choices.append(time_of(partial(Random(1).choice, range(1_000)), 2_000))
        taken.append(time_of(partial(tree.remove, 0), 1))
        tree.remove(1)
    return Row(
        f"remove an endpoint with {len(prompts)} prompts of 4 KiB",
        f"{median(taken) / 1e6:.2f} ms",
        f"rc {median(choices) / 1000:.2f} µs",
        f"{median(a / b / len(prompts) for a, b in zip(taken, choices, strict=True)):.1f} per prompt",
    )


def _measure_threads() -> Row:
    """Look up and insert by 4 threads at once and by one, in turns."""
    one, four = [], []
    for _ in range(9):
        one.append(_throughput(1))
        four.append(_throughput(4))
    ratio = median(b / a for a, b in zip(one, four, strict=True))
    return Row(
        "4 threads look up and insert, new 4 KiB, endpoint full",
        f"{median(four):.0f} /s",
        f"1 thread {median(one):.0f} /s",
        f"{ratio:.2f}",
    )


def _throughput(threads: int, calls: int = 20_000) -> float:
    """Count prompts per second of all threads together, each with an endpoint of its own in one tree."""
    tree = PrefixTree()
    steps = [_filling(4 * KIB, tree, slot) for slot in range(threads)]
    workers = [Thread(target=time_of, args=(step, calls // threads)) for step in steps]
    start = perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return calls / (perf_counter() - start)


def measure_prefix_memory() -> Iterator[Row]:
    """Measure memory per block: a million blocks in prompts of 8 KiB that share 2 KiB, on 1,000 endpoints."""
    for kind, limit in (("text", 100), ("fingerprints", None)):
        command = [sys.executable, "-m", "benchmarks.prefix", kind]
        root = Path(__file__).resolve().parent.parent
        found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, cwd=root).stdout)
        each = found["resident"] / found["blocks"]
        yield Row(
            f"prefix memory per 64-byte block, {kind}",
            f"{each:.0f} B",
            f"estimated {found['estimated'] / found['blocks']:.0f} B",
            f"{found['estimated'] / found['resident']:.2f}",
            "" if limit is None else f"<= {limit} B",
            None if limit is None else each <= limit,
        )


def _fill(kind: str) -> dict[str, int]:
    rng = Random(1)
    tree = PrefixTree(fingerprints=kind == "fingerprints", max_bytes=2**40)
    system = rng.randbytes(SYSTEM)
    before = _resident()
    for _ in range(1_000_000 // (6 * KIB // 64)):
        _send(tree, system + rng.randbytes(6 * KIB), rng.randrange(ENDPOINTS))
    found = tree.statistics()
    return {"resident": _resident() - before, "blocks": found.blocks, "estimated": found.bytes}


def _resident() -> int:
    """Tell how much memory this process has: now, or where that cannot be told, the most it ever had."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * KIB
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(json.dumps(_fill(sys.argv[1])))
