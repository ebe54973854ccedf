"""Whatever a network does to three replicas, there are never two leaders; when it heals there is one."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from inferencepool.adapters.kubernetes import Create, ElectionStep, Failure, Get, LeaderElector, Replace, Stream, Wait
from inferencepool.testing import ManualClock
from tests.adapters.kubernetes.leases import LeaseServer, hand_over, make_elector

INDEXES = st.sampled_from([0, 1, 2])
STATUSES = st.sampled_from([None, 409, 429, 500, 504])
# A replica that dies is replaced, and a lease goes at most after all of these.
LIMIT = 15.0 + 4.4 + 5.0


@attrs.define(eq=False)
class Replica:
    """One process: an elector, what it asked for and what came back; *answer* is on its way to it."""

    elector: LeaderElector
    step: ElectionStep | None = None
    began: float = 0.0
    reached: bool = False
    answer: bytes | Failure | None = None
    lines: list[bytes] = attrs.field(factory=list)

    @property
    def asks(self) -> bool:
        """Whether a request is under way."""
        return isinstance(self.step, Get | Create | Replace)


class Elections(RuleBasedStateMachine):
    """Three replicas, a server, and a network that delays and loses requests, answers and news."""

    @initialize()
    def begin(self) -> None:
        """Start without a lease."""
        self.clock = ManualClock(1000.0)
        self.server = LeaseServer()
        self.count = 0
        self.late: list[ElectionStep] = []
        self.replicas = [self.start() for _ in range(3)]

    def start(self) -> Replica:
        """Start a replica, whose time of day is wrong."""
        self.count += 1
        return Replica(make_elector(f"replica-{self.count}", self.clock, wrong_by=[-1e6, 0.0, 1e6][self.count % 3]))

    @rule(index=INDEXES)
    def go_on(self, index: int) -> None:
        """A replica that waits for nothing does its next step."""
        self.proceed(self.replicas[index])

    @rule(index=INDEXES)
    def reach(self, index: int) -> None:
        """A request arrives at the server, and is carried out."""
        self.carry_out(self.replicas[index])

    @rule(index=INDEXES)
    def answer(self, index: int) -> None:
        """An answer arrives, however late."""
        self.deliver(self.replicas[index])

    @rule(index=INDEXES, status=STATUSES)
    def lose(self, index: int, status: int | None) -> None:
        """A request fails for its sender, whether it was carried out or not; one that was not may be later."""
        if self.replicas[index].asks:
            self.give_up(self.replicas[index], Failure("lost", status))

    @rule(which=st.integers(0, 5))
    def arrive_late(self, which: int) -> None:
        """A request arrives whose sender has long given up."""
        if which < len(self.late):
            self.write(self.late.pop(which))

    @rule(index=INDEXES)
    def end_stream(self, index: int) -> None:
        """A stream ends, or breaks."""
        replica = self.replicas[index]
        if isinstance(replica.step, Stream):
            replica.step = None
            replica.elector.fail(Failure("broken"))

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.0, 3.0, 5.0]))
    def pass_time(self, seconds: float) -> None:
        """Time passes; whoever lost patience gives up."""
        self.clock.advance(seconds)
        for replica in self.replicas:
            if replica.asks and self.clock() - replica.began > replica.elector.patience:
                self.give_up(replica, Failure("no answer"))

    @rule(index=INDEXES)
    def kill(self, index: int) -> None:
        """A replica dies without a word, and another one starts."""
        step = self.replicas[index].step
        if step is not None and self.replicas[index].asks and not self.replicas[index].reached:
            self.late.append(step)
        self.replicas[index] = self.start()

    @rule(index=INDEXES)
    def stop(self, index: int) -> None:
        """A replica is told to stop, and goes on until it has given up what it holds."""
        self.replicas[index].elector.release()

    @rule(index=INDEXES)
    def cut_off(self, index: int) -> None:
        """One replica hears nothing for longer than a lease lasts, while all goes well for the others."""
        alone = self.replicas[index]
        for _ in range(40):
            self.proceed(alone)
            for replica in self.replicas:
                if replica is not alone:
                    self.go_well(replica)
            self.at_most_one_leads()
            self.pass_time(0.5)

    @rule()
    def heal(self) -> None:
        """All goes well for a while: somebody leads within the time of a lease and what waiting adds to it."""
        for index, replica in enumerate(self.replicas):
            if replica.elector.next_step() is None:
                self.replicas[index] = self.start()
        until = self.clock() + LIMIT
        while not any(replica.elector.leading for replica in self.replicas):
            assert self.clock() < until
            for replica in self.replicas:
                self.go_well(replica)
            self.at_most_one_leads()
            self.pass_time(0.1)

    @invariant()
    def at_most_one_leads(self) -> None:
        """Of all replicas at most one leads, and the server has it as the holder or has nobody."""
        leading = [replica.elector for replica in self.replicas if replica.elector.leading]
        assert len(leading) <= 1
        if leading:
            assert self.server.holder == leading[0].identity

    def go_well(self, replica: Replica) -> None:
        """Let all that a replica asks be answered at once."""
        for _ in range(4):
            self.proceed(replica)
            self.carry_out(replica)
            self.deliver(replica)

    def proceed(self, replica: Replica) -> None:
        """Let a replica do its next step, or hear news and notice time."""
        if isinstance(replica.step, Stream):
            for line in replica.lines:
                if replica.elector.listening:
                    replica.elector.receive_data(line)
            replica.lines.clear()
            if replica.elector.listening and replica.elector.patience <= 0:
                replica.elector.fail(Failure("nothing was heard"))
            if not replica.elector.listening:
                replica.step = None
        if replica.step is not None:
            return
        step = replica.elector.next_step()
        if not isinstance(step, Wait):
            replica.step, replica.began, replica.reached, replica.answer = step, self.clock(), False, None
            replica.lines = [self.server.line()] if isinstance(step, Stream) and self.server.document else []

    def carry_out(self, replica: Replica) -> None:
        """Carry out what a replica asks for, and tell those who follow."""
        if replica.step is None or not replica.asks or replica.reached:
            return
        replica.reached = True
        replica.answer = self.write(replica.step)

    def write(self, step: ElectionStep) -> bytes | Failure:
        """Do what a request asks for, and tell those who follow what it changed."""
        answer = self.server.answer(step)
        if not isinstance(step, Get) and isinstance(answer, bytes):
            for other in self.replicas:
                if isinstance(other.step, Stream):
                    other.lines.append(self.server.line())
        return answer

    def give_up(self, replica: Replica, failure: Failure) -> None:
        """Let a request fail for its sender; if it is still under way it may arrive later."""
        if replica.step is not None and not replica.reached:
            self.late.append(replica.step)
        replica.step, replica.answer = None, None
        replica.elector.fail(failure)

    def deliver(self, replica: Replica) -> None:
        """Hand an answer over."""
        answer: Any = replica.answer
        if replica.asks and answer is not None:
            replica.step, replica.answer = None, None
            hand_over(replica.elector, answer)


TestElections = Elections.TestCase
