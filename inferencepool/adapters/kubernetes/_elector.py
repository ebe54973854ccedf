"""Leader election: one of several replicas holds a lease, and says so for as long as it can be sure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum, auto
from math import inf
from random import Random
from typing import Any, TypeAlias, final

import attrs

from inferencepool._checks import checked_number, checked_whole_number, refusal
from inferencepool.adapters.kubernetes._feed import Failure, Get, Stream, Wait
from inferencepool.adapters.kubernetes._lease import MAX_LEASE, Lease, LeaseName, is_lease, read_lease
from inferencepool.adapters.kubernetes._lines import LineSplitter
from inferencepool.errors import ConfigurationError

__all__ = ["Create", "ElectionOptions", "ElectionStep", "LeaderElector", "Replace"]

_CONFLICT = 409
_NOT_FOUND = 404
# The server will not tell of the lease as it changes: asking again and again has to do.
_NO_STREAM = (400, 403, 404, 405, 422)
_STREAM_SECONDS = 300
_OWNER = "leader election"


@attrs.frozen
class Create:
    """Create *document* in the collection at *path*, and hand over the answer."""

    path: str
    document: Mapping[str, Any]


@attrs.frozen
class Replace:
    """Replace the object at *path* by *document*, and hand over the answer."""

    path: str
    document: Mapping[str, Any]


ElectionStep: TypeAlias = Wait | Get | Stream | Create | Replace


@attrs.frozen(kw_only=True)
class ElectionOptions:
    """
    How long leadership lasts, and how eager to be. The defaults are those of Kubernetes' own components.

    Attributes:
        lease_duration: Whole seconds after which others may take the lease from a holder who does not renew it.
        renew_deadline: Seconds after its latest renewal at which a leader that cannot renew it stops leading. What it
            is shorter than *lease_duration* is the margin in which nobody leads.
        retry_period: Seconds between two renewals, and at least between two tries.
        jitter: Those who do not lead wait longer between two tries, by up to this part of *retry_period*.

    Raises:
        ConfigurationError: A value is out of range, or they do not fit together; the message names the option.
    """

    lease_duration: int = attrs.field(default=15, validator=checked_whole_number(_OWNER, 1, None, unit="seconds"))
    renew_deadline: float = attrs.field(default=10.0, validator=checked_number(_OWNER, above=True, unit="seconds"))
    retry_period: float = attrs.field(default=2.0, validator=checked_number(_OWNER, above=True, unit="seconds"))
    jitter: float = attrs.field(default=1.2, validator=checked_number(_OWNER))

    def __attrs_post_init__(self) -> None:
        if self.renew_deadline >= self.lease_duration:
            rule = f"is not less than lease_duration ({self.lease_duration})"
            raise refusal(_OWNER, "renew_deadline", self.renew_deadline, rule)
        if self.retry_period * max(1.0, self.jitter) >= self.renew_deadline:
            rule = f"leaves no time for a second try in renew_deadline ({self.renew_deadline})"
            raise refusal(_OWNER, "retry_period", self.retry_period, rule)


class _Plan(Enum):
    READ = auto()
    WRITE = auto()
    FOLLOW = auto()


@final
class LeaderElector:
    """
    Competes for a lease, without doing the asking.

    Whoever drives it asks for the next step, does it, hands over what came of it and begins again: `receive` or `fail`
    after a `Get`, `Create` or `Replace`; after a `Stream` `receive_data` any number of times while `listening` holds,
    then `end_stream` or `fail`. A step that takes longer than `patience` has failed.

    There are never two leaders, if their clocks run equally fast. A leader counts from the moment at which it *sent*
    its latest renewal, and stops after `ElectionOptions.renew_deadline`; others count from the moment at which they
    *saw* it, and wait for the whole duration of the lease. Times that others wrote into the lease are never compared
    with a clock, so wrong clocks do no harm.

    Not thread-safe.

    Attributes:
        problem: Why the server could not be asked, or refused; None if it did what was to be expected. That somebody
            else was faster is to be expected.
    """

    def __init__(
        self,
        lease: LeaseName,
        identity: str,
        *,
        options: ElectionOptions | None = None,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        rng: Random | None = None,
    ) -> None:
        """
        Compete for *lease* as *identity*.

        Args:
            lease: The lease.
            identity: Tells this replica from all others, also from one that had its name before.
            options: How eager to be.
            clock: Seconds that never run backwards, and run while the machine sleeps if it can tell them.
            now: The time of day, which is written into the lease for people to read.
            rng: Source of the randomness in waiting times.

        Raises:
            ConfigurationError: *identity* is empty.
        """
        if not identity:
            raise ConfigurationError.of(_OWNER, "identity", "must not be empty", identity)
        self.problem: Failure | None = None
        self._lease = lease
        self._identity = identity
        self._options = options if options is not None else ElectionOptions()
        self._clock = clock
        self._now = now
        self._rng = rng if rng is not None else Random()
        self._plan = _Plan.READ
        self._seen: Lease | None = None
        self._seen_at = -inf
        self._sent_at = -inf
        self._leading_until = -inf
        self._not_before = -inf
        self._conflicts = 0
        self._unsure = False
        self._streams = True
        self._lines = LineSplitter(2 * MAX_LEASE)
        self._give_up_at: float | None = None

    @property
    def lease(self) -> LeaseName:
        """The lease."""
        return self._lease

    @property
    def identity(self) -> str:
        """Who this is."""
        return self._identity

    @property
    def holder(self) -> str:
        """Who held the lease when it was last seen; empty for nobody."""
        return self._seen.holder if self._seen is not None else ""

    @property
    def leading(self) -> bool:
        """Whether this replica leads at this moment."""
        return self._give_up_at is None and self._clock() < self._leading_until

    @property
    def leading_until(self) -> float:
        """When it stops leading, by its clock, unless it renews the lease before; minus infinity if it does not."""
        return self._leading_until if self._give_up_at is None else -inf

    @property
    def patience(self) -> float:
        """Seconds that the present step may take, or that the next piece of a `Stream` may let wait for itself."""
        if self._plan is not _Plan.FOLLOW:
            # Half of the deadline, so that a leader whose request hangs has time for another.
            return self._options.renew_deadline / 2
        return max(0.0, min(self._longest_retry, self._free_at - self._clock()))

    @property
    def listening(self) -> bool:
        """Whether the present `Stream` is of any more use; if not, close it."""
        return self._plan is _Plan.FOLLOW and self._give_up_at is None

    def release(self) -> None:
        """
        Stop leading, at once, and give the lease up, if it is held, with the next steps. Do not compete any more.

        A step that is under way may be waited for; a `Wait` or a `Stream` need not be.
        """
        if self._give_up_at is None:
            self._give_up_at = self._clock() + self._options.renew_deadline
            self._not_before = -inf

    def next_step(self) -> ElectionStep | None:
        """Give what to do next; None when the lease was given up and nothing is left to do."""
        now = self._clock()
        if self._give_up_at is not None and not self._has_to_release(now):
            return None
        if now < self._not_before:
            return Wait(self._not_before - now)
        self._sent_at = now
        if self._plan is _Plan.READ:
            return Get(self._lease.path, {})
        if self._plan is _Plan.FOLLOW and self._seen is not None:
            self._lines = LineSplitter(2 * MAX_LEASE)
            return Stream(self._lease.collection, self._stream_params(self._seen))
        self._plan = _Plan.WRITE
        return self._write()

    def receive(self, body: bytes) -> None:
        """Take the answer to a `Get`, `Create` or `Replace`."""
        try:
            lease = read_lease(body, self._lease)
        except (ValueError, RecursionError) as error:
            self.fail(Failure(str(error)))
            return
        self.problem = None
        if self._plan is _Plan.WRITE:
            self._succeed(lease)
        else:
            self._see(lease)
            self._decide()

    def receive_data(self, data: bytes) -> None:
        """Take a piece of a `Stream`, cut anywhere."""
        try:
            for line in self._lines.feed(data):
                self._take_event(json.loads(line))
        except (ValueError, AttributeError, RecursionError) as error:
            self.fail(Failure(f"a watch of the lease: {error}"))

    def end_stream(self) -> None:
        """Hear that the server ended a `Stream` in order."""
        if self._plan is _Plan.FOLLOW:
            self._read_again()

    def fail(self, failure: Failure) -> None:
        """Hear that the present step failed, in whatever way."""
        if self._plan is _Plan.FOLLOW:
            # No problem yet: reading the lease will tell.
            self._streams = failure.status not in _NO_STREAM
            self._read_again()
            return
        match self._plan:
            case _Plan.READ if failure.status == _NOT_FOUND:
                self._lose()
                self._decide()
            case _Plan.WRITE if failure.status in (_CONFLICT, _NOT_FOUND):
                self._plan = _Plan.READ
                self._conflicts += 1
                if self._conflicts > 1:
                    self.problem = failure
                # Somebody was faster: look who, at once; but not again and again.
                self._pause(0.0 if self._conflicts == 1 else self._retry_after(failure))
            case _:
                self.problem = failure
                # It may have been written all the same, so look.
                self._unsure |= self._plan is _Plan.WRITE
                self._plan = _Plan.READ
                self._pause(self._retry_after(failure))

    def _succeed(self, lease: Lease) -> None:
        """Take the answer to a write."""
        self._see(lease)
        self._conflicts = 0
        if lease.holder == self._identity:
            self._leading_until = self._sent_at + self._options.renew_deadline
            if self._give_up_at is None:
                self._pause(self._options.retry_period - (self._clock() - self._sent_at))
        else:
            self._decide()

    def _see(self, lease: Lease) -> None:
        """Note what the lease is like, and, if it is not as it was, that it was renewed by now."""
        if lease != self._seen:
            self._seen_at = self._clock()
        self._seen = lease
        self._unsure = False
        if lease.holder != self._identity:
            self._leading_until = -inf

    def _lose(self) -> None:
        """Note that somebody deleted the lease. Its holder may not know yet, and leads as long as it could."""
        self._seen = self._seen.gone() if self._seen is not None else None
        self._unsure = False
        self._leading_until = -inf

    def _decide(self) -> None:
        """Choose what to do about the lease as it was just seen."""
        if self.holder in ("", self._identity) or self._clock() >= self._free_at:
            self._plan = _Plan.WRITE
            return
        self._conflicts = 0
        if self._streams and self._seen is not None and self._seen.resource_version:
            self._plan = _Plan.FOLLOW
        else:
            self._plan = _Plan.READ
            self._pause_before_look(self._spread_retry())

    @property
    def oddities(self) -> tuple[str, ...]:
        """What the lease said when it was last seen that cannot be, and what counts instead."""
        return self._seen.oddities if self._seen is not None else ()

    def _take_event(self, event: Mapping[str, Any]) -> None:
        kind, document = event.get("type"), event.get("object")
        if kind in ("ADDED", "MODIFIED", "DELETED") and not (
            isinstance(document, Mapping) and is_lease(document, self._lease)
        ):
            # Of another lease, whatever the server made of the selector.
            return
        match kind:
            case "ADDED" | "MODIFIED":
                self._see(read_lease(document))
                self._decide()
            case "DELETED":
                self._lose()
                self._decide()
            case "ERROR":
                status = event.get("object") or {}
                self.fail(Failure(str(status.get("message")), status.get("code")))

    def _read_again(self) -> None:
        """Look at the lease after a stream; streams begin at most as often as polls would."""
        self._plan = _Plan.READ
        self._pause_before_look(self._sent_at + self._spread_retry() - self._clock())

    def _pause_before_look(self, seconds: float) -> None:
        """Wait *seconds*, but not past the moment from which the lease may be taken."""
        self._pause(min(seconds, self._free_at - self._clock()))

    def _has_to_release(self, now: float) -> bool:
        holds = self.holder == self._identity or self._unsure
        return holds and self._give_up_at is not None and now < self._give_up_at

    def _write(self) -> Create | Replace:
        lease = self._seen if self._seen is not None else Lease()
        if self._give_up_at is not None:
            wanted = lease.released(self._now())
        else:
            wanted = lease.taken(self._identity, self._options.lease_duration, self._now())
        document = wanted.to_dict(self._lease)
        if lease.resource_version:
            return Replace(self._lease.path, document)
        return Create(self._lease.collection, document)

    def _stream_params(self, seen: Lease) -> dict[str, str]:
        return {
            "watch": "1",
            "fieldSelector": f"metadata.name={self._lease.name}",
            "resourceVersion": seen.resource_version,
            "timeoutSeconds": str(_STREAM_SECONDS),
        }

    @property
    def _free_at(self) -> float:
        """When the lease may be taken from a holder who does not renew it."""
        duration = self._seen.duration if self._seen is not None else 0
        return self._seen_at + (duration or self._options.lease_duration)

    @property
    def _longest_retry(self) -> float:
        return self._options.retry_period * (1 + self._options.jitter)

    def _spread_retry(self) -> float:
        """Give the seconds between two tries, spread so that those who wait do not come all at once."""
        if self.leading or self._give_up_at is not None:
            return self._options.retry_period
        return self._options.retry_period * (1 + self._rng.random() * self._options.jitter)

    def _retry_after(self, failure: Failure) -> float:
        asked = min(failure.retry_after or 0.0, self._options.renew_deadline / 2)
        return max(self._spread_retry(), asked)

    def _pause(self, seconds: float) -> None:
        self._not_before = self._clock() + seconds

    def __repr__(self) -> str:
        state = "leads" if self.leading else f"behind {self.holder!r}"
        return f"<LeaderElector {self._identity} {state}, lease {self._lease}>"
