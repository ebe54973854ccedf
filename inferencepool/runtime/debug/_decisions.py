"""`DecisionLog`: the latest decisions, with their explanations."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from threading import Lock
from typing import Final, final

import attrs

from inferencepool._showing import without_query
from inferencepool.errors import ConfigurationError, InferencePoolError
from inferencepool.model import InferenceRequest
from inferencepool.model._protocol import FAIRNESS_ID, MODEL_REWRITE, OBJECTIVE, REQUEST_ID
from inferencepool.scheduling import Explanation, PickResult

__all__ = ["DecisionLog", "RecordedDecision"]

# What `InferenceRequest.prompt_unread` counts for a token.
_BYTES_PER_TOKEN: Final = 4

# An explanation is followed by a pause that is so much longer than it took.
_PAUSE_FACTOR: Final = 50
# More endpoints of an explanation are not kept: for a large fleet, they would take as much memory as all the rest.
_KEPT: Final = 50
# Longer errors are cut: they may quote what the client sent.
_LONGEST: Final = 500
_LONGEST_NAME: Final = 256
# Headers whose values are shown. Those of all others may be secret: credentials, cookies, what a client adds.
_SHOWN_HEADERS: Final = frozenset(
    {
        ":method",
        ":scheme",
        "accept",
        "content-length",
        "content-type",
        "user-agent",
        *FAIRNESS_ID,
        *MODEL_REWRITE,
        *OBJECTIVE,
        REQUEST_ID,
    }
)
_HIDDEN: Final = "(hidden)"


@attrs.frozen(kw_only=True)
class RecordedDecision:
    """
    One decision. Holds no prompt, and no value of a header that may be secret.

    Attributes:
        number: Tells it from all others of its log.
        at: When, in seconds of the Unix epoch.
        request_id: The request's id.
        path: Its path, without the query.
        model: The model that it gets.
        fairness_id: Whose request it is.
        priority: Of the objective that it names.
        prompt_bytes: Length of its prompt; 0 where that is not known as bytes.
        prompt_tokens: Length of its prompt in tokens; None where that is not known as tokens.
        stream: Whether the client wants a stream of events.
        headers: Its headers, with the values of some.
        destination: The endpoint that was picked, ``ip:port``; empty when none was.
        fallbacks: The endpoints to try next.
        seconds: How long the pick took; 0 when it found nothing.
        explanation: Why, with as many endpoints as matter most; None when no endpoint was picked, or explaining failed.
        candidates: How many candidates there were.
        rejected: How many endpoints were no candidates.
        error: Why there is no endpoint, or no explanation; else empty.
    """

    number: int
    at: float
    request_id: str
    path: str
    model: str
    fairness_id: str
    priority: int
    prompt_bytes: int
    prompt_tokens: int | None
    stream: bool
    headers: Mapping[str, str]
    destination: str = ""
    fallbacks: Sequence[str] = ()
    seconds: float = 0.0
    explanation: Explanation | None = None
    candidates: int = 0
    rejected: int = 0
    error: str = ""


@final
class DecisionLog:
    """
    Keeps the latest decisions of a picker. Give it to an `EndpointPicker` as its observer.

    To explain a decision costs O(endpoints), so not all are kept: none within *interval* of the last one, and none
    before 50 times as long has passed as the last explanation took. So it takes 2 % of a processor at most, however
    large the fleet. Strategies are asked again at once, while all is as it was for the pick. Of requests that got no
    endpoint all are kept, on a list of their own.

    Thread-safe; a lock guards the lists, and no pick waits for it.

    Attributes:
        keeps_results: False; see `inferencepool.picker.Observer`.
    """

    keeps_results: Final = False

    def __init__(
        self,
        size: int = 100,
        *,
        interval: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Keep the last *size* decisions, and as many refusals.

        Args:
            size: How many.
            interval: Seconds between two decisions that are kept, at least; 0 to keep all of them, whatever it costs.
            clock: Seconds that never run backwards.
            wall_clock: Seconds of the Unix epoch, for people to read.

        Raises:
            ConfigurationError: *size* is below 1, or *interval* no finite number of 0 or more.
        """
        if type(size) is not int or size < 1:
            message = f"decision log: size: {size!r} is not a whole number of 1 or more"
            raise ConfigurationError(message)
        if isinstance(interval, bool) or not isfinite(interval) or interval < 0:
            message = f"decision log: interval: {interval!r} is not a finite number of seconds of 0 or more"
            raise ConfigurationError(message)
        self._interval = interval
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = Lock()
        self._due = float("-inf")
        self._number = 0
        self._picked: deque[RecordedDecision] = deque(maxlen=size)
        self._refused: deque[RecordedDecision] = deque(maxlen=size)

    def picked(self, result: PickResult, /) -> None:
        """Keep a decision, if it is time for one."""
        # Without an interval every one is kept, so that each has to wait its turn.
        if self._clock() < self._due or not self._lock.acquire(blocking=not self._interval):
            return
        try:
            self._picked.append(self._explain(result))
        finally:
            self._lock.release()

    def refused(self, request: InferenceRequest, error: InferencePoolError, /) -> None:
        """Keep a decision that found nothing."""
        with self._lock:
            self._refused.append(attrs.evolve(self._describe(request), error=str(error)[:_LONGEST]))

    def decisions(self) -> tuple[RecordedDecision, ...]:
        """Give the decisions that found an endpoint, latest first."""
        with self._lock:
            return tuple(reversed(self._picked))

    def refusals(self) -> tuple[RecordedDecision, ...]:
        """Give the decisions that found nothing, latest first."""
        with self._lock:
            return tuple(reversed(self._refused))

    def _explain(self, result: PickResult) -> RecordedDecision:
        began = self._clock()
        described = attrs.evolve(
            self._describe(result.request),
            destination=result.destination,
            fallbacks=tuple(endpoint.destination for endpoint in result.fallbacks),
            seconds=result.seconds,
        )
        try:
            explanation = result.explain()
        except Exception as error:  # noqa: BLE001 - a strategy that fails when asked again must not fail the request
            return attrs.evolve(described, error=f"not explained: {type(error).__name__}: {error}"[:_LONGEST])
        finally:
            now = self._clock()
            if self._interval:
                self._due = now + max(self._interval, _PAUSE_FACTOR * (now - began))
        return attrs.evolve(
            described,
            explanation=attrs.evolve(
                explanation, candidates=explanation.candidates[:_KEPT], rejected=explanation.rejected[:_KEPT]
            ),
            candidates=len(explanation.candidates),
            rejected=len(explanation.rejected),
        )

    def _describe(self, request: InferenceRequest) -> RecordedDecision:
        self._number += 1
        tokens, more = request.prompt_tokens, sum(map(len, request.more_prompts))
        return RecordedDecision(
            number=self._number,
            at=self._wall_clock(),
            request_id=request.id,
            path=without_query(request.headers.get(":path", "")),
            model=request.model[:_LONGEST_NAME],
            fairness_id=request.fairness_id[:_LONGEST_NAME],
            priority=request.priority,
            prompt_bytes=len(request.prompt) + (more + request.prompt_unread if tokens is None else 0),
            prompt_tokens=None if tokens is None else len(tokens) + more + request.prompt_unread // _BYTES_PER_TOKEN,
            stream=request.stream,
            headers={
                name: value if name in _SHOWN_HEADERS else _HIDDEN
                for name, value in request.headers.items()
                if name != ":path"
            },
        )
