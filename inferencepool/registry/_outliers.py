"""Which endpoints are ejected: outcomes in, sets of slots out."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
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

# Endpoints that may be ejected for a model at a time, models of which it is known who serves them, and changes that
# wait to be told.
_MOST_FOR_MODELS: Final = 256
_MOST_MODELS: Final = 1024
_MOST_CHANGES: Final = 10_000
# Reasons of which no more than a share of the fleet may be ejected. The others are what an endpoint says itself.
_SHARED = frozenset(EjectionReason) - {EjectionReason.BUSY, EjectionReason.MODEL_NOT_FOUND}
_REFUSALS = frozenset({OutcomeKind.CLIENT_ERROR, OutcomeKind.MODEL_NOT_FOUND})

# A stalled endpoint is not probed while it holds requests, which do that; but after so many of the longest ejections.
_HELD: Final = 4

_Key = tuple[int, str]


@attrs.frozen
class View:
    """
    What a snapshot tells of ejections.

    Attributes:
        avoided: The endpoints that are ejected, by model; by the empty text those for all of them.
        failing: Those of them that failed, rather than said that they are busy, and those that would be ejected as well
            if so many might be.
        probing: Likewise by model, those whose ejection the next request is to probe.
        ejections: What is known of them, by slot, where it is for all models.
        until: When this changes if nothing happens; infinite if never.
    """

    avoided: Mapping[str, EndpointSet] = attrs.field(factory=dict)
    failing: EndpointSet = 0
    probing: Mapping[str, EndpointSet] = attrs.field(factory=dict)
    ejections: Mapping[int, Ejection] = attrs.field(factory=dict)
    until: float = inf


@final
class Outliers:
    """
    The endpoints that are ejected, and what may lead to that; by slot, and for some by model.

    An ejection begins when a rule says so, and lasts for a time that grows with every one in a row. Then the next
    request goes there (`probe`). It ends with the success of that request; where that fails, or nothing comes of it in
    time, it goes on for longer. Whatever comes back from a stalled endpoint ends that.

    Not thread-safe: the registry guards it with a lock of its own. Each outcome and probe costs O(1), `view` costs
    O(ejections), and `look` O(endpoints). Bounded by endpoints and `OutlierDetection`, never by requests.

    Attributes:
        changes: Ejections that began (True) or ended, which nobody was told of yet, oldest first.
        counts: How many ejections there were, by reason.
        looked_at: When it was looked last.
    """

    def __init__(self, rules: OutlierDetection, rng: Random) -> None:
        """Begin without any."""
        self.changes: deque[tuple[int, Ejection, bool]] = deque(maxlen=_MOST_CHANGES)
        self.counts: Counter[EjectionReason] = Counter()
        self._rules = rules
        self._rng = rng
        self._tallies: dict[int, Tally] = {}
        self._ejections: dict[_Key, Ejection] = {}
        self._for_models: dict[_Key, None] = {}
        self._probed: dict[_Key, float] = {}
        # Models that somebody served; how many times in a row an endpoint did not have one, and since which pick.
        self._served: dict[str, None] = {}
        self._missed: dict[_Key, tuple[int, float]] = {}
        # Those that may not all be ejected; and those that would be, if more might be.
        self._sharing: EndpointSet = 0
        self._denied: EndpointSet = 0
        # Those of which a success ends anything.
        self._marked: set[int] = set()
        self.looked_at = self._window_began = -inf
        # Seconds in which it was looked regularly: a clock that steps, or a pause, is no silence of anybody.
        self._watched = 0.0

    def __bool__(self) -> bool:
        """Whether anything was ever reported of endpoints that are there."""
        return bool(self._tallies)

    def succeed(self, slot: int, model: str) -> bool:
        """
        Count a success of a request for *model*; True if that is all, and `recover` need not be called.

        This alone may be called by several threads at once, for most requests end so. Then one of two counts may get
        lost, which makes no difference.
        """
        tally = self._tallies.get(slot)
        if tally is None:
            return False
        tally.heard += 1
        tally.answers += 1
        self._served[model] = None
        return slot not in self._marked

    def recover(self, slot: int, picked_at: float, model: str) -> bool:
        """End what a success, or its beginning, ends of what was picked at a time; True if that changes the `view`."""
        tally = self._tallies.get(slot) or self._begin(slot)
        tally.heard += 1
        changed = False
        # What was picked before failures began says how it was.
        if not tally.failures or picked_at >= tally.failing_since:
            tally.forgive()
            changed = self._allow(slot)
        if picked_at >= self._missed.get((slot, model), (0, inf))[1]:
            del self._missed[slot, model]
        for key in _keys(slot, model) if self._ejections else ():
            ejection = self._ejections.get(key)
            if ejection is None:
                continue
            # What was picked before the ejection's time was over says nothing new.
            if ejection.reason is EjectionReason.STALLED or picked_at >= self._probed.get(key, inf):
                self._end(key)
                changed = True
        if not (tally.failures or self._for_models or self._missed or (slot, "") in self._ejections):
            self._marked.discard(slot)
        return changed

    def fail(self, slot: int, outcome: Outcome, picked_at: float, model: str, now: float, members: EndpointSet) -> bool:
        """Count any other outcome; True if that changes the `view`. *members* are all endpoints."""
        tally = self._tallies.get(slot) or self._begin(slot)
        kind = outcome.kind
        # The earliest, for clocks may step back.
        tally.failing_since = min(tally.failing_since, picked_at) if tally.failures else picked_at
        tally.count(kind)
        self._marked.add(slot)
        changed = bool(self._ejections) and self._judge(slot, outcome, picked_at, model, now)
        if kind in (OutcomeKind.BUSY, OutcomeKind.UNAVAILABLE):
            changed |= self._eject((slot, ""), EjectionReason.BUSY, outcome, now)
        elif kind is OutcomeKind.MODEL_NOT_FOUND and model and model in self._served:
            changed |= self._miss((slot, model), outcome, picked_at, now)
        reason = tally.excess(self._rules)
        if reason is not None:
            changed |= self._eject_if_room(slot, reason, outcome, now, members)
        elif not tally.failures:
            changed |= self._allow(slot)
        return changed

    def probe(self, slot: int, model: str, now: float) -> bool:
        """Let a request for *model* probe *slot*; False if nothing is to be probed there, or another one does."""
        found = False
        for key in _keys(slot, model):
            ejection = self._ejections.get(key)
            if ejection is not None and now >= ejection.until:
                if key in self._probed:
                    # Nothing came of the last one yet. It counts when it does.
                    self._lengthen(slot)
                self._probed[key] = min(self._probed.get(key, now), now)
                self._ejections[key] = attrs.evolve(ejection, until=now + self._duration(slot))
                found = True
        return found

    def restart(self, slot: int, now: float) -> None:
        """Take note that the endpoint in *slot* began anew: it is to be probed at once."""
        tally = self._tallies.get(slot)
        if tally is not None:
            tally.forgive()
            tally.begin_window()
        self._allow(slot)
        for key in [key for key in self._ejections if key[0] == slot]:
            self._ejections[key] = attrs.evolve(self._ejections[key], until=now)
            self._probed.pop(key, None)

    def forget(self, slot: int) -> None:
        """Take note that *slot* will be another endpoint's."""
        self._allow(slot)
        for key in [key for key in self._ejections if key[0] == slot]:
            self._end(key)
        for key in [key for key in self._missed if key[0] == slot]:
            del self._missed[key]
        self._tallies.pop(slot, None)
        self._marked.discard(slot)

    def is_due(self, now: float) -> bool:
        """Whether it is time to `look`."""
        # A clock that stepped back must not keep it waiting.
        return not 0 <= now - self.looked_at < TICK and bool(self._tallies)

    def look(
        self, now: float, members: EndpointSet, awaited: Sequence[int], metrics: Sequence[EndpointMetrics]
    ) -> None:
        """Compare the endpoints with each other; *awaited* are the requests that nothing came back for, by slot."""
        if len(self._served) > _MOST_MODELS:
            self._served.clear()
        self._watched += min(max(now - self.looked_at, 0.0), 2 * TICK)
        self.looked_at = now
        for slot in to_slots(members):
            if awaited[slot] and slot not in self._tallies:
                self._begin(slot)
        tallies = [(slot, tally) for slot, tally in self._tallies.items() if members >> slot & 1]
        for slot, detail in list(silent(tallies, awaited, metrics, self._rules, self._watched)):
            self._eject_if_room(slot, EjectionReason.STALLED, Outcome(detail=detail), now, members)
        self._postpone(now, awaited)
        for slot, detail in list(many_refused(tallies, self._rules)):
            self._eject_if_room(slot, EjectionReason.CLIENT_ERRORS, Outcome(detail=detail), now, members)
        if not 0 <= now - self._window_began < self._rules.interval:
            self._window_began = now
            for slot, detail in list(few_succeed(tallies, self._rules)):
                self._eject_if_room(slot, EjectionReason.SUCCESS_RATE, Outcome(detail=detail), now, members)
            for slot, tally in self._tallies.items():
                tally.begin_window()
                if tally.ejections and (slot, "") not in self._ejections:
                    tally.ejections -= 1

    def view(self, now: float, members: EndpointSet) -> View:
        """Tell what a snapshot of *members* is to tell, in O(ejections)."""
        self._keep_share(members)
        failing = (self._sharing | self._denied) & members
        if not self._ejections:
            return View(failing=failing)
        self._cut_short(now)
        avoided: dict[str, EndpointSet] = {}
        probing: dict[str, EndpointSet] = {}
        ejections: dict[int, Ejection] = {}
        until = inf
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
        if not members & ~failing:
            # All fail, or would be ejected: it is not they who are ill.
            avoided.pop("", None)
        return View(avoided, failing, probing, ejections, until)

    def listed(self, members: EndpointSet) -> Iterator[tuple[int, Ejection]]:
        """List all ejections of *members*."""
        return ((key[0], ejection) for key, ejection in self._ejections.items() if members >> key[0] & 1)

    def _begin(self, slot: int) -> Tally:
        tally = self._tallies[slot] = Tally()
        return tally

    def _allow(self, slot: int) -> bool:
        """Take note that *slot* does not fail all the time; True if it would have been ejected for that."""
        was_denied = bool(self._denied >> slot & 1)
        if was_denied:
            self._denied ^= 1 << slot
        return was_denied

    def _judge(self, slot: int, outcome: Outcome, picked_at: float, model: str, now: float) -> bool:
        """Let an outcome that is no success end or lengthen what it concerns; True if it does."""
        changed = False
        for key in _keys(slot, model):
            ejection = self._ejections.get(key)
            if ejection is None:
                continue
            if ejection.reason is EjectionReason.STALLED and outcome.kind is not OutcomeKind.GATEWAY_FAILURE:
                self._end(key)
                changed = True
            elif picked_at >= self._probed.get(key, inf):
                changed = True
                if _is_cured(ejection.reason, outcome.kind):
                    self._end(key)
                else:
                    self._lengthen(slot)
                    del self._probed[key]
                    until = now + max(self._duration(slot), self._wait_of(outcome))
                    self._ejections[key] = attrs.evolve(ejection, until=until, detail=outcome.detail)
        return changed

    def _miss(self, key: _Key, outcome: Outcome, picked_at: float, now: float) -> bool:
        """Count that an endpoint does not have a model that was served before; True if that ejects it."""
        missed, since = self._missed.pop(key, (0, picked_at))
        if 0 < self._rules.consecutive_model_not_found <= missed + 1:
            return self._eject(key, EjectionReason.MODEL_NOT_FOUND, outcome, now)
        self._missed[key] = missed + 1, min(since, picked_at)
        if len(self._missed) > _MOST_MODELS:
            del self._missed[next(iter(self._missed))]
        return False

    def _eject(self, key: _Key, reason: EjectionReason, outcome: Outcome, now: float) -> bool:
        """Begin an ejection, or let one that says the same last as long as the endpoint wants; True if it began."""
        slot, model = key
        before = self._ejections.get(key)
        wait = self._wait_of(outcome)
        if before is not None:
            if before.reason in _SHARED or reason not in _SHARED:
                if wait and now + wait > before.until and key not in self._probed:
                    self._ejections[key] = attrs.evolve(before, until=now + wait)
                return False
            # It is worse than it said.
            self._end(key)
        if model:
            if len(self._for_models) >= _MOST_FOR_MODELS:
                self._end(next(iter(self._for_models)))
            self._for_models[key] = None
        self._lengthen(slot)
        until = now + max(self._duration(slot), wait)
        self._ejections[key] = ejection = Ejection(reason, now, until, outcome.detail, model)
        if reason in _SHARED:
            self._sharing |= 1 << slot
        self.counts[reason] += 1
        self.changes.append((slot, ejection, True))
        return True

    def _eject_if_room(
        self, slot: int, reason: EjectionReason, outcome: Outcome, now: float, members: EndpointSet
    ) -> bool:
        """Begin an ejection unless too many are ejected; True if that changes the `view`."""
        self._marked.add(slot)
        sharing = self._sharing & members & ~(1 << slot)
        if sharing.bit_count() < self._most(members):
            self._tallies[slot].forgive()
            return self._eject((slot, ""), reason, outcome, now) | self._allow(slot)
        changed = not self._denied >> slot & 1
        self._denied |= 1 << slot
        return changed

    def _postpone(self, now: float, awaited: Sequence[int]) -> None:
        """Let those requests probe stalled endpoints that they hold, as long as that may be."""
        longest = _HELD * self._rules.max_ejection_time
        for slot in to_slots(self._sharing):
            ejection = self._ejections[slot, ""]
            if ejection.reason is EjectionReason.STALLED and awaited[slot] and now < ejection.since + longest:
                self._ejections[slot, ""] = attrs.evolve(ejection, until=max(ejection.until, now + 2 * TICK))

    def _end(self, key: _Key) -> None:
        """End an ejection. What was counted of an endpoint while it was ill counts no more."""
        ejection = self._ejections.pop(key)
        self._probed.pop(key, None)
        slot, model = key
        if model:
            del self._for_models[key]
        else:
            self._sharing &= ~(1 << slot)
            self._tallies[slot].begin_window()
        self.changes.append((slot, ejection, False))

    def _most(self, members: EndpointSet) -> int:
        return max(1, int(members.bit_count() * self._rules.max_ejection_percent // 100))

    def _keep_share(self, members: EndpointSet) -> None:
        """End ejections that are too many because others went: those first that would be probed first."""
        sharing = self._sharing & members
        excess = sharing.bit_count() - self._most(members) if sharing else 0
        if excess > 0:
            keys = sorted(((slot, "") for slot in to_slots(sharing)), key=lambda key: self._ejections[key].until)
            for key in keys[:excess]:
                self._end(key)

    def _cut_short(self, now: float) -> None:
        """Let no ejection last longer than any may, because the clock stepped back."""
        rules = self._rules
        most = max(self._longest() + rules.max_ejection_time_jitter, rules.max_busy_time, 2 * TICK)
        for key in [key for key, ejection in self._ejections.items() if ejection.until - now > most]:
            until = now + self._duration(key[0])
            self._ejections[key] = attrs.evolve(self._ejections[key], since=now, until=until)

    def _lengthen(self, slot: int) -> None:
        tally = self._tallies[slot]
        # Beyond that it makes no difference, and would take as many windows to shrink.
        longest = self._rules.max_ejection_time / self._rules.base_ejection_time + 1
        tally.ejections = min(tally.ejections + 1, int(longest))

    def _longest(self) -> float:
        return max(self._rules.base_ejection_time, self._rules.max_ejection_time)

    def _duration(self, slot: int) -> float:
        rules, tally = self._rules, self._tallies[slot]
        lasting = min(rules.base_ejection_time * max(tally.ejections, 1), self._longest())
        return lasting + self._rng.random() * rules.max_ejection_time_jitter

    def _wait_of(self, outcome: Outcome) -> float:
        return min(outcome.retry_after or 0.0, self._rules.max_busy_time)


def _keys(slot: int, model: str) -> tuple[_Key, ...]:
    """List what may be ejected of an endpoint that concerns a request for *model*."""
    return ((slot, ""), (slot, model)) if model else ((slot, ""),)


def _is_cured(reason: EjectionReason, kind: OutcomeKind) -> bool:
    """Tell whether an endpoint that is ejected for a reason is well where a probe ends in a 4xx."""
    return kind in _REFUSALS and reason not in (EjectionReason.CLIENT_ERRORS, EjectionReason.MODEL_NOT_FOUND)
