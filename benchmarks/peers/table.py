"""Lays out what was measured as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import mean, median
from typing import TypeAlias

from benchmarks.peers.catalog import OURS, Peer
from benchmarks.peers.coordinator import Filled, Timed

__all__ = ["memory_to_text", "speed_to_text", "ways_to_text"]

Versions: TypeAlias = Mapping[str, str]
"""Name of a peer to its version."""

_WORKLOADS = {
    "load": "by load alone",
    "new": "prompt of 8 KiB, new after the first 2",
    "known": "prompt of 8 KiB, picked for before",
}


def speed_to_text(timed: Sequence[Timed], versions: Versions, absent: Mapping[Peer, str]) -> str:
    """Make the table of speed; *absent* tells why peers are not in *timed*."""
    sizes = sorted({one.size for one in timed})
    at = " / ".join(f"{size:,}" for size in sizes)
    lines = [["what", "peer", "way", f"µs at n = {at}", "x rc", "x ours", "sent back", "used"]]
    for workload in _WORKLOADS:
        lines += _lines([one for one in timed if one.workload == workload], sizes, versions)
    lines += [["", peer.name, f"not measured: {reason}", "", "", "", "", ""] for peer, reason in absent.items()]
    notes = list(_failures(timed))
    if any(one.way.proxied for one in timed):
        notes.insert(0, "\\* processor time of the router's process for a whole proxied request")
    return _table(lines) + "".join(f"\n\n{note}" for note in notes)


def _lines(timed: Sequence[Timed], sizes: Sequence[int], versions: Versions) -> Iterable[list[str]]:
    """Make the lines of one workload."""
    known = any(one.workload == "known" for one in timed)
    ours = {size: _ours(one for one in timed if one.size == size) for size in sizes}
    for peer, way in dict.fromkeys((one.peer, one.way) for one in timed):
        row = {one.size: one for one in timed if (one.peer, one.way) == (peer, way)}
        yield [
            _WORKLOADS[timed[0].workload],
            _named(peer, versions),
            f"{way.name} *" if way.proxied else way.name,
            _cell(sizes, row, lambda one: _rounded(median(one.picks.values()))),
            _cell(sizes, row, lambda one: _rounded(median(one.ratios.values()))),
            _cell(sizes, row, lambda one: _relation(one, ours[one.size])),
            _cell(sizes, row, lambda one: f"{mean(one.back.values()):.0%}") if known else "",
            _cell(sizes, row, lambda one: f"{one.endpoints:,}") if known else "",
        ]


def _cell(sizes: Iterable[int], row: Mapping[int, Timed], tell: Callable[[Timed], str]) -> str:
    return " / ".join(tell(row[size]) if size in row and row[size].picks else "-" for size in sizes)


def _ours(timed: Iterable[Timed]) -> Timed | None:
    """Find the first of our ways that has figures."""
    return next((one for one in timed if one.peer == OURS and one.picks), None)


def _relation(one: Timed, ours: Timed | None) -> str:
    """Tell how many times as long as ours a pick takes, each in units of the baseline of its own interpreter."""
    if ours is None:
        return "-"
    return _rounded(median(ratio / ours.ratios[number] for number, ratio in one.ratios.items()))


def _failures(timed: Iterable[Timed]) -> Iterable[str]:
    seen: dict[tuple[str, str, str], list[int]] = {}
    for one in timed:
        if one.error:
            seen.setdefault((one.peer.name, one.way.name, one.error), []).append(one.size)
    for (peer, way, error), sizes in seen.items():
        yield f"{peer}, {way}, n={', '.join(f'{size:,}' for size in dict.fromkeys(sizes))}: not measured: {error}"


def memory_to_text(filled: Sequence[Filled], versions: Versions, size: int) -> str:
    """Make the table of memory."""
    lines = [["peer", "way", f"prompts, n={size:,}", "MiB more", "KiB a prompt", "bounded by"]]
    for one in filled:
        cells = [f"not measured: {one.error}", "", ""]
        if one.prompts:
            mib, kib = one.grown / 2**20, one.grown / 2**10 / one.prompts
            cells = [f"{one.prompts:,}", f"{mib:,.0f}", f"{kib:.2f}"]
        lines.append([_named(one.peer, versions), one.way.name, *cells, one.way.memory])
    return _table(lines)


def ways_to_text(peers: Iterable[Peer], versions: Versions) -> str:
    """Make the table of what a pick does and does not do."""
    lines = [["peer", "way", "looks at load", "looks at the prompt", "reserves", "memory bounded by"]]
    lines += [
        [_named(peer, versions), way.name, way.load, way.prefix, way.reserves, way.memory or "remembers nothing"]
        for peer in peers
        for way in peer.ways
    ]
    return _table(lines)


def _named(peer: Peer, versions: Versions) -> str:
    return f"{peer.name} {versions[peer.name]}" if peer.name in versions else peer.name


def _rounded(value: float) -> str:
    """Round to two digits after the point below 10, to none above 100."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _table(lines: Sequence[Sequence[str]]) -> str:
    # What is as wide as a sentence may stick out.
    widths = [max(len(line[column]) for line in lines if len(line[column]) < 60) for column in range(len(lines[0]))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    texts.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(texts)
