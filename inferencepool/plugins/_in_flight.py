"""Load by what this picker itself has in flight: requests, and tokens."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from inferencepool._checks import checked_flag, checked_method, checked_number, checked_whole_number
from inferencepool.model import Candidates, EndpointSet, InferenceRequest, Snapshot
from inferencepool.plugins._prefix_producer import ApproxPrefixCacheProducer
from inferencepool.plugins._tokens import estimate_tokens
from inferencepool.scheduling import MAX_LOAD, CandidateSet, Demand, LinearLoad

__all__ = ["ActiveRequestScorer", "InflightLoadProducer", "TokenLoadScorer"]

_PRODUCER = "inflight-load-producer"
_ACTIVE = "active-request-scorer"
_TOKENS = "token-load-scorer"


@attrs.frozen(eq=False)
class InflightLoadProducer:
    """
    Measure requests by the tokens that an endpoint has yet to work on for them.

    A request counts the tokens of its prompt that the endpoint does not have cached, until its response begins. With
    *add_estimated_output_tokens* it also counts the tokens to come, ``output_ratio`` times its prompt and no more than
    the request or *max_estimated_output_tokens* allow, and all of it until the response has ended.

    *When to choose it:* by strategies that look at tokens in flight; they share one, and create it by themselves.

    *Looks at:* the prompt and the token limit of each request, and what is cached where.

    *Configuration:* type ``inflight-load-producer``; ``addEstimatedOutputTokens`` (default false), ``outputRatio`` (0
    or more, default 1.5), ``maxEstimatedOutputTokens`` (default none, below 0 as well) and
    ``prefixMatchInfoProducerName`` (default ``approx-prefix-cache-producer`` where there is one,
    else all tokens count as not cached);
    ``syncCrossReplicaState`` changes nothing: there are no other replicas to hear from.

    It holds no state: the scheduler keeps the sums, and counts a pick in the step that makes it.

    Attributes:
        prefix: Knows what is cached where; None for nothing.
        add_estimated_output_tokens: Whether the response counts too.
        output_ratio: Tokens of the response for each of the prompt.
        max_estimated_output_tokens: Most tokens that a response counts; None for no limit.

    Raises:
        ConfigurationError: A parameter is out of its range or of the wrong type.
    """

    prefix: ApproxPrefixCacheProducer | None = attrs.field(
        default=None, validator=attrs.validators.optional(checked_method(_PRODUCER, "match", "producer"))
    )
    add_estimated_output_tokens: bool = attrs.field(default=False, validator=checked_flag(_PRODUCER))
    output_ratio: float = attrs.field(default=1.5, validator=checked_number(_PRODUCER, 0))
    max_estimated_output_tokens: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(checked_whole_number(_PRODUCER, 0))
    )

    @property
    def producers(self) -> tuple[object, ...]:
        """What it shares with others."""
        return () if self.prefix is None else (self.prefix,)

    @property
    def until_started(self) -> bool:
        """Whether the tokens of a request count only until its response begins."""
        return not self.add_estimated_output_tokens

    def amounts(self, request: InferenceRequest, snapshot: Snapshot, /) -> Demand:
        """Count the tokens of *request*, and how many less they are where its prefix is cached; O(depths)."""
        tokens = estimate_tokens(request)
        output = self._output(request, tokens) if self.add_estimated_output_tokens else 0
        demand = Demand(min(tokens + output, MAX_LOAD))
        if self.prefix is not None:
            match, size = self.prefix.match(request, snapshot), self.prefix.tokens_per_block
            demand.less = [
                (min(self._uncached(tokens, blocks, match.total, size) + output, MAX_LOAD), members)
                for blocks, members in match.levels
            ]
        return demand

    @staticmethod
    def _uncached(tokens: int, blocks: int, total: int, size: int) -> int:
        return (total - blocks) * size + max(0, tokens - total * size)

    def _output(self, request: InferenceRequest, tokens: int) -> int:
        limits = (request.max_output_tokens, self.max_estimated_output_tokens)
        exact = min(tokens * self.output_ratio, MAX_LOAD)
        # Halves go away from zero, as the reference rounds.
        estimate = int(exact) + (exact % 1 >= 0.5)  # noqa: PLR2004 - a half
        return min((estimate, *(limit for limit in limits if limit is not None)))


@attrs.frozen
class ActiveRequestScorer:
    """
    Prefer the endpoints with the fewest picks in flight.

    An endpoint with *idle_threshold* picks in flight or fewer scores 1; any other
    ``(most - in flight) / most * max_busy_score``, where *most* is what the busiest candidate has.

    *When to choose it:* when engines report no load, or report it too seldom.

    *Looks at:* the picks that were not released yet. Needs picks to be released when their requests end.

    *Configuration:* type ``active-request-scorer``; ``idleThreshold`` (default 0, as which numbers below it
    count), ``maxBusyScore`` (default
    1.0; one outside 0 to 1 stands for the default), ``inFlightLoadProducerName`` and ``requestTimeout``, which both
    change nothing: the scheduler itself counts picks, and only a release ends one.

    Attributes:
        idle_threshold: Picks in flight up to which an endpoint counts as idle.
        max_busy_score: What an endpoint scores at most that is not idle.

    Raises:
        ConfigurationError: A parameter is out of its range or of the wrong type.
    """

    idle_threshold: int = attrs.field(default=0, validator=checked_whole_number(_ACTIVE, 0))
    max_busy_score: float = attrs.field(default=1.0, validator=checked_number(_ACTIVE, 0, 1))

    def affinities_among(
        self, _request: InferenceRequest, candidates: CandidateSet, /
    ) -> Sequence[tuple[float, EndpointSet]]:
        """Give one set for each number of picks in flight, in O(distinct numbers)."""
        idle, busiest = self.idle_threshold, self.max_busy_score
        by_count = candidates.by_in_flight()
        most = by_count[-1][0]
        if most <= idle:
            return [(1.0, candidates.members)]
        return [
            (1.0 if count <= idle else (most - count) / most * busiest, members)
            for count, members in by_count
            if count < most
        ]


@attrs.frozen(eq=False)
class TokenLoadScorer:
    """
    Prefer the endpoints that have the fewest tokens to work on, this request's included.

    The score is ``1 - tokens / queue_threshold_tokens``, where *tokens* are those in flight at the endpoint and those
    of this request that it does not have cached. Beyond the threshold it falls below 0, where the reference's stays 0.

    *When to choose it:* when prompts differ much in length, so that equal numbers of requests hide unequal work.

    *Looks at:* the prompt, what is cached where, and the tokens in flight by this picker's own count.

    *Configuration:* type ``token-load-scorer``; ``queueThresholdTokens`` (default 4194304; 0 or less stands for the
    default) and ``inFlightLoadProducerName`` (the measure to use, default ``inflight-load-producer``).

    Attributes:
        producer: Measures the tokens.
        queue_threshold_tokens: Tokens at which an endpoint scores 0.

    Raises:
        ConfigurationError: A parameter is out of its range or of the wrong type.
    """

    producer: InflightLoadProducer = attrs.field(
        factory=InflightLoadProducer, validator=checked_method(_TOKENS, "amounts", "producer")
    )
    queue_threshold_tokens: int = attrs.field(default=4_194_304, validator=checked_whole_number(_TOKENS, 1))

    @property
    def producers(self) -> tuple[object, ...]:
        """What it shares with other strategies."""
        return (self.producer,)

    def score_load(self, candidates: Candidates, /) -> LinearLoad:
        """Score ``(threshold - tokens) / threshold``."""
        most = self.queue_threshold_tokens
        return LinearLoad([0] * len(candidates), most, 1 / most, of=self.producer)
