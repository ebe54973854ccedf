"""
Draw the tables of speed that stand on a page, so that the figure says what the page says.

``python -m benchmarks.peers.figure`` reads the comparison of the documentation and writes its figure.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import attrs

from benchmarks.peers.catalog import OURS

__all__ = ["Bar", "bars_of", "draw", "main"]

_DOCS = Path(__file__).parents[2] / "docs" / "explanation"

_WIDTH, _LABELS, _ROW, _PANEL = 860, 330, 22, 54
# Where the logarithmic scale begins and ends.
_LEAST, _MOST = 0.2, 2_000.0
_TICKS = (1, 10, 100, 1_000)

_STYLE = """
.card { fill: #ffffff; stroke: #d0d7de }
.grid { stroke: #d0d7de }
.ours { fill: #3f51b5 } .peer { fill: #9aa4b2 } .proxied { fill: #d5dae1; stroke: #9aa4b2 }
text { font: 12.5px system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; fill: #1f2328 }
.head { font-weight: 600; font-size: 14px } .small { font-size: 11.5px; fill: #57606a }
.end { text-anchor: end } .mid { text-anchor: middle }
@media (prefers-color-scheme: dark) {
.card { fill: #161b22; stroke: #30363d }
.grid { stroke: #3d444d }
.ours { fill: #9fa8da } .peer { fill: #768390 } .proxied { fill: #373e47; stroke: #768390 }
text { fill: #e6edf3 } .small { fill: #adb5bd }
}
"""


@attrs.frozen
class Bar:
    """
    One row of a table.

    Attributes:
        what: What was picked for.
        peer: Whose way it is, with the version.
        way: Its name.
        ratio: Time of a pick, as a multiple of ours.
        proxied: Whether it is the processor time of a whole proxied request.
    """

    what: str
    peer: str
    way: str
    ratio: float
    proxied: bool


def bars_of(page: str, size: int = 100) -> list[Bar]:
    """
    Read the tables of speed on a page.

    Args:
        page: The text, in Markdown, with tables as `benchmarks.peers` prints them.
        size: For how many endpoints.

    Returns:
        The rows that have figures for that *size*, the first of those that tell of the same way.

    Raises:
        ValueError: No table of speed is there, or none for that *size*.
    """
    bars: dict[tuple[str, str, str], Bar] = {}
    column = -1
    for cells in _rows(page):
        if cells[0] == "what":
            sizes = cells[3].partition("n = ")[2].split(" / ")
            column = sizes.index(str(size)) if "x ours" in cells and str(size) in sizes else -1
        elif column >= 0 and len(cells) > 5 and "/" in cells[5]:
            ratio = cells[5].split(" / ")[column].replace(",", "")
            way = cells[2].removesuffix(" *")
            bar = Bar(cells[0], cells[1], way, float(ratio), proxied=way != cells[2])
            bars.setdefault((bar.what, bar.peer, bar.way), bar)
    if not bars:
        message = f"no table of speed for n = {size}"
        raise ValueError(message)
    return list(bars.values())


def _rows(page: str) -> Iterator[list[str]]:
    return ([cell.strip() for cell in line.strip("| ").split("|")] for line in page.splitlines() if line[:1] == "|")


def draw(bars: Sequence[Bar], size: int = 100) -> str:
    """
    Give an SVG with a panel for each thing that was picked for, best first.

    Ways that look at nothing (round robin through a proxy) are left out, and our prefix tree without a picker.
    """
    shown = [
        bar for bar in bars if bar.way not in {"round_robin", "prefix tree alone"} and "picked for" not in bar.what
    ]
    body: list[str] = []
    top = 44.0
    for what in dict.fromkeys(bar.what for bar in shown):
        panel = sorted((bar for bar in shown if bar.what == what), key=lambda bar: bar.ratio)
        body += _panel(what, panel, top)
        top += _PANEL + _ROW * len(panel)
    body.append(
        _text(
            20, top + 4, "Outlined bars: processor time of the router's process for a whole proxied request.", "small"
        )
    )
    height = math.ceil(top + 20)
    title = f"Time of a pick among {size} endpoints, as a multiple of inferencepool's; logarithmic"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f'<rect class="card" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>',
            _text(20, 28, title, "head"),
            *body,
            "</svg>\n",
        ]
    )


def _panel(what: str, bars: Sequence[Bar], top: float) -> Iterator[str]:
    bottom = top + 18 + _ROW * len(bars)
    yield _text(20, top + 14, what, "head")
    for tick in _TICKS:
        yield f'<line class="grid" x1="{_x(tick):.1f}" x2="{_x(tick):.1f}" y1="{top + 18}" y2="{bottom}"/>'
        yield _text(_x(tick), bottom + 14, f"{tick:,} x", "small mid")
    for row, bar in enumerate(bars):
        y = top + 22 + row * _ROW
        kind = "ours" if bar.peer.startswith(OURS.name) else "proxied" if bar.proxied else "peer"
        yield _text(_LABELS - 8, y + 12, f"{bar.peer}, {bar.way}", "end")
        width = _x(bar.ratio) - _LABELS
        yield f'<rect class="{kind}" x="{_LABELS}" y="{y}" width="{width:.1f}" height="{_ROW - 7}" rx="2"/>'
        yield _text(_x(bar.ratio) + 6, y + 12, _figure(bar.ratio), "small")


def _x(ratio: float) -> float:
    share = math.log(ratio / _LEAST) / math.log(_MOST / _LEAST)
    return _LABELS + share * (_WIDTH - 30 - _LABELS)


def _figure(ratio: float) -> str:
    return f"{ratio:,.{2 if ratio < 10 else 0}f}"


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def main(arguments: Sequence[str]) -> int:
    """Draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.figure", description="Draw the tables of a page.")
    page, figure = _DOCS / "comparison.md", _DOCS / "images" / "comparison.svg"
    parser.add_argument("page", nargs="?", type=Path, default=page, help="has tables that benchmarks.peers prints")
    parser.add_argument("figure", nargs="?", type=Path, default=figure, help="the SVG to write")
    options = parser.parse_args(arguments)
    options.figure.write_text(draw(bars_of(options.page.read_text(encoding="utf-8"))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
