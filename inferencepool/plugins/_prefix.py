"""Strategies that look at where a prompt's beginning is cached."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import ClassVar

import attrs

from inferencepool._checks import checked_method, checked_number, checked_whole_number
from inferencepool.model import EndpointSet, InferenceRequest
from inferencepool.plugins._in_flight import InflightLoadProducer
from inferencepool.plugins._load_bound import LoadBound, checked_bound
from inferencepool.plugins._prefix_producer import ApproxPrefixCacheProducer
from inferencepool.scheduling import CandidateSet

__all__ = ["PrefixCacheAffinityFilter", "PrefixCacheScorer"]

_SCORER = "prefix-cache-scorer"
_FILTER = "prefix-cache-affinity-filter"


@attrs.frozen(eq=False)
class PrefixCacheScorer:
    """
    Prefer the endpoints that have most of the prompt's beginning in their prefix cache.

    The score is the share of the prompt's blocks that an endpoint holds. With *match_length_weight* a part of it comes
    from how long the match is instead, ``min(1, matched tokens / match_length_scale_tokens) ** 2``: missing half of a
    long prompt costs more prefill than missing half of a short one.

    With a *load_bound* crowded endpoints score 0, so that one busy prefix cannot pile up on one endpoint.

    *When to choose it:* nearly always: shared system prompts and conversations make prefixes repeat, and what is cached
    need not be prefilled.

    *Looks at:* the prompt, and which prompts went where before; with a bound at the picks in flight.

    *Configuration:* type ``prefix-cache-scorer``; ``matchLengthWeight`` (0 to 1, default 0), ``matchLengthScaleTokens``
    (1 or more where it has a weight, default 8192) and ``prefixMatchInfoProducerName`` (the producer to use, default
    ``approx-prefix-cache-producer``). Beyond the reference: ``loadFactor`` (1 or more, default none) and ``loadSlack``
    (1 or more, default 8), see `LoadBound`.

    Attributes:
        producer: Knows what is cached where.
        match_length_weight: Share of the score that the length of the match has.
        match_length_scale_tokens: Length from which on a match scores 1, in tokens.
        load_bound: From when on endpoints are crowded; None for never.

    Raises:
        ConfigurationError: A parameter is out of its range or of the wrong type.
    """

    producer: ApproxPrefixCacheProducer = attrs.field(
        factory=ApproxPrefixCacheProducer, validator=checked_method(_SCORER, "match", "producer")
    )
    match_length_weight: float = attrs.field(default=0.0, validator=checked_number(_SCORER, 0, 1))
    match_length_scale_tokens: int = attrs.field(default=8192, validator=checked_whole_number(_SCORER, 1))
    load_bound: LoadBound | None = attrs.field(default=None, validator=checked_bound(_SCORER))

    @property
    def producers(self) -> tuple[object, ...]:
        """What it shares with other strategies."""
        return (self.producer,)

    def affinities_among(
        self, request: InferenceRequest, candidates: CandidateSet, /
    ) -> Sequence[tuple[float, EndpointSet]]:
        """Give one set for each depth of the match, in O(depths)."""
        producer, produced = self.producer, request.produced
        match = produced.get(producer) if produced else None
        if match is None:
            match = producer.match(request, candidates.snapshot)
        levels, total, weight = match.levels, match.total, self.match_length_weight
        if not levels:
            return ()
        if self.load_bound is not None:
            allowed = self.load_bound.allowed(candidates)
            levels = [(blocks, members & allowed) for blocks, members in levels]
        if not weight:
            return [(blocks / total, members) for blocks, members in levels]
        scale = producer.tokens_per_block / self.match_length_scale_tokens
        return [
            (weight * min(1.0, blocks * scale) ** 2 + (1 - weight) * blocks / total, members)
            for blocks, members in levels
        ]

    def notes(self, request: InferenceRequest, candidates: CandidateSet, /) -> Sequence[tuple[str, EndpointSet]]:
        """Tell how many blocks are cached, and who is crowded."""
        match = self.producer.match(request, candidates.snapshot)
        crowded = 0
        if self.load_bound is not None and match.levels:
            crowded = match.levels[-1][1] & ~self.load_bound.allowed(candidates)
        cached = [(f"{blocks} of {match.total} blocks cached", members) for blocks, members in match.levels]
        return [(f"{text}, but crowded", members & crowded) for text, members in cached] + cached


@attrs.frozen(eq=False)
class PrefixCacheAffinityFilter:
    """
    Keep the endpoints that have most of the prompt cached, unless waiting for them would take longer than it saves.

    Endpoints that hold *affinity_threshold* of the prompt's blocks or more are kept, and all others dropped. All are
    kept where nobody holds so much; with the probability *exploration_probability*; and where the best of those that
    hold it would answer more than *max_ttft_penalty_ms* later than the best of the others. When an endpoint answers is
    estimated from the tokens that it has to prefill and *peak_prefill_throughput*. What it drops may be a fallback.

    *When to choose it:* where prompts share long prefixes and load scores alone should decide among those who hold it.

    *Looks at:* the prompt, which prompts went where before, and the tokens in flight.

    *Configuration:* type ``prefix-cache-affinity-filter``; ``affinityThreshold`` (at most 1, default 0.8; 0 or less
    keeps all), ``explorationProbability`` (0 to 1, default 0), ``maxTTFTPenaltyMs`` (default 18000; 0 or less for no
    limit), ``peakPrefillThroughput`` (tokens in a second, above 0, default 15928), ``ttftSource`` (only
    ``prefillThroughput``), ``prefixMatchInfoProducerName`` and ``inFlightLoadProducerName``.

    Attributes:
        producer: Knows what is cached where.
        load: Measures the tokens in flight.
        affinity_threshold: Share of the prompt's blocks that an endpoint must hold.
        exploration_probability: How often all endpoints are kept whatever they hold.
        max_ttft_penalty_ms: How much later than others an endpoint that holds the prompt may answer, in milliseconds.
        peak_prefill_throughput: Tokens that an endpoint prefills in a second.

    Raises:
        ConfigurationError: A parameter is out of its range or of the wrong type.
    """

    is_preference: ClassVar[bool] = True

    producer: ApproxPrefixCacheProducer = attrs.field(
        factory=ApproxPrefixCacheProducer, validator=checked_method(_FILTER, "match", "producer")
    )
    load: InflightLoadProducer = attrs.field(
        default=attrs.Factory(lambda self: InflightLoadProducer(self.producer), takes_self=True),
        validator=checked_method(_FILTER, "amounts", "producer"),
    )
    affinity_threshold: float = attrs.field(default=0.8, validator=checked_number(_FILTER, -inf, 1))
    exploration_probability: float = attrs.field(default=0.0, validator=checked_number(_FILTER, 0, 1))
    max_ttft_penalty_ms: float = attrs.field(default=18_000, validator=checked_number(_FILTER, -inf))
    peak_prefill_throughput: float = attrs.field(default=15_928, validator=checked_number(_FILTER, 1e-3))

    @property
    def producers(self) -> tuple[object, ...]:
        """What it shares with other strategies."""
        return (self.producer, self.load)

    def narrow(self, request: InferenceRequest, candidates: CandidateSet, /) -> EndpointSet:
        """Keep the endpoints that hold the prompt, in O(depths + distinct amounts of tokens in flight)."""
        members, threshold = candidates.members, self.affinity_threshold
        if threshold <= 0 or members.bit_count() == 1 or self._explores(request, candidates):
            return members
        match = self.producer.match(request, candidates.snapshot)
        holders = 0
        for blocks, slots in match.levels:
            if blocks / match.total < threshold:
                break
            holders = slots & members
        return holders if holders and not self._takes_longer(candidates, holders) else members

    def _explores(self, request: InferenceRequest, candidates: CandidateSet) -> bool:
        chance = self.exploration_probability
        if not chance:
            return False
        produced = request.produced if request.produced is not None else {}
        drawn: bool = produced.setdefault(self, candidates.rng.random() < chance)
        return drawn

    def _takes_longer(self, candidates: CandidateSet, holders: EndpointSet) -> bool:
        """Tell whether the best of *holders* answers so much later than the best of the others."""
        others = candidates.members & ~holders
        if self.max_ttft_penalty_ms <= 0 or not others:
            return False
        tokens = (candidates.least_amount(self.load, holders) or 0) - (candidates.least_amount(self.load, others) or 0)
        return tokens / self.peak_prefill_throughput * 1000 > self.max_ttft_penalty_ms
