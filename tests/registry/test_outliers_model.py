"""Ejections, held to a short specification under random sequences of outcomes, probes and time."""

from __future__ import annotations

from random import Random

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from inferencepool.model import EjectionReason, Outcome, OutcomeKind, to_endpoint_set, to_slots
from inferencepool.registry import EndpointRegistry, OutlierDetection
from inferencepool.testing import ManualClock, make_endpoint

IN_A_ROW, BASE, LONGEST = 3, 2.0, 8.0
RULES = OutlierDetection(
    consecutive_gateway_failure=0,
    consecutive_5xx=IN_A_ROW,
    interval=3600,
    base_ejection_time=BASE,
    max_ejection_time=LONGEST,
    max_ejection_time_jitter=0,
    client_error_volume=10**9,
    success_rate_request_volume=10**9,
)
SIZES = st.sampled_from([1, 2, 3, 5])
SLOTS = st.integers(0, 4)
FAILURES = st.sampled_from([OutcomeKind.SERVER_ERROR, OutcomeKind.GATEWAY_FAILURE])


@attrs.define
class Rule:
    """The specification of one endpoint: why and until when it is ejected, and when a request came to probe it."""

    in_a_row: int = 0
    level: int = 0
    reason: EjectionReason | None = None
    until: float = 0.0
    probed: float | None = None

    def eject(self, now: float, reason: EjectionReason | None) -> None:
        """Eject, each time for longer."""
        self.reason, self.probed = reason, None
        self.lengthen(now)

    def lengthen(self, now: float) -> None:
        """Go on for longer."""
        self.level = min(self.level + 1, int(LONGEST / BASE) + 1)
        self.until = now + min(BASE * self.level, LONGEST)

    def is_probe(self, picked_at: float) -> bool:
        """Whether a request that was picked then probes it."""
        return self.reason is not None and self.probed is not None and picked_at >= self.probed


@attrs.define
class Specification:
    """The rules of a fleet."""

    endpoints: list[Rule]

    def failing(self) -> set[int]:
        """Those ejected by failures in a row."""
        return {slot for slot, each in enumerate(self.endpoints) if each.reason is EjectionReason.CONSECUTIVE_5XX}

    def denied(self) -> set[int]:
        """Those that fail as often, and are not ejected for that."""
        return {slot for slot, each in enumerate(self.endpoints) if each.in_a_row >= IN_A_ROW}

    def fail(self, slot: int, now: float, picked_at: float) -> None:
        """A failure: a probe that fails lengthens; so many in a row eject, half of the fleet or one at most."""
        each = self.endpoints[slot]
        each.in_a_row += 1
        if each.is_probe(picked_at):
            each.eject(now, each.reason)
        if each.in_a_row >= IN_A_ROW and len(self.failing() - {slot}) < max(1, len(self.endpoints) // 2):
            each.in_a_row = 0
            if each.reason is not EjectionReason.CONSECUTIVE_5XX:
                each.eject(now, EjectionReason.CONSECUTIVE_5XX)

    def busy(self, slot: int, now: float, picked_at: float) -> None:
        """No room: ejected at once, however many are."""
        each = self.endpoints[slot]
        each.in_a_row = 0
        if each.is_probe(picked_at) or each.reason is None:
            each.eject(now, each.reason or EjectionReason.BUSY)

    def succeed(self, slot: int, picked_at: float) -> None:
        """A success of a probe ends an ejection."""
        each = self.endpoints[slot]
        each.in_a_row = 0
        if each.is_probe(picked_at):
            each.reason = None

    def probe(self, slot: int, now: float) -> bool:
        """One request probes; the next one only if nothing came of it in time."""
        each = self.endpoints[slot]
        if each.reason is None or now < each.until:
            return False
        if each.probed is not None:
            each.level = min(each.level + 1, int(LONGEST / BASE) + 1)
        each.probed = now if each.probed is None else each.probed
        each.until = now + min(BASE * max(each.level, 1), LONGEST)
        return True


class OutliersHold(RuleBasedStateMachine):
    """A registry beside its specification."""

    @initialize(size=SIZES)
    def begin(self, size: int) -> None:
        """Start with a fleet of which something was reported."""
        self.clock = ManualClock()
        self.registry = EndpointRegistry(clock=self.clock, publish_interval=0, outlier_detection=RULES, rng=Random(0))
        self.registry.set_endpoints(make_endpoint(f"p{slot}", address=f"10.0.0.{slot + 1}") for slot in range(size))
        self.specification = Specification([Rule() for _ in range(size)])
        self.registry.publish()
        for slot in range(size):
            self.report(slot, Outcome(), 0)

    def report(self, slot: int, outcome: Outcome, age: float) -> float:
        """Report what became of a request that was picked *age* ago."""
        picked_at = self.clock() - age
        fleet = self.registry.snapshot().fleet
        self.registry.health.report(slot, fleet.births[slot], outcome, picked_at)
        return picked_at

    def slot(self, number: int) -> int:
        """Some endpoint."""
        return number % len(self.specification.endpoints)

    @rule(seconds=st.sampled_from([0.25, 1.0, 2.0, 8.0, 30.0]))
    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.clock.advance(seconds)

    @rule(number=SLOTS, age=st.sampled_from([0.0, 1.0, 5.0]), times=st.integers(1, IN_A_ROW), kind=FAILURES)
    def fail(self, number: int, age: float, times: int, kind: OutcomeKind) -> None:
        """Requests fail."""
        for _ in range(times):
            picked_at = self.report(self.slot(number), Outcome(kind), age)
            self.specification.fail(self.slot(number), self.clock(), picked_at)

    @rule(number=SLOTS, age=st.sampled_from([0.0, 1.0, 5.0]))
    def refuse(self, number: int, age: float) -> None:
        """An endpoint is busy."""
        picked_at = self.report(self.slot(number), Outcome(OutcomeKind.BUSY), age)
        self.specification.busy(self.slot(number), self.clock(), picked_at)

    @rule(number=SLOTS, age=st.sampled_from([0.0, 1.0, 5.0]))
    def succeed(self, number: int, age: float) -> None:
        """A request is served."""
        picked_at = self.report(self.slot(number), Outcome(), age)
        self.specification.succeed(self.slot(number), picked_at)

    @rule(number=SLOTS, served=st.booleans())
    def probe(self, number: int, served: bool) -> None:
        """A request would probe; then another one, at the same time, does not."""
        slot, now = self.slot(number), self.clock()
        snapshot = self.registry.snapshot()
        birth = snapshot.fleet.births[slot]
        expected = self.specification.probe(slot, now)
        assert self.registry.health.probe(slot, birth, now) is expected
        assert not self.registry.health.probe(slot, birth, now)
        if expected and served:
            self.succeed(number, 0.0)
            assert self.specification.endpoints[slot].reason is None

    @invariant()
    def is_as_specified(self) -> None:
        """Who is avoided and who is to be probed is what the rules say; and the contract holds."""
        snapshot, now, specification = self.registry.snapshot(), self.clock(), self.specification
        ejected = {slot: each for slot, each in enumerate(specification.endpoints) if each.reason is not None}
        assert {slot: (each.reason, each.until) for slot, each in snapshot.ejections.items()} == {
            slot: (each.reason, each.until) for slot, each in ejected.items()
        }
        due = {slot for slot, each in ejected.items() if now >= each.until}
        assert set(to_slots(snapshot.probing.get("", 0))) == due
        failing = specification.failing() | specification.denied()
        all_fail = len(failing) == len(specification.endpoints)
        assert snapshot.avoided == (0 if all_fail else to_endpoint_set(ejected.keys() - due))
        assert snapshot.failing == to_endpoint_set(failing)
        assert len(specification.failing()) <= max(1, len(specification.endpoints) // 2)
        assert all(each.until <= now + LONGEST for each in ejected.values())


TestOutliersHold = OutliersHold.TestCase
