"""The tables, as Markdown: each policy with its differences to ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import sqrt
from statistics import fmean, stdev

import attrs

from benchmarks.study.runs import Outcome
from inferencepool.lab.simulation import SimulationResult

__all__ = ["table"]

# Student's t for intervals of 95 %, by degrees of freedom from 1 on.
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09)


@attrs.frozen
class _Measure:
    """One column: what it shows, by how much it is multiplied, its decimals, and whether more is better."""

    of: Callable[[SimulationResult], float]
    factor: float = 1.0
    decimals: int = 0
    more_is_better: bool = False


_MEASURES: Mapping[str, _Measure] = {
    "hit rate %": _Measure(lambda result: result.hit_rate, 100, 2, more_is_better=True),
    "TTFT ms": _Measure(lambda result: result.time_to_first_token.mean, 1000, 1),
    "p50": _Measure(lambda result: result.time_to_first_token.percentile(50), 1000, 1),
    "p99": _Measure(lambda result: result.time_to_first_token.percentile(99), 1000),
    "answer s": _Measure(lambda result: result.end_to_end.mean, 1, 3),
    "p99 s": _Measure(lambda result: result.end_to_end.percentile(99), 1, 2),
    "load spread": _Measure(lambda result: result.load_spread, 1, 2),
}
_LOADS = {"adapters loaded": _Measure(lambda result: result.adapter_loads)}


def table(outcomes: Sequence[Outcome], ours: str) -> Iterator[str]:
    """
    Lay out *outcomes*, one row each, as means over the seeds.

    Behind the mean stands by how much it is more than that of *ours*, with the half width of the 95 % interval of the
    mean of the differences of each seed. A ``!`` marks where that is better than ours and the interval excludes 0.
    """
    measures = dict(_MEASURES)
    if any(result.adapter_loads for outcome in outcomes for result in outcome.results):
        measures |= _LOADS
    yield _row(["policy", *measures])
    yield _row(["---", *["--:"] * len(measures)])
    base = next(outcome for outcome in outcomes if outcome.profile == ours)
    better: list[str] = []
    for outcome in outcomes:
        cells = []
        for name, measure in measures.items():
            cell = _number(measure.factor * outcome.mean(measure.of), measure.decimals)
            if outcome is not base:
                mean, half = _difference(outcome, base, measure)
                cell += f" ({_number(mean, measure.decimals, '+')} ± {_number(half, measure.decimals)})"
                if (mean if measure.more_is_better else -mean) > half:
                    cell += " !"
                    better.append(f"{outcome.profile} in {name}")
            cells.append(cell)
        yield _row([outcome.profile, *cells])
    yield ""
    yield f"Better than {ours}, beyond noise: {', '.join(better) or 'none'}."


def _difference(outcome: Outcome, base: Outcome, measure: _Measure) -> tuple[float, float]:
    """Give the mean of what *outcome* has more than *base*, seed by seed, and half the width of its interval."""
    pairs = zip(outcome.results, base.results, strict=True)
    found = [measure.factor * (measure.of(theirs) - measure.of(ours)) for theirs, ours in pairs]
    if len(found) < 2:
        return fmean(found), 0.0
    return fmean(found), _T[min(len(found) - 2, len(_T) - 1)] * stdev(found) / sqrt(len(found))


def _number(value: float, decimals: int, sign: str = "") -> str:
    return f"{value:{sign},.{decimals}f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
