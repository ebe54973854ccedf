"""The tables of the live check, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import sqrt
from statistics import fmean, stdev

from benchmarks.live.runs import Outcome

__all__ = ["differences", "knowledge", "stages", "table"]

_Runs = Mapping[str, Sequence[Outcome]]
# Student's t for 95 % of both sides, by degrees of freedom; from 10 on about that of the normal distribution.
_STUDENT = (0.0, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
_NORMAL = 2.0

_MEASURES: Mapping[str, tuple[Callable[[Outcome], float], str]] = {
    "hit rate, points": (lambda outcome: 100 * outcome.hit_rate, "+.2f"),
    "TTFT, ms": (lambda outcome: 1000 * outcome.first_token, "+.1f"),
    "p99, ms": (lambda outcome: 1000 * outcome.p99, "+.0f"),
    "slow share, points": (lambda outcome: 100 * outcome.slow_share, "+.1f"),
}


def table(live: _Runs, simulated: _Runs, again: _Runs) -> Iterator[str]:
    """Lay out what came of each policy, live, in the simulator, and there with the picks of live, with differences."""
    columns = ("hit rate", "TTFT ms", "less path", "p99", "load spread", "slow share")
    yield _row(["policy", "", *columns])
    yield _row(["---"] * 2 + ["--:"] * len(columns))
    for name in live:
        rows = {"live": live[name], "simulated": simulated[name], "with live's picks": again[name]}
        numbers = {kind: _numbers(outcomes) for kind, outcomes in rows.items()}
        for kind, (hits, first, less, p99, spread, slow) in numbers.items():
            cells = [f"{hits:.1%}", f"{first:.1f}", f"{less:.1f}", f"{p99:.0f}", f"{spread:.3f}", f"{slow:.1%}"]
            yield _row([name, kind, *cells])
        for kind in list(rows)[1:]:
            off = [_ratio(ours, theirs) for ours, theirs in zip(numbers["live"], numbers[kind], strict=True)]
            yield _row(["", f"live to {kind}", *off])


def stages(live: _Runs) -> Iterator[str]:
    """Lay out where the time to the first token went, on average, and what the processes used of a processor."""
    names = ("late", "path", "server", "queue", "prefill")
    processors = ("client", "Envoy", "picker", "servers")
    yield _row(["policy", *(f"{name} ms" for name in names), *processors])
    yield _row(["---"] + ["--:"] * (len(names) + len(processors)))
    for name, outcomes in live.items():
        times = [f"{1000 * fmean(outcome.stages[stage] for outcome in outcomes):.1f}" for stage in names]
        used = [f"{fmean(outcome.processors[process] for outcome in outcomes):.0%}" for process in processors]
        yield _row([name, *times, *used])


def knowledge(live: _Runs) -> Iterator[str]:
    """Lay out what each pick took, and knew of the endpoint that it picked, on average."""
    columns = {
        "pick, µs": ("seconds", 1e6, ".0f"),
        "age of its metrics, ms": ("age", 1e3, ".0f"),
        "of the newest, ms": ("newest", 1e3, ".0f"),
        "running": ("running", 1, ".2f"),
        "waiting": ("waiting", 1, ".2f"),
        "pending": ("pending", 1, ".2f"),
    }
    yield _row(["policy", *columns])
    yield _row(["---"] + ["--:"] * len(columns))
    for name, outcomes in live.items():
        means = {key: fmean(outcome.known[key] for outcome in outcomes) for key, _, _ in columns.values()}
        yield _row([name, *(f"{means[key] * factor:{form}}" for key, factor, form in columns.values())])


def differences(live: _Runs, simulated: _Runs) -> Iterator[str]:
    """Lay out how far the first policy is from each other one, seed by seed: mean and 95 % interval."""
    first, *others = live
    yield _row([f"{first} less", "", *_MEASURES])
    yield _row(["---"] * 2 + ["--:"] * len(_MEASURES))
    for other in others:
        for kind, runs in (("live", live), ("simulated", simulated)):
            yield _row([other, kind, *_differences(runs[first], runs[other])])


def _differences(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> Iterator[str]:
    for measure, form in _MEASURES.values():
        found = [measure(our) - measure(their) for our, their in zip(ours, theirs, strict=True)]
        freedom = len(found) - 1
        student = _STUDENT[freedom] if freedom < len(_STUDENT) else _NORMAL
        interval = student * stdev(found) / sqrt(len(found))
        yield f"{fmean(found):{form}} ± {interval:{form.removeprefix('+')}}"


def _numbers(outcomes: Sequence[Outcome]) -> Sequence[float]:
    return [
        fmean(outcome.hit_rate for outcome in outcomes),
        1000 * fmean(outcome.first_token for outcome in outcomes),
        1000 * fmean(outcome.first_token - outcome.path for outcome in outcomes),
        1000 * fmean(outcome.p99 for outcome in outcomes),
        fmean(outcome.load_spread for outcome in outcomes),
        fmean(outcome.slow_share for outcome in outcomes),
    ]


def _ratio(live: float, simulated: float) -> str:
    return f"{live / simulated - 1:+.1%}" if simulated else ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
