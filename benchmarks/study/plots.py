"""The study's picture: each workload with each profile, by hit rate and by time to the first token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.study.runs import Outcome

__all__ = ["draw"]

_GAP = 1.0


def draw(outcomes: Sequence[Outcome], file: Path) -> None:
    """Draw *outcomes* into an SVG."""
    with rc_context({"svg.hashsalt": "inferencepool", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11, 7), layout="constrained")
        hits, mean, p99 = figure.subplots(3, 1, sharex=True)
        _bars(hits, outcomes, "hit rate, percent", lambda each: 100 * each.mean(lambda result: result.hit_rate))
        _bars(mean, outcomes, "mean TTFT, s", lambda each: each.mean(lambda result: result.time_to_first_token.mean))
        _bars(p99, outcomes, "p99 TTFT, s", lambda each: each.mean(lambda r: r.time_to_first_token.percentile(99)))
        mean.set_yscale("log")
        p99.set_yscale("log")
        handles, labels = hits.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 7))
        figure.savefig(file, metadata={"Date": None})


def _bars(axes: Axes, outcomes: Sequence[Outcome], label: str, measure: Callable[[Outcome], float]) -> None:
    workloads = list(dict.fromkeys(outcome.workload for outcome in outcomes))
    profiles = list(dict.fromkeys(outcome.profile for outcome in outcomes))
    step = len(profiles) + _GAP
    for index, profile in enumerate(profiles):
        heights = [measure(outcome) for outcome in outcomes if outcome.profile == profile]
        places = [number * step + index for number in range(len(workloads))]
        axes.bar(places, heights, width=0.9, color=f"C{index}", label=profile)
    middle = (len(profiles) - 1) / 2
    axes.set_xticks([number * step + middle for number in range(len(workloads))], workloads)
    axes.set_ylabel(label)
    axes.grid(axis="y", alpha=0.3)
