"""The study's tables, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean

from benchmarks.study.cases import ENDPOINTS, Part
from benchmarks.study.runs import Outcome
from inferencepool.lab.simulation import SimulationResult

__all__ = ["table"]

_Measure = Callable[[SimulationResult], float]


def _misses(result: SimulationResult) -> float:
    return 1 - result.hit_rate


def _mean_ttft(result: SimulationResult) -> float:
    return result.time_to_first_token.mean


def _p99_ttft(result: SimulationResult) -> float:
    return result.time_to_first_token.percentile(99)


def _p99_end(result: SimulationResult) -> float:
    return result.end_to_end.percentile(99)


def _newcomers(part: Part, result: SimulationResult) -> float:
    """Tell what endpoints that joined later got each, as a share of an even share of what came since."""
    since = 1 - (part.joined_at or 0.0) / part.seconds
    even = result.requests * since / len(result.endpoints)
    return fmean(endpoint.picks for endpoint in result.endpoints[ENDPOINTS:]) / even


_COLUMNS: Mapping[str, Callable[[Outcome], str]] = {
    "hit rate": lambda outcome: f"{outcome.mean(lambda result: result.hit_rate):.1%}",
    "TTFT ms": lambda outcome: f"{1000 * outcome.mean(_mean_ttft):,.0f}",
    "p99": lambda outcome: f"{1000 * outcome.mean(_p99_ttft):,.0f}",
    "answer s": lambda outcome: f"{outcome.mean(lambda result: result.end_to_end.mean):.2f}",
    "p99 s": lambda outcome: f"{outcome.mean(_p99_end):.2f}",
    "load spread": lambda outcome: f"{outcome.mean(lambda result: result.load_spread):.2f}",
}


def table(part: Part, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Lay out *outcomes*, one row each; with rivals, also in how many seeds a row is no worse than they are."""
    columns = dict(_COLUMNS)
    if part.joined_at is not None:
        columns["new ones' share"] = lambda outcome: f"{outcome.mean(lambda result: _newcomers(part, result)):.2f}"
    rivals = [f"no worse than {name}: hit rate, TTFT, p99, p99 s" for name in part.rivals]
    yield _row(["workload", "profile", *columns, *rivals])
    yield _row(["---"] * 2 + ["--:"] * (len(columns) + len(rivals)))
    by_key = {(outcome.workload, outcome.profile): outcome for outcome in outcomes}
    for outcome in outcomes:
        cells = [column(outcome) for column in columns.values()]
        for name in part.rivals:
            rival = by_key[outcome.workload, name]
            wins = [str(outcome.wins(rival, measure)) for measure in (_misses, _mean_ttft, _p99_ttft, _p99_end)]
            cells.append(", ".join(wins) if outcome.profile not in part.rivals else "")
        yield _row([f"`{outcome.workload}`", outcome.profile, *cells])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
