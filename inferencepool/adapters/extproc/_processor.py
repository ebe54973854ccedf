"""`ExternalProcessor`: what all sessions of a server share."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from math import inf
from random import Random
from threading import Lock
from typing import final

import attrs

from inferencepool.adapters.bodies import BodyParsers, Loads, default_parsers, loads_json
from inferencepool.adapters.extproc._decision import Decision
from inferencepool.adapters.extproc._exchange import ExchangeObserver
from inferencepool.adapters.extproc._holds import Holds, ResponseTimes
from inferencepool.adapters.extproc._options import ProcessorOptions
from inferencepool.adapters.extproc._session import Session
from inferencepool.model import InferenceModelRewrite, InferenceObjective
from inferencepool.model._protocol import FORGEABLE
from inferencepool.picker import EndpointPicker
from inferencepool.scheduling import PickResult
from inferencepool.selection import ModelRewrites

__all__ = ["ExternalProcessor", "ProcessorStatistics"]

# So many picks are taken back in one step.
_LET_GO_AT_ONCE = 64


@attrs.frozen
class ProcessorStatistics:
    """
    What a processor has going.

    Attributes:
        sessions: Sessions that are not closed.
        held: Picks whose end could not be seen and whose load still counts.
        response_seconds: How long a response is believed to take.
    """

    sessions: int
    held: int
    response_seconds: float = 10.0


@final
class ExternalProcessor:
    """
    Decides over ext_proc where requests go: the service ``envoy.service.ext_proc.v3.ExternalProcessor`` without I/O.

    One for a server, one `Session` for each stream. Sessions may run in different threads; what they share is guarded
    by a lock here, and by the picker's own.
    """

    def __init__(
        self,
        picker: EndpointPicker,
        *,
        options: ProcessorOptions | None = None,
        parsers: BodyParsers | None = None,
        objectives: Iterable[InferenceObjective] = (),
        rewrites: Iterable[InferenceModelRewrite] = (),
        observer: ExchangeObserver | None = None,
        loads: Loads = loads_json,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        """
        Answer with the picks of *picker*.

        Args:
            picker: Picks the endpoints.
            options: What to do beyond picking.
            parsers: Read the requests' bodies; by default those for OpenAI, Anthropic and vLLM, and a fallback that
                reads nothing.
            objectives: Say how important the requests are that name them.
            rewrites: Say which model a request gets that asked for another.
            observer: Is told about every request when it is over; if it is a `DecisionObserver`, also when it got an
                endpoint.
            loads: Reads JSON text: for the parsers, where none are given, and for usage.
            clock: Seconds that never run backwards.
            rng: Source of request ids and of the shares of weighted rewrites.
        """
        self.picker = picker
        self.options = options if options is not None else ProcessorOptions()
        self.forgeable = FORGEABLE - self.options.keep_headers
        self.parsers = parsers if parsers is not None else BodyParsers(default_parsers(loads))
        self.loads = loads
        self.observer = observer
        self.on_decision: Callable[[Decision], object] | None = getattr(observer, "decided", None)
        self.clock = clock
        self.rng = rng if rng is not None else Random()  # ids need to differ, not to be secret
        self.priorities: dict[str, int] = {}
        self.rewrites = ModelRewrites(())
        self._lock = Lock()
        self._holds = Holds(self.options.max_holds)
        self._times = ResponseTimes()
        self._sessions = 0
        self.set_objectives(objectives)
        self.set_rewrites(rewrites)

    def set_objectives(self, objectives: Iterable[InferenceObjective]) -> None:
        """Replace the objectives; sessions that decided already are not touched."""
        self.priorities = {item.metadata.name: item.priority or 0 for item in objectives}

    def set_rewrites(self, rewrites: Iterable[InferenceModelRewrite]) -> None:
        """Replace the model rewrites; sessions that decided already are not touched."""
        self.rewrites = ModelRewrites(rewrites)

    def session(self) -> Session:
        """Begin a session, for one stream."""
        with self._lock:
            self._sessions += 1
        return Session(self)

    def statistics(self) -> ProcessorStatistics:
        """Tell what the processor has going."""
        with self._lock:
            return ProcessorStatistics(self._sessions, len(self._holds), self._times.estimate)

    @property
    def deadline(self) -> float | None:
        """When to call `expire`, in seconds of the clock; None while no load is held. Later ones may come before it."""
        with self._lock:
            return self._holds.deadline

    def expire(self) -> bool:
        """
        Take back the load of picks whose end could not be seen, and that were held for long enough: 64 at once.

        Returns:
            Whether more of them are due: call it again, between other work.
        """
        return self._let_go(self.clock())

    def close(self) -> None:
        """Take back the load of all picks whose end could not be seen."""
        while self._let_go(inf):
            pass

    def _let_go(self, now: float) -> bool:
        # Every session that begins needs the lock, so it is held for a few at a time.
        with self._lock:
            return self._holds.let_go(now, _LET_GO_AT_ONCE)

    def new_request_id(self) -> str:
        """Make an id for a request that has none."""
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def leave(self, held: PickResult | None = None, *, since: float = 0.0, took: float | None = None) -> None:
        """
        End a session.

        Args:
            held: A pick whose end was not seen: its load counts until it has been held long enough.
            since: When it was made, in seconds of the clock.
            took: How long the response took, where its end was seen.
        """
        with self._lock:
            self._sessions -= 1
            if took is not None:
                self._times.add(took)
            if held is not None:
                seconds = self.options.hold
                self._holds.hold(held, since + (self._times.estimate if seconds is None else seconds))
