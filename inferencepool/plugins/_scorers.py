"""Scorers that look at the load of an endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs

from inferencepool._checks import checked_whole_number
from inferencepool.model import Candidates
from inferencepool.scheduling import LinearLoad

__all__ = [
    "KvCacheUtilizationScorer",
    "LoadAwareScorer",
    "QueueScorer",
    "RunningRequestsSizeScorer",
]

# Fewer than this many requests more or less do not make an engine busy: it batches many more.
_PENDING_SPAN = 5


@attrs.frozen
class QueueScorer:
    """
    Prefer the endpoints with the shortest queue.

    The shortest queue among the candidates scores 1, the longest 0, and those between in proportion; when all are
    equal, all score 1. A pick that the metrics do not cover yet counts as one waiting request; but where the queues
    differ by less than *pending_span*, as if they differed by so many. An engine that has room starts a request at
    once, and one request more does not undo what a cached prompt is worth. Many of them do.

    *When to choose it:* nearly always. A queue is the first sign that an engine has more work than it can batch.

    *Looks at:* `waiting_queue_size` of the candidates.

    *Configuration:* type ``queue-scorer``; beyond the reference ``pendingSpan``, a whole number of 1 or more (5).

    Attributes:
        pending_span: Pending requests that take a whole point off, where queues are equal.

    Raises:
        ConfigurationError: *pending_span* is no whole number of 1 or more.
    """

    pending_span: int = attrs.field(default=_PENDING_SPAN, validator=checked_whole_number("queue-scorer", 1))

    def score_load(self, candidates: Candidates, /) -> LinearLoad:
        """Score ``(longest - queue) / (longest - shortest)``."""
        return LinearLoad.relative(candidates.waiting_queue_size, self.pending_span)


@attrs.frozen
class RunningRequestsSizeScorer:
    """
    Prefer the endpoints that work on the fewest requests.

    The same rule as `QueueScorer`, for pending requests too, on those that the engine runs instead of those that wait.

    *When to choose it:* when the fleet has room for everything, so that all queues are empty and tell nothing.

    *Looks at:* `running_requests` of the candidates.

    *Configuration:* type ``running-requests-size-scorer``; beyond the reference ``pendingSpan``, as for `QueueScorer`.

    Attributes:
        pending_span: Pending requests that take a whole point off, where all run equally many.

    Raises:
        ConfigurationError: *pending_span* is no whole number of 1 or more.
    """

    pending_span: int = attrs.field(
        default=_PENDING_SPAN, validator=checked_whole_number("running-requests-size-scorer", 1)
    )

    def score_load(self, candidates: Candidates, /) -> LinearLoad:
        """Score ``(most - running) / (most - fewest)``."""
        return LinearLoad.relative(candidates.running_requests, self.pending_span)


@attrs.frozen
class LoadAwareScorer:
    """
    Prefer short queues on an absolute scale, and never by more than half a point.

    An empty queue scores 0.5, a queue of *threshold* requests or more scores 0, and those between in proportion. The
    other half of the range stays free, so that an affinity of the same weight outweighs any difference in load.

    *When to choose it:* beside a scorer of affinity (prefix cache, LoRA) that a short queue elsewhere should not undo.

    *Looks at:* `waiting_queue_size` of the candidates.

    *Configuration:* type ``load-aware-scorer``; ``threshold``, a whole number of 1 or more (default 128).

    Attributes:
        threshold: Queue length, in requests, from which on an endpoint scores 0.

    Raises:
        ConfigurationError: *threshold* is no whole number of 1 or more.
    """

    threshold: int = attrs.field(default=128, validator=checked_whole_number("load-aware-scorer", 1))

    def score_load(self, candidates: Candidates, /) -> LinearLoad:
        """Score ``0.5 * (threshold - queue) / threshold``, with the queue capped at the threshold."""
        most = self.threshold
        return LinearLoad([min(waiting, most) for waiting in candidates.waiting_queue_size], most, 0.5 / most)


@attrs.frozen
class KvCacheUtilizationScorer:
    """
    Prefer the endpoints with the most free KV cache.

    *When to choose it:* when requests differ much in length, so that equal queues hide unequal memory: an engine whose
    cache is full preempts requests and computes them again.

    *Looks at:* `kv_cache_usage` of the candidates, the used share from 0 to 1.

    *Configuration:* type ``kv-cache-utilization-scorer``, no parameters.
    """

    pointwise: ClassVar[bool] = True

    def score_endpoints(self, candidates: Candidates, /) -> Sequence[float]:
        """Score ``1 - usage``."""
        return [1 - usage for usage in candidates.kv_cache_usage]
