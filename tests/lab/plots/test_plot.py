from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.lab.plots import plot_results
from inferencepool.lab.simulation import PROFILES, SharedPrompts, SimulationOptions, SimulationResult, compare
from tests.patience import PATIENCE

WITHOUT_MATPLOTLIB = """
import sys
sys.modules["matplotlib"] = None
from inferencepool.errors import MissingExtraError
from inferencepool.plugins import default_profile
from inferencepool.lab.plots import plot_results
from inferencepool.lab.simulation import simulate
try:
    plot_results([simulate([], default_profile)], "result.svg")
except MissingExtraError as error:
    print(error)
"""


@pytest.fixture(name="results", scope="module")
def _results() -> tuple[SimulationResult, ...]:
    arrivals = SharedPrompts().arrivals(rate=20, duration=5, seed=1)
    profiles = {name: PROFILES[name] for name in ("default", "random")}
    return compare(arrivals, profiles, SimulationOptions(endpoints=3))


@pytest.mark.parametrize(("ending", "begin"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_the_ending_says_what_is_drawn(
    results: tuple[SimulationResult, ...], tmp_path: Path, ending: str, begin: bytes
) -> None:
    """Pictures are drawn in the format that the file's name asks for."""
    file = tmp_path / f"result{ending}"
    plot_results(results, file, title="two profiles")

    assert file.read_bytes().startswith(begin)


def test_the_same_results_give_the_same_picture(results: tuple[SimulationResult, ...], tmp_path: Path) -> None:
    """An SVG holds no time and no random names, so that it changes only with the results."""
    one, again, other = (tmp_path / f"{name}.svg" for name in ("one", "again", "other"))
    plot_results(results, one)
    plot_results(results, again)
    plot_results(results[:1], other)

    assert one.read_bytes() == again.read_bytes()
    assert one.read_bytes() != other.read_bytes()


def test_nothing_that_came_can_be_drawn(tmp_path: Path) -> None:
    """A simulation without any request is drawn without error, and as a single endpoint, too."""
    file = tmp_path / "result.svg"
    plot_results(compare([], {"none": PROFILES["default"]}, SimulationOptions(endpoints=1)), file)

    assert file.exists()


def test_another_ending_is_refused(results: tuple[SimulationResult, ...], tmp_path: Path) -> None:
    """A file whose ending names no format is refused, and not written."""
    with pytest.raises(ConfigurationError, match=r"has none of the endings \.pdf, \.png, \.svg"):
        plot_results(results, tmp_path / "result.gif")
    assert [] == list(tmp_path.iterdir())


def test_without_results_there_is_nothing_to_draw(tmp_path: Path) -> None:
    """An empty list of results is refused."""
    with pytest.raises(ConfigurationError, match="plot: results: there are none"):
        plot_results([], tmp_path / "result.svg")


def test_without_matplotlib_the_extra_is_named() -> None:
    """Where matplotlib is missing, the error says what to install."""
    completed = subprocess.run(
        [sys.executable, "-c", WITHOUT_MATPLOTLIB], capture_output=True, text=True, check=True, timeout=PATIENCE
    )

    assert 'plots need matplotlib: pip install "inferencepool[plot]"\n' == completed.stdout
