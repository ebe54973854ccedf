"""
Timing on machines that are shared: everything is timed in turns with a baseline, and medians of ratios are told.

The baseline *rc* is ``random.choice`` on a list of 1,000.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter_ns

import attrs

__all__ = ["Row", "ratio_to_choice", "rows_to_text", "time_of"]

_POPULATION = list(range(1000))
_ROUNDS = 11
_ROUND_NS = 4_000_000


@attrs.frozen
class Row:
    """
    One line of the table.

    Attributes:
        name: What was measured.
        ours: Our time per operation, in microseconds, the median.
        baseline: What it is compared with, and its time.
        ratio: Median of the ratios to the baseline.
        target: The limit that the ratio (or the time) is held to, as text.
        met: Whether it is within; None where there is no limit.
    """

    name: str
    ours: str
    baseline: str
    ratio: str
    target: str = ""
    met: bool | None = None


def time_of(call: Callable[[], object], times: int) -> float:
    """Time *call* and give nanoseconds per call, the loop included."""
    repeat = range(times)
    start = perf_counter_ns()
    for _ in repeat:
        call()
    return (perf_counter_ns() - start) / times


def _choose() -> None:
    random.choice(_POPULATION)  # the baseline


def ratio_to_choice(
    name: str,
    call: Callable[[], object],
    limit: float | None = None,
    *,
    prepare: Callable[[int], object] = lambda _: None,
) -> Row:
    """
    Time *call* in turns with ``random.choice`` on a list of 1,000.

    Args:
        name: What is measured.
        call: One operation.
        limit: The ratio to hold; None for none.
        prepare: Is told how often *call* is made next, outside of what is timed.
    """
    prepare(5)
    times = max(1, int(_ROUND_NS / max(time_of(call, 5), 50)))
    prepare(times)
    times = max(1, int(_ROUND_NS / time_of(call, times)))
    ours, choices, ratios = [], [], []
    for _ in range(_ROUNDS):
        prepare(times)
        choices.append(time_of(_choose, 4000))
        ours.append(time_of(call, times))
        ratios.append(ours[-1] / choices[-1])
    ratio = median(ratios)
    return Row(
        name,
        f"{median(ours) / 1000:.2f} µs",
        f"rc {median(choices) / 1000:.2f} µs",
        f"{ratio:.1f}",
        "" if limit is None else f"<= {limit:g} x rc",
        None if limit is None else ratio <= limit,
    )


def rows_to_text(rows: Sequence[Row]) -> str:
    """Lay the rows out as a Markdown table."""
    head = ("what", "ours", "baseline", "ratio", "target", "met")
    cells = [head] + [
        (row.name, row.ours, row.baseline, row.ratio, row.target, {None: "", True: "yes", False: "**NO**"}[row.met])
        for row in rows
    ]
    widths = [max(len(line[index]) for line in cells) for index in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
