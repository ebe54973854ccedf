"""How endpoints are by what came back from them: told by those who ask them, read by those who want to know."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final, Protocol, TypeAlias, final
from weakref import WeakSet

import attrs

from inferencepool._lock import held, new_lock, tolerant_lock
from inferencepool.model import Ejection, EjectionReason, Endpoint, Outcome, OutcomeKind
from inferencepool.registry._columns import Columns
from inferencepool.registry._ejections import TICK, View
from inferencepool.registry._outlier_detection import OutlierDetection
from inferencepool.registry._outliers import Outliers

__all__ = ["Asking", "EjectionChange", "EjectionListener", "EndpointHealth"]

_log = logging.getLogger("inferencepool.registry")
_NOBODY: Final = View()
_SUCCESS: Final = OutcomeKind.SUCCESS


@attrs.frozen
class EjectionChange:
    """
    An ejection began, or ended.

    Attributes:
        endpoint: Whose.
        ejection: The ejection.
        began: Whether it began; else it ended.
    """

    endpoint: Endpoint
    ejection: Ejection
    began: bool


EjectionListener: TypeAlias = Callable[[EjectionChange], object]


class Asking(Protocol):
    """**Protocol:** who sends requests, as far as it is known how many of them wait for an answer."""

    def awaited(self) -> tuple[Sequence[int], Sequence[int]]:
        """Give the number of each slot's occupant, and by slot the requests that nothing came back for."""
        ...


@final
class EndpointHealth:
    """
    How the endpoints of a registry are, by what came back from them.

    Thread-safe: a lock of its own guards what is counted; it is never held while another one is taken. Each outcome
    costs O(1), and a success where nobody is ill no lock.
    """

    def __init__(
        self,
        columns: Columns,
        rules: OutlierDetection | None,
        *,
        rng: Random,
        clock: Callable[[], float],
        touch: Callable[[bool], object],
    ) -> None:
        """
        Judge the endpoints of *columns* by *rules*; None for not at all.

        *touch* is called, without the lock, when another snapshot is due; with True where it should not wait.
        """
        self._columns = columns
        self._rules = rules
        self._clock = clock
        self._touch = touch
        self._outliers = Outliers(rules if rules is not None else OutlierDetection(), rng)
        self._lock = new_lock()
        self._asking: WeakSet[Asking] = WeakSet()
        self._listeners: tuple[tuple[EjectionListener], ...] = ()
        self._telling = tolerant_lock()
        columns.vacated, columns.restarted = self._vacate, self._restart

    @property
    def rules(self) -> OutlierDetection | None:
        """When an endpoint is ejected; None for never."""
        return self._rules

    def ejections(self) -> tuple[tuple[Endpoint, Ejection], ...]:
        """List the endpoints that are ejected, for all models or for one, in O(ejections)."""
        with held(self._lock):
            found = list(self._outliers.ejections.listed(self._columns.members))
        return tuple((endpoint, ejection) for slot, ejection in found if (endpoint := self._columns.at(slot)))

    def counts(self) -> Mapping[EjectionReason, int]:
        """Tell how many ejections there were, by reason."""
        with held(self._lock):
            return Counter(self._outliers.ejections.counts)

    def subscribe(self, listener: EjectionListener) -> Callable[[], None]:
        """
        Have *listener* called with every `EjectionChange`, in order, after it was made.

        It is called by the thread that reports an outcome or publishes a snapshot, without any lock of this object;
        what it raises is logged. Call what is returned to end that.
        """
        entry = (listener,)
        self._listeners = (*self._listeners, entry)

        def unsubscribe() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not entry)

        return unsubscribe

    def watch(self, asking: Asking) -> None:
        """Count what *asking* awaits among the requests that endpoints hold, as long as it exists."""
        self._asking.add(asking)

    def report(self, slot: int, birth: int, outcome: Outcome, picked_at: float, model: str = "") -> None:
        """
        Take note of what became of a request.

        Args:
            slot: The endpoint's slot.
            birth: The number of the slot's occupant then; where it has another one by now, nothing is done.
            outcome: What became of it.
            picked_at: When it was picked, in seconds of the registry's clock.
            model: The model that was asked for.
        """
        births = self._columns.births
        if self._rules is None or slot >= len(births) or births[slot] != birth:
            return
        outliers, now, is_success = self._outliers, self._clock(), outcome.kind is _SUCCESS
        if not (is_success and outliers.succeed(slot, model)):
            with held(self._lock):
                if births[slot] != birth:
                    # Who goes is forgotten after its number changed, and nothing of it may come later.
                    return
                if is_success:
                    changed = outliers.recover(slot, picked_at, model, is_over=True)
                else:
                    changed = outliers.fail(slot, outcome, picked_at, model, now, self._columns.members)
            if changed:
                self._touch(True)
                self.tell()
        # Who reports sees to it that the endpoints are looked at, so that picks need no clock.
        if not 0 <= now - outliers.looked_at < TICK:
            self._touch(False)

    def hear(self, slot: int, birth: int, picked_at: float, model: str = "") -> None:
        """Take note that the answer to a request begins well; arguments as those of `report`."""
        births = self._columns.births
        if self._rules is None or slot >= len(births) or births[slot] != birth:
            return
        if self._outliers.hear(slot):
            return
        with held(self._lock):
            if births[slot] != birth:
                return
            changed = self._outliers.recover(slot, picked_at, model, is_over=False)
        if changed:
            self._touch(True)
            self.tell()

    def probe(self, slot: int, birth: int, picked_at: float, model: str = "") -> bool:
        """
        Let a request probe an ejected endpoint; arguments as those of `report`.

        Returns:
            False where the endpoint is not to be probed, or another request does.
        """
        births = self._columns.births
        if slot >= len(births) or births[slot] != birth:
            return False
        with held(self._lock):
            probes = self._outliers.ejections.probe(slot, model, picked_at)
        if probes:
            self._touch(False)
        return probes

    def view(self, now: float) -> View:
        """
        Give what a snapshot is to tell. The registry's lock is held.

        Costs O(ejections), once a second O(endpoints), and nothing as long as no outcome was reported.
        """
        outliers, columns = self._outliers, self._columns
        if not outliers:
            return _NOBODY
        awaited = self._awaited() if outliers.is_due(now) else None
        with held(self._lock):
            if awaited is not None:
                outliers.look(now, columns.members, awaited, columns.metrics)
            return outliers.view(now, columns.members)

    def _awaited(self) -> Sequence[int]:
        """Count the requests that nothing came back for, by slot."""
        births = self._columns.births
        total = [0] * len(births)
        for known, counts in [each.awaited() for each in self._asking]:
            for slot, (birth, then, count) in enumerate(zip(births, known, counts, strict=False)):
                if count and birth == then:
                    total[slot] += count
        return total

    def tell(self) -> None:
        """Tell listeners what they were not told yet. Nobody holds a lock."""
        changes = self._outliers.ejections.changes
        while changes and self._telling.acquire(False):
            try:
                while changes:
                    slot, ejection, began = changes.popleft()
                    endpoint = self._columns.at(slot)
                    if endpoint is not None:
                        self._tell(EjectionChange(endpoint, ejection, began))
            finally:
                self._telling.release()

    def _tell(self, change: EjectionChange) -> None:
        for (listener,) in self._listeners:
            try:
                listener(change)
            except Exception:  # noqa: BLE001 - whatever it is, it is the listener's, not the reporter's
                _log.exception("listener %r failed on %r", listener, change)

    def _vacate(self, slot: int) -> None:
        with held(self._lock):
            self._outliers.forget(slot)

    def _restart(self, slot: int) -> None:
        with held(self._lock):
            self._outliers.restart(slot, self._clock())
