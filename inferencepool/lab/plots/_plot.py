"""Plots of simulations, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferencepool.errors import ConfigurationError, MissingExtraError
from inferencepool.lab.simulation import Distribution, SimulationResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["check_plot", "plot_results"]

# So many points can be told apart.
_FEW = 32
_FORMATS = (".pdf", ".png", ".svg")
_SETTINGS: Any = {
    # The same results give the same file.
    "svg.hashsalt": "inferencepool",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9.0,
}


def check_plot(file: str | Path) -> None:
    """
    Make sure that a picture can be drawn into *file*, before there is anything to draw.

    Raises:
        ConfigurationError: Its name has none of the endings ``.svg``, ``.png`` and ``.pdf``, or there is no such
            directory.
        MissingExtraError: matplotlib is not installed.
    """
    if Path(file).suffix not in _FORMATS:
        message = f"plot: file: {str(file)!r} has none of the endings {', '.join(_FORMATS)}"
        raise ConfigurationError(message)
    if not Path(file).parent.is_dir():
        message = f"plot: file: {str(file)!r} is in no directory that exists"
        raise ConfigurationError(message)
    if find_spec("matplotlib") is None:
        message = 'plots need matplotlib: pip install "inferencepool[plot]"'
        raise MissingExtraError(message)


def plot_results(results: Sequence[SimulationResult], file: str | Path, *, title: str = "") -> None:
    """
    Draw *results* side by side: hit rates, times to the first token and of whole answers, and how load was spread.

    Args:
        results: One for each profile, with different names.
        file: Where to write; the ending says how: ``.svg``, ``.png`` or ``.pdf``.
        title: Stands above everything.

    Raises:
        ConfigurationError: There are no results, or as `check_plot`.
        MissingExtraError: As `check_plot`.
        OSError: The file cannot be written.
    """
    check_plot(file)
    if not results:
        message = "plot: results: there are none, allowed are one or more"
        raise ConfigurationError(message)
    from matplotlib import rc_context  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    with rc_context(_SETTINGS):
        figure = Figure(figsize=(10, 6.5), layout="constrained")
        hits, first, loads, whole = figure.subplots(2, 2).flat
        _draw_hits(hits, results)
        _draw_times(first, results, "time to first token", lambda result: result.time_to_first_token)
        _draw_loads(loads, results)
        _draw_times(whole, results, "whole answer", lambda result: result.end_to_end)
        figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=min(len(results), 4))
        if title:
            figure.suptitle(title)
        figure.savefig(file, dpi=120, metadata={"Date": None} if Path(file).suffix == ".svg" else None)


def _color(index: int) -> str:
    return f"C{index}"


def _draw_hits(axes: Axes, results: Sequence[SimulationResult]) -> None:
    for index, result in enumerate(results):
        axes.bar(index, 100 * result.hit_rate, color=_color(index))
    axes.set_title("blocks of prompts from caches")
    axes.set_ylabel("percent")
    axes.set_ylim(0, 100)
    axes.set_xticks([])


def _draw_times(
    axes: Axes, results: Sequence[SimulationResult], title: str, pick: Callable[[SimulationResult], Distribution]
) -> None:
    for index, result in enumerate(results):
        percentiles = pick(result).percentiles
        axes.plot(range(len(percentiles)), percentiles, color=_color(index), label=result.profile)
    axes.set_title(title)
    axes.set_xlabel("percentile of requests")
    axes.set_ylabel("seconds")
    axes.set_yscale("log")
    axes.grid(alpha=0.3)


def _draw_loads(axes: Axes, results: Sequence[SimulationResult]) -> None:
    for index, result in enumerate(results):
        loads = sorted((endpoint.mean_load for endpoint in result.endpoints), reverse=True)
        places = [100 * place / max(1, len(loads) - 1) for place in range(len(loads))]
        axes.plot(places, loads, color=_color(index), marker="." if len(loads) <= _FEW else "")
    axes.set_title("mean load of endpoints")
    axes.set_xlabel("endpoints, busiest first (percent)")
    axes.set_ylabel("requests")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
