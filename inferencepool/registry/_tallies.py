"""What came back from each endpoint lately, and which of them differ from the others by it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import fsum, inf, sqrt
from statistics import median

import attrs

from inferencepool.model import EjectionReason, EndpointMetrics, OutcomeKind
from inferencepool.registry._outlier_detection import OutlierDetection

__all__ = ["Tally", "few_succeed", "many_refused", "silent"]

_GATEWAY = (OutcomeKind.GATEWAY_FAILURE, OutcomeKind.UNAVAILABLE)
_UNKNOWN = EndpointMetrics()
# How far a success rate is below the mean at least where it ejects.
_LEAST_DIFFERENCE = 0.05


@attrs.define(eq=False, weakref_slot=False)
class Tally:
    """
    What came back from one endpoint. Whoever owns it guards it.

    Attributes:
        gateway_failures: Gateway failures since the last answer that was none.
        failures: Failures of any kind since the last answer that was none. Answers to requests from before the first
            of them are not asked: they say how it was.
        failing_since: When the first of the requests was picked that failed so.
        ejections: By how much the next ejection is longer than the first.
        answers: Outcomes in this window.
        failed: Those of them that were failures.
        refused: Those of them that were 4xx.
        heard: Whether anything came back of the endpoint itself since the last look.
        heard_at: When the last look was before which something had.
        is_marked: Whether a success ends anything.
        metrics: Metrics at the last look.
        silent_since: Since when it holds requests and nothing came back; None while it holds none.
        longest: The longest of its silences lately that ended.
    """

    gateway_failures: int = 0
    failures: int = 0
    failing_since: float = 0.0
    ejections: int = 0
    answers: int = 0
    failed: int = 0
    refused: int = 0
    heard: bool = False
    heard_at: float = -inf
    is_marked: bool = False
    metrics: EndpointMetrics = _UNKNOWN
    silent_since: float | None = None
    longest: float = 0.0

    def count(self, kind: OutcomeKind) -> None:
        """Count an outcome; for those that are no `OutcomeKind.SUCCESS`."""
        # A connection that fails, or a client's patience, is no sign of life.
        self.heard |= kind is not OutcomeKind.GATEWAY_FAILURE
        self.is_marked = True
        self.answers += 1
        if kind in _GATEWAY:
            self.gateway_failures += 1
            self.failures += 1
            self.failed += 1
        elif kind is OutcomeKind.SERVER_ERROR:
            self.gateway_failures = 0
            self.failures += 1
            self.failed += 1
        else:
            self.gateway_failures = self.failures = 0
            self.refused += kind is not OutcomeKind.BUSY

    def excess(self, rules: OutlierDetection) -> EjectionReason | None:
        """Tell whether there were too many failures in a row."""
        if 0 < rules.consecutive_gateway_failure <= self.gateway_failures:
            return EjectionReason.CONSECUTIVE_GATEWAY_FAILURE
        if 0 < rules.consecutive_5xx <= self.failures:
            return EjectionReason.CONSECUTIVE_5XX
        return None

    def forgive(self) -> None:
        """Begin to count failures in a row anew."""
        self.gateway_failures = self.failures = 0

    def begin_window(self) -> None:
        """Begin to count a window's answers anew."""
        self.answers = self.failed = self.refused = 0

    def look(self, now: float, awaited: int, metrics: EndpointMetrics) -> float:
        """Tell for how many seconds it gives nothing back, of *awaited* requests that have got no answer."""
        moved = metrics is not self.metrics and _is_work_done(self.metrics, metrics)
        self.metrics = metrics
        if self.heard:
            self.heard, self.heard_at, moved = False, now, True
        silence = now - self.silent_since if self.silent_since is not None else 0.0
        if moved:
            # Half of what it was, so that a time that was long once is forgotten.
            self.longest = max(self.longest / 2, silence)
        if moved or not awaited or self.silent_since is None:
            self.silent_since = now if awaited else None
            return 0.0
        return silence


def _is_work_done(before: EndpointMetrics, after: EndpointMetrics) -> bool:
    """Tell whether metrics show that the engine did something; that requests came and wait is none of its doing."""
    return (
        after.waiting_queue_size < before.waiting_queue_size
        or (after.running_requests, after.kv_cache_usage) != (before.running_requests, before.kv_cache_usage)
        or after.active_models != before.active_models
    )


def few_succeed(tallies: Iterable[tuple[int, Tally]], rules: OutlierDetection) -> Iterator[tuple[int, str]]:
    """
    Give the slots where far fewer requests succeeded than elsewhere, and how many did.

    As Envoy does it: of the endpoints with enough requests in a window, those whose rate is below the mean by so many
    standard deviations; and by some percent, so that a single failure where there are no others is none.
    """
    enough = max(rules.success_rate_request_volume, 1)
    rates = [(slot, 1 - tally.failed / tally.answers) for slot, tally in tallies if tally.answers >= enough]
    if len(rates) < rules.success_rate_minimum_hosts:
        return
    mean = fsum(rate for _, rate in rates) / len(rates)
    deviation = sqrt(fsum((rate - mean) ** 2 for _, rate in rates) / len(rates))
    threshold = mean - rules.success_rate_stdev_factor * deviation
    for slot, rate in rates:
        if rate < threshold and mean - rate >= _LEAST_DIFFERENCE:
            yield slot, f"{rate:.0%} of requests succeeded, {mean:.0%} elsewhere"


def many_refused(tallies: Sequence[tuple[int, Tally]], rules: OutlierDetection) -> Iterator[tuple[int, str]]:
    """Give the slots that call far more requests wrong than all others together do, and how many."""
    answers = sum(tally.answers for _, tally in tallies)
    refused = sum(tally.refused for _, tally in tallies)
    for slot, tally in tallies:
        rest = answers - tally.answers
        if tally.answers < rules.client_error_volume or rest < rules.client_error_volume:
            continue
        share, others = tally.refused / tally.answers, (refused - tally.refused) / rest
        if share - others >= rules.client_error_share and share > others:
            yield slot, f"{share:.0%} of answers are 4xx, {others:.0%} elsewhere"


def silent(
    tallies: Sequence[tuple[int, Tally]],
    awaited: Sequence[int],
    metrics: Sequence[EndpointMetrics],
    rules: OutlierDetection,
    now: float,
) -> Iterator[tuple[int, str]]:
    """
    Look at all endpoints, and give the slots that hold requests and are silent for longer than others are.

    Only those others count that something came back from lately; where there are none, none is given.
    """
    silences = [(slot, tally.look(now, awaited[slot], metrics[slot])) for slot, tally in tallies]
    long = {slot: silence for slot, silence in silences if silence >= rules.stalled_floor}
    if not long:
        return
    lately = now - rules.stalled_floor / 2
    others = [tally.longest for slot, tally in tallies if slot not in long and tally.heard_at > lately]
    if not others:
        return
    least = rules.stalled_factor * median(others)
    for slot, silence in long.items():
        if silence >= least:
            yield slot, f"nothing came back for {silence:.0f} s"
