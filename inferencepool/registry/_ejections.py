"""The ejections of a fleet: how long they last, who probes, and how many there may be."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from math import inf, nextafter
from random import Random
from typing import Final, final

import attrs

from inferencepool.model import Ejection, EjectionReason, EndpointSet, Outcome, OutcomeKind, to_slots
from inferencepool.registry._outlier_detection import OutlierDetection
from inferencepool.registry._tallies import Tally

__all__ = ["TICK", "Ejections", "View"]

TICK: Final = 1.0
"""Seconds between two looks at what came back."""

# Endpoints that may be ejected for a model at a time, and changes that wait to be told.
_MOST_FOR_MODELS: Final = 256
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
class Ejections:
    """
    Who is ejected, by slot and for some by model, and who probes them.

    An ejection lasts for a time that grows with every one in a row. Then the next request goes there (`probe`). It ends
    with the success of that request; where that fails, or nothing comes of it in time, it goes on for longer. Whatever
    comes back from a stalled endpoint ends that.

    Not thread-safe: whoever owns it guards it. Whatever concerns one endpoint costs O(1), the rest O(ejections).

    Attributes:
        changes: Ejections that began (True) or ended, which nobody was told of yet, oldest first.
        counts: How many ejections there were, by reason.
        sharing: The endpoints of which only a share may be ejected at a time.
    """

    def __init__(self, rules: OutlierDetection, rng: Random, tallies: Mapping[int, Tally]) -> None:
        """Begin without any. *tallies* are those of all endpoints that may be ejected."""
        self.changes: deque[tuple[int, Ejection, bool]] = deque(maxlen=_MOST_CHANGES)
        self.counts: Counter[EjectionReason] = Counter()
        self.sharing: EndpointSet = 0
        self._rules = rules
        self._rng = rng
        self._tallies = tallies
        self._ejections: dict[_Key, Ejection] = {}
        self._for_models: dict[_Key, None] = {}
        self._probed: dict[_Key, float] = {}

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._ejections)

    def concerns(self, slot: int) -> bool:
        """Whether *slot* may be ejected, for all models or for one."""
        return bool(self._for_models) or (slot, "") in self._ejections

    def is_for_all(self, slot: int) -> bool:
        """Whether *slot* is ejected for all models."""
        return (slot, "") in self._ejections

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

    def recover(self, slot: int, picked_at: float, model: str) -> bool:
        """End what the success of a request ends that was picked at a time; True if it ends any."""
        ended = False
        for key in _keys(slot, model):
            ejection = self._ejections.get(key)
            # What was picked before the ejection's time was over says nothing new.
            if ejection is not None and (
                ejection.reason is EjectionReason.STALLED or picked_at >= self._probed.get(key, inf)
            ):
                self._end(key)
                ended = True
        return ended

    def judge(self, slot: int, outcome: Outcome, picked_at: float, model: str, now: float) -> bool:
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

    def eject(self, slot: int, reason: EjectionReason, outcome: Outcome, now: float, model: str = "") -> bool:
        """Begin an ejection, or let one that says the same last as long as the endpoint wants; True if it began."""
        key = slot, model
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
            self.sharing |= 1 << slot
        self.counts[reason] += 1
        self.changes.append((slot, ejection, True))
        return True

    def has_room(self, slot: int, members: EndpointSet) -> bool:
        """Whether *slot* may be ejected for a reason for which only a share of *members* may be."""
        return (self.sharing & members & ~(1 << slot)).bit_count() < self._most(members)

    def restart(self, slot: int, now: float) -> None:
        """Take note that the endpoint in *slot* began anew: it is to be probed at once."""
        for key in self._of(slot):
            self._ejections[key] = attrs.evolve(self._ejections[key], until=now)
            self._probed.pop(key, None)

    def forget(self, slot: int) -> None:
        """End all ejections of *slot*."""
        for key in self._of(slot):
            self._end(key)

    def _of(self, slot: int) -> list[_Key]:
        return [key for key in self._ejections if key[0] == slot]

    def postpone(self, now: float, awaited: Sequence[int]) -> None:
        """Let those requests probe stalled endpoints that they hold, as long as that may be."""
        longest = _HELD * self._rules.max_ejection_time
        for slot in to_slots(self.sharing):
            ejection = self._ejections[slot, ""]
            if ejection.reason is EjectionReason.STALLED and awaited[slot] and now < ejection.since + longest:
                self._ejections[slot, ""] = attrs.evolve(ejection, until=max(ejection.until, now + 2 * TICK))

    def view(self, now: float, members: EndpointSet, denied: EndpointSet) -> View:
        """Tell what a snapshot of *members* is to tell; *denied* are those that fail and are not ejected."""
        self._keep_share(members)
        failing = (self.sharing | denied) & members
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
                # At that moment it changes already, while a snapshot is published anew after its time.
                until = min(until, nextafter(ejection.until, -inf))
                avoided[model] = avoided.get(model, 0) | 1 << slot
        if not members & ~failing:
            # All fail, or would be ejected: it is not they who are ill.
            avoided.pop("", None)
        return View(avoided, failing, probing, ejections, until)

    def listed(self, members: EndpointSet) -> Iterator[tuple[int, Ejection]]:
        """List all ejections of *members*."""
        return ((key[0], ejection) for key, ejection in self._ejections.items() if members >> key[0] & 1)

    # ------------------------------------------------------------------------------------------------------------------

    def _end(self, key: _Key) -> None:
        """End an ejection. What was counted of an endpoint while it was ill counts no more."""
        ejection = self._ejections.pop(key)
        self._probed.pop(key, None)
        slot, model = key
        if model:
            del self._for_models[key]
        else:
            self.sharing &= ~(1 << slot)
            self._tallies[slot].begin_window()
        self.changes.append((slot, ejection, False))

    def _most(self, members: EndpointSet) -> int:
        return max(1, int(members.bit_count() * self._rules.max_ejection_percent // 100))

    def _keep_share(self, members: EndpointSet) -> None:
        """End ejections that are too many because others went: those first that would be probed first."""
        sharing = self.sharing & members
        excess = sharing.bit_count() - self._most(members) if sharing else 0
        if excess > 0:
            keys = sorted(((slot, "") for slot in to_slots(sharing)), key=lambda key: self._ejections[key].until)
            for key in keys[:excess]:
                self._end(key)

    def _cut_short(self, now: float) -> None:
        """Let no ejection last longer than any may, because the clock stepped back."""
        rules = self._rules
        # By more than sums of floats are inexact.
        most = max(self._longest() + rules.max_ejection_time_jitter, rules.max_busy_time) + 2 * TICK
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
