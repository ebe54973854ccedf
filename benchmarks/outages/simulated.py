"""
Outages in the simulator: ``python -m benchmarks.outages.simulated [FAULT...]`` prints the table of the docs.

One of eight servers is ill from second 10 to second 40, while it stays ready. Compared are the picker without
detection, with its own, and without its own behind a proxy with Envoy's, whose defaults eject nobody of so few hosts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from math import sqrt
from statistics import fmean, stdev
from typing import Final

import attrs

from inferencepool.lab.simulation import (
    FaultChanges,
    FleetChange,
    Gateway,
    SharedPrompts,
    SimulationOptions,
    SimulationResult,
    SpeedChanges,
    simulate,
)
from inferencepool.plugins import default_profile
from inferencepool.registry import OutlierDetection, Staleness

__all__ = ["FAULTS", "POLICIES", "EnvoyDetection", "play"]

ENDPOINTS: Final = 8
_FROM, _TO, _END = 10.0, 40.0, 60.0
_RATE, _SEEDS, _TIMEOUT = 40.0, 5, 10.0
# Answers take a second or two, so that whoever waits for ten waits in vain.
_WORKLOAD: Final = SharedPrompts(output_tokens=24)
_FIRST_FAILURE: Final = 500
_IN_A_ROW: Final = 5
# Student's t for five seeds, 95 %.
_T: Final = 2.776

FAULTS: Final = ("dead", "frozen", "stuck", "5 x slower", "500", "429", "404", "all 500")


@attrs.define(eq=False)
class EnvoyDetection:
    """
    Envoy's outlier detection, as far as requests one after the other show it: five failures in a row eject a host.

    After *base* seconds, times how often it was ejected, it gets all its requests again. No more than *percent* of the
    hosts are ejected (``always_eject_one_host`` is off by default). What is picked for an ejected host goes to the next
    one that is not. It hears nothing of servers that hold requests: clients give up before it would.

    Attributes:
        base: ``base_ejection_time``.
        percent: ``max_ejection_percent``.
    """

    base: float = 30.0
    percent: float = 10.0
    _hosts: list[str] = attrs.field(factory=list)
    _failures: dict[str, int] = attrs.field(factory=dict)
    _times: dict[str, int] = attrs.field(factory=dict)
    _until: dict[str, float] = attrs.field(factory=dict)
    _turn: int = 0

    def route(self, destination: str, now: float) -> str:
        """Go elsewhere where the destination is ejected."""
        if destination not in self._failures:
            self._failures[destination] = 0
            self._hosts.append(destination)
        if self._until.get(destination, 0.0) <= now:
            return destination
        well = [host for host in self._hosts if self._until.get(host, 0.0) <= now]
        self._turn += 1
        return well[self._turn % len(well)] if well else destination

    def heard(self, destination: str, now: float, status: int) -> None:
        """Count failures in a row, and eject; 4xx are the client's."""
        failed = not status or status >= _FIRST_FAILURE
        self._failures[destination] = self._failures.get(destination, 0) + 1 if failed else 0
        ejected = sum(until > now for until in self._until.values())
        if self._failures[destination] >= _IN_A_ROW and 100 * (ejected + 1) / ENDPOINTS <= self.percent:
            self._failures[destination] = 0
            self._times[destination] = self._times.get(destination, 0) + 1
            self._until[destination] = now + self.base * self._times[destination]


def _own(retries: int) -> tuple[OutlierDetection | None, Callable[[], Gateway | None], int]:
    return OutlierDetection(), lambda: None, retries


POLICIES: Final[dict[str, tuple[OutlierDetection | None, Callable[[], Gateway | None], int]]] = {
    "none": (None, lambda: None, 0),
    "Envoy's, by default": (None, EnvoyDetection, 0),
    "Envoy's, 30 s, 50 %": (None, lambda: EnvoyDetection(30.0, 50.0), 0),
    "Envoy's, 5 s, 50 %": (None, lambda: EnvoyDetection(5.0, 50.0), 0),
    "ours": _own(0),
    "none, 2 retries": (None, lambda: None, 2),
    "ours, 2 retries": _own(2),
}


def _changes(fault: str) -> list[FleetChange]:
    if fault == "5 x slower":
        return [SpeedChanges(_FROM, 0, 0.2), SpeedChanges(_TO, 0, 1.0)]
    ill = range(ENDPOINTS) if fault.startswith("all ") else range(1)
    kind = fault.removeprefix("all ")
    return [FaultChanges(at, number, what) for number in ill for at, what in ((_FROM, kind), (_TO, "none"))]


def play(fault: str, policy: str, seed: int) -> SimulationResult:
    """Simulate one outage."""
    detection, gateway, retries = POLICIES[policy]
    options = SimulationOptions(
        endpoints=ENDPOINTS,
        changes=_changes(fault),
        retries=retries,
        timeout=_TIMEOUT,
        staleness=Staleness(),
        outlier_detection=detection,
    )
    arrivals = _WORKLOAD.arrivals(rate=_RATE, duration=_END, seed=seed)
    return simulate(arrivals, default_profile, options, seed=seed, gateway=gateway())


def _measure(case: tuple[str, str, int]) -> tuple[float, float, float]:
    result = play(*case)
    during = _RATE * (_TO - _FROM)
    return (
        100 * sum(result.failed.values()) / during,
        1000 * result.time_to_first_token.percentile(99),
        100 * result.endpoints[0].picks / result.requests,
    )


def _told(values: Sequence[float]) -> str:
    half = _T * stdev(values) / sqrt(len(values))
    return f"{fmean(values):.1f} ± {half:.1f}"


def main(faults: Sequence[str]) -> None:
    """Print the table."""
    print("| fault | detection | failed, % of the requests meanwhile | TTFT p99 ms | picks of the ill one, % |")
    print("|---|---|--:|--:|--:|")
    with ProcessPoolExecutor(2) as pool:
        for fault in faults:
            for policy in POLICIES:
                runs = list(pool.map(_measure, [(fault, policy, seed) for seed in range(_SEEDS)]))
                failed, late, picks = zip(*runs, strict=True)
                print(f"| {fault} | {policy} | {_told(failed)} | {_told(late)} | {_told(picks)} |", flush=True)


if __name__ == "__main__":
    chosen = sys.argv[1:] or list(FAULTS)
    unknown = [each for each in chosen if each not in FAULTS]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    main(chosen)
