"""What makes an endpoint an outlier: outcomes in, ejections out."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from random import Random
from typing import Final, final

from inferencepool.model import EjectionReason, EndpointMetrics, EndpointSet, Outcome, OutcomeKind, to_slots
from inferencepool.registry._ejections import TICK, Ejections, View
from inferencepool.registry._outlier_detection import OutlierDetection
from inferencepool.registry._tallies import Tally, few_succeed, many_refused, silent

__all__ = ["Outliers"]

# Models of which it is known who serves them, and who does not.
_MOST_MODELS: Final = 1024


@final
class Outliers:
    """
    The rules by which endpoints are ejected, and what was counted for them, by slot.

    Not thread-safe: the registry guards it with a lock of its own. Each outcome and probe costs O(1), `view` costs
    O(ejections), and `look` O(endpoints). Bounded by endpoints and `OutlierDetection`, never by requests.

    Attributes:
        ejections: Who is ejected.
        looked_at: When it was looked last.
    """

    def __init__(self, rules: OutlierDetection, rng: Random) -> None:
        """Begin without any."""
        self._rules = rules
        self._tallies: dict[int, Tally] = {}
        self.ejections = Ejections(rules, rng, self._tallies)
        # Models that somebody served; how many times in a row an endpoint did not have one, and since which pick.
        self._served: dict[str, None] = {}
        self._missed: dict[tuple[int, str], tuple[int, float]] = {}
        # Those that would be ejected, if more might be.
        self._denied: EndpointSet = 0
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
        tally.heard = True
        tally.answers += 1
        self._served[model] = None
        return not tally.is_marked

    def hear(self, slot: int) -> bool:
        """Count that an answer begins well; the same as `succeed` otherwise."""
        tally = self._tallies.get(slot)
        if tally is None:
            return False
        tally.heard = True
        return not tally.is_marked

    def recover(self, slot: int, picked_at: float, model: str, *, is_over: bool) -> bool:
        """
        End what a success ends of what was picked at a time; True if that changes the `view`.

        Where it is not over, but only begins well, failures in a row go on: it may break off as those before.
        """
        tally = self._tallies.get(slot) or self._begin(slot)
        tally.heard = True
        changed = self.ejections.recover(slot, picked_at, model)
        if is_over:
            self._served[model] = None
            # What was picked before failures began says how it was.
            if not tally.failures or picked_at >= tally.failing_since:
                tally.forgive()
                changed |= self._allow(slot)
            if picked_at >= self._missed.get((slot, model), (0, inf))[1]:
                del self._missed[slot, model]
            tally.is_marked = bool(tally.failures or self._missed) or self.ejections.concerns(slot)
        return changed

    def fail(self, slot: int, outcome: Outcome, picked_at: float, model: str, now: float, members: EndpointSet) -> bool:
        """Count any other outcome; True if that changes the `view`. *members* are all endpoints."""
        tally = self._tallies.get(slot) or self._begin(slot)
        kind = outcome.kind
        # The earliest, for clocks may step back.
        tally.failing_since = min(tally.failing_since, picked_at) if tally.failures else picked_at
        tally.count(kind)
        changed = bool(self.ejections) and self.ejections.judge(slot, outcome, picked_at, model, now)
        if kind in (OutcomeKind.BUSY, OutcomeKind.UNAVAILABLE):
            changed |= self.ejections.eject(slot, EjectionReason.BUSY, outcome, now)
        elif kind is OutcomeKind.MODEL_NOT_FOUND and model and model in self._served:
            changed |= self._miss((slot, model), outcome, picked_at, now)
        reason = tally.excess(self._rules)
        if reason is not None:
            changed |= self._eject_if_room(slot, reason, outcome, now, members)
        elif not tally.failures:
            changed |= self._allow(slot)
        return changed

    def restart(self, slot: int, now: float) -> None:
        """Take note that the endpoint in *slot* began anew: it is to be probed at once."""
        tally = self._tallies.get(slot)
        if tally is not None:
            tally.forgive()
            tally.begin_window()
        self._allow(slot)
        self.ejections.restart(slot, now)

    def forget(self, slot: int) -> None:
        """Take note that *slot* will be another endpoint's."""
        self._allow(slot)
        self.ejections.forget(slot)
        for key in [key for key in self._missed if key[0] == slot]:
            del self._missed[key]
        self._tallies.pop(slot, None)

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
        self._follow(members, awaited)
        tallies = [(slot, tally) for slot, tally in self._tallies.items() if members >> slot & 1]
        for slot, detail in list(silent(tallies, awaited, metrics, self._rules, self._watched)):
            self._eject_if_room(slot, EjectionReason.STALLED, Outcome(detail=detail), now, members)
        self.ejections.postpone(now, awaited)
        for slot, detail in list(many_refused(tallies, self._rules)):
            self._eject_if_room(slot, EjectionReason.CLIENT_ERRORS, Outcome(detail=detail), now, members)
        if not 0 <= now - self._window_began < self._rules.interval:
            self._window_began = now
            for slot, detail in list(few_succeed(tallies, self._rules)):
                self._eject_if_room(slot, EjectionReason.SUCCESS_RATE, Outcome(detail=detail), now, members)
            for slot, tally in self._tallies.items():
                tally.begin_window()
                if tally.ejections and not self.ejections.is_for_all(slot):
                    tally.ejections -= 1

    def view(self, now: float, members: EndpointSet) -> View:
        """Tell what a snapshot of *members* is to tell, in O(ejections)."""
        return self.ejections.view(now, members, self._denied)

    # ------------------------------------------------------------------------------------------------------------------

    def _follow(self, members: EndpointSet, awaited: Sequence[int]) -> None:
        """Begin to watch those that hold requests for the first time, and end the silence of those that are away."""
        for slot in to_slots(members):
            if awaited[slot] and slot not in self._tallies:
                self._begin(slot)
        for slot, tally in self._tallies.items():
            if not members >> slot & 1:
                # It holds nothing, and may come back.
                tally.silent_since = None

    def _begin(self, slot: int) -> Tally:
        tally = self._tallies[slot] = Tally()
        return tally

    def _allow(self, slot: int) -> bool:
        """Take note that *slot* does not fail all the time; True if it would have been ejected for that."""
        was_denied = bool(self._denied >> slot & 1)
        if was_denied:
            self._denied ^= 1 << slot
        return was_denied

    def _miss(self, key: tuple[int, str], outcome: Outcome, picked_at: float, now: float) -> bool:
        """Count that an endpoint does not have a model that was served before; True if that ejects it."""
        missed, since = self._missed.pop(key, (0, picked_at))
        if 0 < self._rules.consecutive_model_not_found <= missed + 1:
            return self.ejections.eject(key[0], EjectionReason.MODEL_NOT_FOUND, outcome, now, key[1])
        self._missed[key] = missed + 1, min(since, picked_at)
        if len(self._missed) > _MOST_MODELS:
            del self._missed[next(iter(self._missed))]
        return False

    def _eject_if_room(
        self, slot: int, reason: EjectionReason, outcome: Outcome, now: float, members: EndpointSet
    ) -> bool:
        """Begin an ejection unless too many are ejected; True if that changes the `view`."""
        tally = self._tallies[slot]
        tally.is_marked = True
        if self.ejections.has_room(slot, members):
            tally.forgive()
            return self.ejections.eject(slot, reason, outcome, now) | self._allow(slot)
        changed = not self._denied >> slot & 1
        self._denied |= 1 << slot
        return changed
