"""What the others notice of a hostile client or pod, and what the picker takes for it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from statistics import quantiles
from time import monotonic
from typing import Any

import attrs

from benchmarks.hostile.arena import Arena, TooBusyError, arena_for
from benchmarks.hostile.cases import CASES, MOST_LATER, MOST_STEP, MOST_TIMES, Case
from benchmarks.measure import Row

__all__ = ["Outcome", "measure_case", "measure_hostile"]

_BASELINE = 4.0
# What was due before it is answered by then, if all is well: the attack does not count for it.
_GAP = 0.5
_LATER = 5.0
_MIB = 1 << 20


@attrs.frozen
class Outcome:
    """
    What was seen of a case.

    Attributes:
        case: The case.
        calm: The 99th percentile of the others without the hostile one, in seconds.
        calm_failed: How many of them failed then, which is the machine's fault.
        beside: The same beside it.
        chats: How many chats were sent beside it.
        failed: How many of them failed.
        locked_out: How many new gateways were not let in by the picker.
        step: The longest step of the picker's event loop, in seconds of CPU.
        step_name: What that step was.
        before: Memory of the picker before, in bytes.
        most: The most while it lasted.
        later: Some seconds after.
        lines: How many lines the picker logged.
        counted: What the hostile client counted.
    """

    case: Case
    calm: float
    calm_failed: int
    beside: float
    chats: int
    failed: int
    locked_out: int
    step: float
    step_name: str
    before: int
    most: int
    later: int
    lines: int
    counted: str

    def missed(self) -> list[str]:
        """Name the limits that did not hold."""
        limits = {
            "p99": self.beside <= MOST_TIMES * self.calm,
            "failed": not self.failed,
            "locked out": not (self.locked_out and self.case.lets_in),
            "step": self.step <= MOST_STEP,
            "most": self.most - self.before <= self.case.memory,
            "later": self.later <= MOST_LATER * self.before,
            "lines": self.case.lines is None or self.lines <= self.case.lines,
        }
        return [name for name, held in limits.items() if not held]

    def row(self) -> Row:
        """Give the line of the table."""
        missed = self.missed()
        ours = [
            f"p99 {self.beside * 1000:.0f} ms",
            f"{self.failed} of {self.chats} failed",
            f"{self.locked_out} locked out",
            f"step {self.step * 1000:.0f} ms",
            f"most +{(self.most - self.before) / _MIB:.0f} MiB",
            f"later {self.later / self.before:.2f} x",
            f"{self.lines} lines",
        ]
        target = [
            f"<= {MOST_TIMES:g} x",
            "0 failed",
            "0 locked out" if self.case.lets_in else "",
            f"step {MOST_STEP * 1000:g} ms",
            f"most +{self.case.memory / _MIB:.0f} MiB",
            f"later {MOST_LATER:g} x",
            f"{self.case.lines} lines" if self.case.lines is not None else "",
            f"missed: {' and '.join(missed)}" if missed else "",
        ]
        return Row(
            f"hostile: {self.case.name}",
            ", ".join(ours),
            f"alone p99 {self.calm * 1000:.0f} ms, {self.calm_failed} failed, {self.before / _MIB:.0f} MiB",
            f"{self.beside / self.calm:.1f}",
            ", ".join(filter(None, target)),
            not missed,
        )


def measure_hostile(names: Sequence[str] = (), seconds: float | None = None) -> Iterator[Row]:
    """Measure each case, or those that are named; *seconds* is how long each lasts, None for as long as it says."""
    for name in names or CASES:
        try:
            outcome = asyncio.run(measure_case(CASES[name], seconds))
        except TooBusyError as error:
            yield Row(f"hostile: {name}", str(error), "", "", "", met=False)
            continue
        row = outcome.row()
        told = f"{name}: {row.ours}; the longest step was {outcome.step_name}; counted {outcome.counted or '-'}"
        print(told, file=sys.stderr, flush=True)
        yield row


async def measure_case(case: Case, seconds: float | None = None, later: float = _LATER) -> Outcome:
    """Run one case: the others alone, beside the hostile one, and alone again for some seconds."""
    async with arena_for(case) as arena:
        marks = [monotonic()]
        await asyncio.sleep(_BASELINE)
        marks.append(monotonic())
        await asyncio.sleep(_GAP)
        marks.append(monotonic())
        before, lines = arena.picker.memory(), arena.picker.lines
        arena.picker.forget_most_memory()
        arena.probe.reset()
        counted = await arena.attack(case.seconds if seconds is None else seconds)
        marks.append(monotonic())
        lines = arena.picker.lines - lines
        await asyncio.sleep(later)
        return await _outcome(case, arena, marks, before=before, lines=lines, counted=counted)


async def _outcome(
    case: Case, arena: Arena, marks: Sequence[float], *, before: int, lines: int, counted: str
) -> Outcome:
    most, later = arena.picker.most_memory(), arena.picker.memory()
    told = await arena.end_others()
    step, step_name = arena.probe.read(arena.picker.pid)
    calm_failed, calm = _between(told["chats"], marks[0], marks[1])
    failed, beside = _between(told["chats"], marks[2], marks[3])
    locked_out, _ = _between(told["newcomers"], marks[2], marks[3])
    return Outcome(
        case=case,
        calm=_p99(calm),
        calm_failed=calm_failed,
        beside=_p99(beside),
        chats=len(beside),
        failed=failed,
        locked_out=locked_out,
        step=step,
        step_name=step_name,
        before=before,
        most=most,
        later=later,
        lines=lines,
        counted=counted,
    )


def _between(ended: Sequence[Any], since: float, until: float) -> tuple[int, list[float]]:
    """Count the failures among those that were due in a time, and give the seconds that they took."""
    chosen = [(taken, failed) for due, taken, failed in ended if since <= due < until]
    return sum(failed for _, failed in chosen), [taken for taken, _ in chosen]


def _p99(taken: Sequence[float]) -> float:
    return quantiles(taken, n=100)[-1]
