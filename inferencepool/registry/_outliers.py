"""Which endpoints are ejected: outcomes in, sets of slots out."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from random import Random
from typing import Final, final

import attrs

from inferencepool.model import (
    Ejection,
    EjectionReason,
    EndpointMetrics,
    EndpointSet,
    Outcome,
    OutcomeKind,
    to_slots,
)
from inferencepool.registry._outlier_detection import OutlierDetection
from inferencepool.registry._tallies import Tally, few_succeed, many_refused, silent

__all__ = ["TICK", "Outliers", "View"]

TICK: Final = 1.0
"""Seconds between two looks at what came back."""

# Models for which endpoints may be ejected at a time, and changes that wait to be told.
_MOST_MODELS: Final = 256
_MOST_CHANGES: Final = 10_000
# Reasons of which no more than a share of the fleet may be ejected. The others are what an endpoint says itself.
_SHARED = frozenset(
    {
        EjectionReason.CONSECUTIVE_GATEWAY_FAILURE,
        EjectionReason.CONSECUTIVE_5XX,
        EjectionReason.SUCCESS_RATE,
        EjectionReason.STALLED,
    }
)
_REFUSALS = frozenset({OutcomeKind.CLIENT_ERROR, OutcomeKind.MODEL_NOT_FOUND})

# Seconds until all who pick know of an ejection.
_SETTLING: Final = 0.25
# A stalled endpoint is not probed while it holds requests, which do that; but after so many of the longest ejections.
_HELD: Final = 4

_Key = tuple[int, str]


@attrs.frozen
class View:
    """
    What a snapshot tells of ejections.

    Attributes:
        avoided: The endpoints that are ejected, by model; by the empty text those for all of them.
        probing: Likewise, those whose ejection the next request is to probe.
        ejections: What is known of them, by slot, where it is for all models.
        until: When this changes if nothing happens; infinite if never.
    """

    avoided: Mapping[str, EndpointSet] = attrs.field(factory=dict)
    probing: Mapping[str, EndpointSet] = attrs.field(factory=dict)
    ejections: Mapping[int, Ejection] = attrs.field(factory=dict)
    until: float = inf


@final
class Outliers:
    """
    The endpoints that are ejected, and what may lead to that; by slot, and for some by model.

    An ejection begins when a rule says so, and lasts for a time that grows with every one in a row. Then the next
    request goes there (`probe`). It ends with the first success of a request that was picked after it began; where the
    probe fails, or nothing comes of it in time, it goes on for longer.

    Not thread-safe: the registry guards it with a lock of its own. Each outcome costs O(1), or O(ejections) where it
    ejects; `look` and `view` cost O(endpoints). Bounded by endpoints and `OutlierDetection`, never by requests.

    Attributes:
        changes: Ejections that began (True) or ended, which nobody was told of yet, oldest first.
        counts: How many ejections there were, by reason.
    """

    def __init__(self, rules: OutlierDetection, rng: Random) -> None:
        """Begin without any."""
        self.changes: deque[tuple[int, Ejection, bool]] = deque(maxlen=_MOST_CHANGES)
        self.counts: Counter[EjectionReason] = Counter()
        self._rules = rules
        self._rng = rng
        self._tallies: dict[int, Tally] = {}
        self._ejections: dict[_Key, Ejection] = {}
        self._probed: dict[_Key, float] = {}
        self._sharing: EndpointSet = 0
        self._looked_at = self._window_began = -inf

    def __bool__(self) -> bool:
        """Whether anything was ever reported of endpoints that are there."""
        return bool(self._tallies)

    def succeed(self, slot: int, picked_at: float, model: str) -> bool:
        """Count a success of a request for *model* that was picked at a time; True if that ends an ejection."""
        tally = self._tallies.get(slot) or self._begin(slot)
        tally.heard += 1
        tally.answers += 1
        if tally.failures and picked_at >= tally.failing_since:
            tally.forgive()
        return bool(self._ejections) and self._recover(slot, picked_at, model)

    def hear(self, slot: int, picked_at: float, model: str) -> bool:
        """Count that an answer begins well; True if that ends an ejection."""
        tally = self._tallies.get(slot) or self._begin(slot)
        tally.heard += 1
        if tally.failures and picked_at >= tally.failing_since:
            tally.forgive()
        return bool(self._ejections) and self._recover(slot, picked_at, model)

    def fail(self, slot: int, outcome: Outcome, picked_at: float, model: str, now: float, members: EndpointSet) -> bool:
        """Count any other outcome; True if that ejects, or ends an ejection. *members* are all endpoints."""
        tally = self._tallies.get(slot) or self._begin(slot)
        kind = outcome.kind
        # The earliest, for clocks may step back.
        tally.failing_since = min(tally.failing_since, picked_at) if tally.failures else picked_at
        tally.count(kind)
        changed = bool(self._ejections) and self._judge(slot, outcome, picked_at, model, now)
        if kind in (OutcomeKind.BUSY, OutcomeKind.UNAVAILABLE):
            changed |= self._eject((slot, ""), EjectionReason.BUSY, outcome, now)
        elif kind is OutcomeKind.MODEL_NOT_FOUND and model:
            changed |= self._eject((slot, model), EjectionReason.MODEL_NOT_FOUND, outcome, now)
        reason = tally.excess(self._rules)
        if reason is not None and self._has_room(slot, members):
            changed |= self._eject((slot, ""), reason, outcome, now)
            tally.forgive()
        return changed

    def probe(self, slot: int, model: str, now: float) -> bool:
        """Take note that a request for *model* goes to *slot*, and so probes it; True if it was to be probed."""
        found = False
        for key in {(slot, ""), (slot, model)}:
            ejection = self._ejections.get(key)
            if ejection is not None and now >= ejection.until:
                # Nothing came of the last one.
                if key in self._probed:
                    self._lengthen(slot)
                self._probed[key] = now
                self._ejections[key] = attrs.evolve(ejection, until=now + self._duration(slot))
                found = True
        return found

    def restart(self, slot: int, now: float) -> None:
        """Take note that the endpoint in *slot* began anew: it is to be probed at once."""
        for key in [key for key in self._ejections if key[0] == slot]:
            self._ejections[key] = attrs.evolve(self._ejections[key], until=now)
            self._probed.pop(key, None)

    def forget(self, slot: int) -> None:
        """Take note that *slot* will be another endpoint's."""
        self._tallies.pop(slot, None)
        for key in [key for key in self._ejections if key[0] == slot]:
            self._end(key)

    def look(
        self, now: float, members: EndpointSet, awaited: Callable[[int], int], metrics: Sequence[EndpointMetrics]
    ) -> None:
        """Compare the endpoints with each other, if the last time is a second ago, in O(endpoints)."""
        if 0 <= now - self._looked_at < TICK:
            return
        self._looked_at = now
        for slot in to_slots(members):
            if awaited(slot) and slot not in self._tallies:
                self._begin(slot)
        tallies = [(slot, tally) for slot, tally in self._tallies.items() if members >> slot & 1]
        for slot, detail in list(silent(tallies, awaited, metrics, self._rules, now)):
            self._eject_if_room(slot, EjectionReason.STALLED, detail, now, members)
        self._postpone(now, awaited)
        for slot, detail in list(many_refused(tallies, self._rules)):
            self._eject((slot, ""), EjectionReason.CLIENT_ERRORS, Outcome(detail=detail), now)
        if not 0 <= now - self._window_began < self._rules.interval:
            self._window_began = now
            for slot, detail in list(few_succeed(tallies, self._rules)):
                self._eject_if_room(slot, EjectionReason.SUCCESS_RATE, detail, now, members)
            for slot, tally in self._tallies.items():
                tally.begin_window()
                if tally.ejections and (slot, "") not in self._ejections:
                    tally.ejections -= 1

    def view(self, now: float, members: EndpointSet) -> View:
        """Tell what a snapshot of *members* is to tell, in O(ejections)."""
        self._keep_share(members)
        avoided: dict[str, EndpointSet] = {}
        probing: dict[str, EndpointSet] = {}
        ejections = {}
        until = self._looked_at + TICK if self._tallies else inf
        for (slot, model), ejection in self._ejections.items():
            if not members >> slot & 1:
                continue
            if not model:
                ejections[slot] = ejection
            if now >= ejection.until:
                probing[model] = probing.get(model, 0) | 1 << slot
            else:
                until = min(until, ejection.until)
                avoided[model] = avoided.get(model, 0) | 1 << slot
        return View(avoided, probing, ejections, until)

    def listed(self, members: EndpointSet) -> Iterator[tuple[int, Ejection]]:
        """List all ejections of *members*."""
        return ((key[0], ejection) for key, ejection in self._ejections.items() if members >> key[0] & 1)

    # ------------------------------------------------------------------------------------------------------------------

    def _begin(self, slot: int) -> Tally:
        tally = self._tallies[slot] = Tally()
        return tally

    def _recover(self, slot: int, picked_at: float, model: str) -> bool:
        """End what a success ends."""
        ended = False
        for key in ((slot, ""), (slot, model)):
            ejection = self._ejections.get(key)
            if ejection is None:
                continue
            # One that was picked while the ejection was not known yet says nothing new.
            after = self._probed.get(key, ejection.since + _SETTLING)
            if picked_at >= after or ejection.reason is EjectionReason.STALLED:
                self._end(key)
                ended = True
        return ended

    def _judge(self, slot: int, outcome: Outcome, picked_at: float, model: str, now: float) -> bool:
        """Let an outcome that is no success end or lengthen what it concerns."""
        changed = False
        for key in ((slot, ""), (slot, model)):
            ejection = self._ejections.get(key)
            if ejection is None or key != (slot, ejection.model):
                continue
            probed_at = self._probed.get(key)
            if ejection.reason is EjectionReason.STALLED:
                self._end(key)
                changed = True
            elif probed_at is not None and picked_at >= probed_at:
                changed = True
                if _is_cured(ejection.reason, outcome.kind):
                    self._end(key)
                else:
                    self._lengthen(slot)
                    self._probed.pop(key)
                    until = now + max(self._duration(slot), self._wait_of(outcome))
                    self._ejections[key] = attrs.evolve(ejection, until=until, detail=outcome.detail)
        return changed

    def _eject(self, key: _Key, reason: EjectionReason, outcome: Outcome, now: float) -> bool:
        """Begin an ejection, or let one that says the same last as long as the endpoint wants; True if it began."""
        slot, model = key
        before = self._ejections.get(key)
        wait = self._wait_of(outcome)
        if before is not None:
            is_worse = before.reason not in _SHARED and reason in _SHARED
            if not is_worse:
                if now + wait > before.until and key not in self._probed:
                    self._ejections[key] = attrs.evolve(before, until=now + wait)
                return False
        elif model and sum(1 for each in self._ejections if each[1]) >= _MOST_MODELS:
            self._end(next(each for each in self._ejections if each[1]))
        self._lengthen(slot)
        until = now + max(self._duration(slot), wait)
        self._ejections[key] = ejection = Ejection(reason, now, until, outcome.detail, model)
        self._probed.pop(key, None)
        if reason in _SHARED:
            self._sharing |= 1 << slot
        self.counts[reason] += 1
        self.changes.append((slot, ejection, True))
        return True

    def _eject_if_room(self, slot: int, reason: EjectionReason, detail: str, now: float, members: EndpointSet) -> None:
        if self._has_room(slot, members):
            self._eject((slot, ""), reason, Outcome(detail=detail), now)

    def _postpone(self, now: float, awaited: Callable[[int], int]) -> None:
        """Let those requests probe stalled endpoints that they hold, as long as that may be."""
        longest = _HELD * self._rules.max_ejection_time
        for slot in to_slots(self._sharing):
            ejection = self._ejections[slot, ""]
            if ejection.reason is EjectionReason.STALLED and awaited(slot) and now < ejection.since + longest:
                self._ejections[slot, ""] = attrs.evolve(ejection, until=max(ejection.until, now + 2 * TICK))

    def _end(self, key: _Key) -> None:
        ejection = self._ejections.pop(key)
        self._probed.pop(key, None)
        if not ejection.model:
            self._sharing &= ~(1 << key[0])
        self.changes.append((key[0], ejection, False))

    def _most(self, members: EndpointSet) -> int:
        return max(1, int(members.bit_count() * self._rules.max_ejection_percent // 100))

    def _has_room(self, slot: int, members: EndpointSet) -> bool:
        sharing = self._sharing & members
        return bool(sharing >> slot & 1) or sharing.bit_count() < self._most(members)

    def _keep_share(self, members: EndpointSet) -> None:
        """End ejections that are too many because others went: those first that would be probed first."""
        sharing = self._sharing & members
        excess = sharing.bit_count() - self._most(members)
        if excess > 0:
            keys = sorted(((slot, "") for slot in to_slots(sharing)), key=lambda key: self._ejections[key].until)
            for key in keys[:excess]:
                self._end(key)

    def _lengthen(self, slot: int) -> None:
        tally = self._tallies.get(slot) or self._begin(slot)
        # Beyond that it makes no difference, and would take as many windows to shrink.
        longest = self._rules.max_ejection_time / self._rules.base_ejection_time + 1
        tally.ejections = min(tally.ejections + 1, int(longest))

    def _duration(self, slot: int) -> float:
        rules, tally = self._rules, self._tallies[slot]
        longest = max(rules.base_ejection_time, rules.max_ejection_time)
        return (
            min(rules.base_ejection_time * max(tally.ejections, 1), longest)
            + self._rng.random() * rules.max_ejection_time_jitter
        )

    def _wait_of(self, outcome: Outcome) -> float:
        return min(outcome.retry_after or 0.0, self._rules.max_busy_time)


def _is_cured(reason: EjectionReason, kind: OutcomeKind) -> bool:
    """Tell whether an endpoint that is ejected for a reason is well where a probe ends in a 4xx."""
    return kind in _REFUSALS and reason not in (EjectionReason.CLIENT_ERRORS, EjectionReason.MODEL_NOT_FOUND)
