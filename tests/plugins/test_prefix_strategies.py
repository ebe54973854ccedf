"""Strategies that look at cached prefixes, and the producer that they share."""

from __future__ import annotations

from array import array
from random import Random
from threading import Thread
from typing import Any

import attrs
import pytest

from inferencepool.errors import ConfigurationError, InvalidRequestError, NotCachedError
from inferencepool.model import InferenceRequest, Snapshot
from inferencepool.picker import EndpointPicker
from inferencepool.plugins import (
    ApproxPrefixCacheProducer,
    LoadBound,
    NoHitLruScorer,
    PrefixCacheScorer,
    QueueScorer,
    build_strategy,
)
from inferencepool.prefix import HashChainIndex, PrefixTree
from inferencepool.registry import EndpointRegistry
from inferencepool.scheduling import Scheduler, SchedulingProfile, Scorer, WeightedScorer
from inferencepool.testing import make_pod, make_pool, make_snapshot
from tests.plugins.test_in_flight import hold, scores_of

PROMPT = bytes(range(256)) * 4


def holding(producer: ApproxPrefixCacheProducer, shares: list[int], model: str = "") -> ApproxPrefixCacheProducer:
    """Let so many bytes of the prompt be cached at each slot."""
    for slot, share in enumerate(shares):
        producer.index.insert(producer.index.match(PROMPT[:share], (model, "")), slot)
    return producer


class TestPrefixCacheScorer:
    """``prefix-cache-scorer``."""

    @pytest.mark.parametrize(
        ("weight", "scale", "shares", "expected"),
        [
            (0, 8192, [0, 0, 0], [0, 0, 0]),
            (0, 8192, [1024, 512, 0], [1, 0.5, 0]),
            (0, 8192, [100, 63, 1000], [1 / 16, 0, 15 / 16]),
            # 16 blocks of 16 tokens: lengths 256, 128 and 0 tokens.
            (1, 512, [1024, 512, 0], [0.25, 1 / 16, 0]),
            (1, 64, [1024, 128, 0], [1, 0.25, 0]),
            (0.5, 256, [1024, 512, 0], [1, 0.5 * 0.25 + 0.5 * 0.5, 0]),
        ],
    )
    def test_scores(self, weight: float, scale: int, shares: list[int], expected: list[float]) -> None:
        """The share of the blocks, and by its weight the square of the length's share of the scale."""
        scorer = PrefixCacheScorer(holding(ApproxPrefixCacheProducer(), shares), weight, scale)
        scheduler = Scheduler(SchedulingProfile(scorers=[scorer]), rng=Random(1))
        result = scheduler.schedule(InferenceRequest(prompt=PROMPT), make_snapshot(3))
        assert expected == pytest.approx(scores_of(result, "prefix-cache-scorer"))
        assert expected[result.slot] == max(expected)

    def test_prompts_stay_together(self) -> None:
        """The second request of a prompt goes where the first went, released or not."""
        scheduler = Scheduler(SchedulingProfile(scorers=[PrefixCacheScorer()]), rng=Random(1))
        snapshot, request = make_snapshot(50), InferenceRequest(prompt=PROMPT)
        home = scheduler.schedule(request, snapshot).slot
        assert [home] * 3 == [scheduler.schedule(request, snapshot).slot for _ in range(3)]

    @pytest.mark.parametrize(
        "fields", [{"model": "other"}, {"cache_salt": "s"}, {"prompt_tokens": [3] * 256}, {"prompt": b"!" + PROMPT}]
    )
    def test_other_spaces_share_nothing(self, fields: dict[str, Any]) -> None:
        """Another model, salt, kind of prompt or another beginning."""
        scheduler = Scheduler(SchedulingProfile(scorers=[PrefixCacheScorer()]))
        scheduler.schedule(InferenceRequest(prompt=PROMPT), make_snapshot(5))
        other = attrs.evolve(InferenceRequest(prompt=PROMPT), **fields)
        assert [0] * 5 == scores_of(scheduler.schedule(other, make_snapshot(5)), "prefix-cache-scorer")

    def test_token_ids_are_compared_as_such(self) -> None:
        """A prompt of token ids finds the earlier one with the same ids."""
        scheduler = Scheduler(SchedulingProfile(scorers=[PrefixCacheScorer()]))
        home = scheduler.schedule(InferenceRequest(prompt_tokens=list(range(64))), make_snapshot(9)).slot
        ids = [*range(48), *range(16)]
        result = scheduler.schedule(InferenceRequest(prompt_tokens=ids), make_snapshot(9))
        assert (home, 0.75) == (result.slot, scores_of(result, "prefix-cache-scorer")[home])

    def test_token_ids_that_are_none(self) -> None:
        """The request is refused, and says why."""
        scheduler = Scheduler(SchedulingProfile(scorers=[PrefixCacheScorer()]))
        with pytest.raises(InvalidRequestError, match="prompt_tokens"):
            scheduler.schedule(InferenceRequest(prompt_tokens=[-1]), make_snapshot(1))

    @pytest.mark.parametrize("as_tokens", [False, True])
    def test_several_prompts(self, *, as_tokens: bool) -> None:
        """Each has its own prefix; an endpoint scores the share of all their blocks that it holds."""

        def request(*prompts: bytes) -> InferenceRequest:
            first, *more = prompts
            if not as_tokens:
                return InferenceRequest(prompt=first, more_prompts=more)
            return InferenceRequest(prompt_tokens=list(memoryview(first).cast("I")), more_prompts=more)

        short, other = PROMPT[::-1][:512], b"!" + PROMPT[1:256]
        scheduler = Scheduler(SchedulingProfile(scorers=[PrefixCacheScorer()]), rng=Random(3))
        snapshot = make_snapshot(4)
        home = scheduler.schedule(request(PROMPT), snapshot).slot
        result = scheduler.schedule(request(other, short, PROMPT), snapshot)

        assert home == result.slot
        assert pytest.approx(16 / 28) == scores_of(result, "prefix-cache-scorer")[home]
        # All three were sent there, so each is found again, whichever stands in front.
        for prompts in ((other,), (short, other), (short,)):
            again = scheduler.schedule(request(*prompts), snapshot)
            assert (home, 1) == (again.slot, scores_of(again, "prefix-cache-scorer")[home])

    def test_matches_of_several_prompts_add_up(self) -> None:
        """Endpoints that hold different prompts of a request have as much as the blocks of theirs."""
        producer = holding(ApproxPrefixCacheProducer(), [512, 1024, 0])
        other = b"?" * 256
        for slot in (0, 2):
            producer.index.insert(producer.index.match(other, ("", "")), slot)
        match = producer.match(InferenceRequest(prompt=PROMPT, more_prompts=[other, b"short"]), make_snapshot(3))

        assert (20, [12, 16, 4]) == (match.total, [match.blocks(slot) for slot in range(3)])
        assert [16, 12, 4] == [blocks for blocks, _ in match.levels]

    def test_so_many_prompts_are_looked_at(self) -> None:
        """The number of lookups is bounded, and so is the number of blocks of all prompts together."""
        prompts = [b"%064d" % number for number in range(1_000)]
        request = InferenceRequest(prompt=prompts[0], more_prompts=prompts[1:])
        few = ApproxPrefixCacheProducer(max_prefix_tokens_to_match=160)

        assert 64 == ApproxPrefixCacheProducer().match(request, make_snapshot(1)).total
        assert 3 == ApproxPrefixCacheProducer(max_prompts_to_match=3).match(request, make_snapshot(1)).total
        assert 10 == few.match(request, make_snapshot(1)).total

    def test_several_prompts_that_wait(self) -> None:
        """All of them are remembered once the response begins."""
        producer = ApproxPrefixCacheProducer(insert_at="response")
        scheduler, snapshot = Scheduler(SchedulingProfile(scorers=[PrefixCacheScorer(producer)])), make_snapshot(1)
        result = scheduler.schedule(InferenceRequest(prompt=PROMPT, more_prompts=[b"?" * 64]), snapshot)
        assert 0 == producer.index.statistics().prompts
        result.started()
        assert 2 == producer.index.statistics().prompts

    def test_lists_of_token_ids_are_packed_once(self) -> None:
        """So that every pick costs what one with text costs; what cannot be packed is refused by the pick."""
        request = InferenceRequest(prompt_tokens=[1, 2**32 - 1])

        assert isinstance(request.prompt_tokens, array)
        assert [1, 2**32 - 1] == list(request.prompt_tokens)
        assert ["a"] == InferenceRequest(prompt_tokens=["a"]).prompt_tokens  # type: ignore[list-item]  # wrong on purpose

    @pytest.mark.parametrize("profile", [[PrefixCacheScorer()], [QueueScorer()]], ids=["prefix", "none"])
    def test_if_available(self, profile: list[Any]) -> None:
        """Where nothing of its prompt is cached, or nobody knows, the request is refused and counts nothing."""
        scheduler, snapshot = Scheduler(SchedulingProfile(scorers=profile)), make_snapshot(2)
        wanted = InferenceRequest(prompt=PROMPT, if_available=True)
        for _ in range(2):
            with pytest.raises(NotCachedError) as caught:
                scheduler.schedule(wanted, snapshot)
        assert (412, 0) == (caught.value.http_status, scheduler.in_flight)
        home = scheduler.schedule(InferenceRequest(prompt=PROMPT), snapshot).slot
        if isinstance(profile[0], PrefixCacheScorer):
            assert home == scheduler.schedule(wanted, snapshot).slot
        else:
            with pytest.raises(NotCachedError, match="no decode worker has the requested KV cache"):
                scheduler.schedule(wanted, snapshot)

    def test_affinity_yields_to_load(self) -> None:
        """With a bound, a burst of one prompt fills its endpoint up to the bound, and then the next one."""
        scorers = [WeightedScorer(PrefixCacheScorer(load_bound=LoadBound(1, 4)), 100), WeightedScorer(QueueScorer())]
        scheduler = Scheduler(SchedulingProfile(scorers=scorers), rng=Random(5))
        snapshot, request = make_snapshot(3), InferenceRequest(prompt=PROMPT)
        slots = [scheduler.schedule(request, snapshot).slot for _ in range(12)]
        assert [4, 4, 4] == [slots.count(slot) for slot in range(3)]
        assert slots[:4] == [slots[0]] * 4
        assert slots[4:8] == [slots[4]] * 4

    def test_explanations_tell_what_is_cached_and_who_is_crowded(self) -> None:
        """Beside each candidate, how much of the prompt it has, and whether load kept that from counting."""
        producer = holding(ApproxPrefixCacheProducer(), [1024, 512, 0])
        scheduler = Scheduler(SchedulingProfile(scorers=[PrefixCacheScorer(producer, load_bound=LoadBound(1, 1))]))
        snapshot, request = make_snapshot(3), InferenceRequest(prompt=PROMPT)
        assert 0 == scheduler.schedule(request, snapshot).slot
        explanation = scheduler.schedule(request, snapshot).explain()
        notes = {item.endpoint.pod_name: item.notes for item in explanation.candidates}
        assert {
            "pod-0": ("16 of 16 blocks cached, but crowded",),
            "pod-1": ("8 of 16 blocks cached",),
            "pod-2": (),
        } == notes
        assert "total  notes" in str(explanation)
        assert ["8 of 16 blocks cached"] == explanation.to_dict()["candidates"][0]["notes"]

    @pytest.mark.parametrize("prompt", [b"", b"x", b"\0" * 5_000_000, bytes(range(256)) * 40_000])
    def test_any_prompt(self, prompt: bytes) -> None:
        """Empty, short, of repeated bytes, or huge: it is picked for, and found again as far as it is looked at."""
        producer = ApproxPrefixCacheProducer(max_bytes=1 << 20)
        scheduler = Scheduler(SchedulingProfile(scorers=[PrefixCacheScorer(producer)]))
        for _ in range(3):
            scheduler.schedule(InferenceRequest(prompt=prompt), make_snapshot(2))
        statistics = producer.index.statistics()
        assert statistics.bytes <= 1 << 20
        assert statistics.prompts <= 1

    def test_salts_and_models_without_end(self) -> None:
        """What is remembered of them stays within its bound."""
        producer = ApproxPrefixCacheProducer(max_bytes=100_000)
        scheduler, snapshot = Scheduler(SchedulingProfile(scorers=[PrefixCacheScorer(producer)])), make_snapshot(3)
        for number in range(2000):
            request = InferenceRequest(model=f"m{number % 7}", cache_salt=str(number), prompt=PROMPT)
            scheduler.schedule(request, snapshot).release()
        assert 0 < producer.index.statistics().bytes <= 100_000

    def test_an_explanation_is_that_of_the_pick(self) -> None:
        """What is inserted later, the prompt itself included, does not show."""
        producer = ApproxPrefixCacheProducer()
        scheduler = Scheduler(SchedulingProfile(scorers=[PrefixCacheScorer(producer)]))
        request = InferenceRequest(prompt=PROMPT)
        first = scheduler.schedule(request, make_snapshot(2))
        second = scheduler.schedule(request, make_snapshot(2))
        assert [0, 0] == scores_of(first, "prefix-cache-scorer")
        assert [0, 1] == sorted(scores_of(second, "prefix-cache-scorer"))


class TestProducer:
    """``approx-prefix-cache-producer``."""

    def test_an_endpoint_that_went_is_forgotten(self) -> None:
        """The next occupant of its slot holds nothing, also where the request was picked before and begins later."""
        registry = EndpointRegistry(make_pool(), publish_interval=0)
        registry.upsert_pod(make_pod("a"))
        producer = ApproxPrefixCacheProducer(insert_at="response")
        picker = EndpointPicker(registry, profile=SchedulingProfile(scorers=[PrefixCacheScorer(producer)]))
        request = InferenceRequest(prompt=PROMPT)
        early, late = picker.pick(request), picker.pick(request)
        early.started()
        assert [1] == scores_by_pod(picker, request)
        registry.delete_pod("default", "a")
        registry.publish()
        registry.upsert_pod(make_pod("b", ip="10.0.0.2"))
        assert [0] == scores_by_pod(picker, request)
        late.started()
        assert [0] == scores_by_pod(picker, request)

    @pytest.mark.parametrize("compatibility", [False, True])
    @pytest.mark.parametrize(("changed", "expected"), [({}, 1), ({"uid": "2"}, 0), ({"restarts": 1}, 0)])
    def test_an_endpoint_that_comes_back(
        self, changed: dict[str, Any], expected: float, *, compatibility: bool
    ) -> None:
        """The same pod has still cached what it had; while it is away nobody has, and no newcomer gets it."""
        registry = EndpointRegistry(make_pool(), publish_interval=0)
        registry.upsert_pod(pod := attrs.evolve(make_pod("a"), uid="1"))
        producer = ApproxPrefixCacheProducer(compatibility=compatibility)
        picker = EndpointPicker(registry, profile=SchedulingProfile(scorers=[PrefixCacheScorer(producer)]))
        request = InferenceRequest(prompt=PROMPT)
        picker.pick(InferenceRequest(prompt=PROMPT))
        registry.upsert_pod(attrs.evolve(pod, ready=False))
        registry.upsert_pod(make_pod("b", ip="10.0.0.2"))
        assert not producer.match(request, registry.publish()).levels
        picker.pick(InferenceRequest(prompt=PROMPT[::-1]))
        registry.upsert_pod(attrs.evolve(pod, **changed))
        slot = registry.publish().fleet.by_id["default/a-rank-0"]
        match = producer.match(request, registry.snapshot())

        assert expected == match.blocks(slot) / match.total

    def test_a_restart_empties_the_cache(self) -> None:
        """What an endpoint had cached is forgotten when its containers restart, though it never went."""
        registry = EndpointRegistry(make_pool(), publish_interval=0)
        registry.upsert_pod(make_pod("a"))
        producer = ApproxPrefixCacheProducer()
        picker = EndpointPicker(registry, profile=SchedulingProfile(scorers=[PrefixCacheScorer(producer)]))
        request = InferenceRequest(prompt=PROMPT)
        picker.pick(request)
        assert [1] == scores_by_pod(picker, request)
        registry.upsert_pod(attrs.evolve(make_pod("a"), restarts=1))

        assert [0] == scores_by_pod(picker, request)
        assert [1] == scores_by_pod(picker, request)

    def test_prompts_of_an_endpoint_that_is_away(self) -> None:
        """A prompt that only endpoints that are away had cached is cold; levels without anybody are none."""
        registry = EndpointRegistry(make_pool(), publish_interval=0)
        pods = [attrs.evolve(make_pod(name, ip=f"10.0.0.{number}"), uid=name) for number, name in enumerate("abc", 1)]
        registry.resync(pods)
        producer = holding(ApproxPrefixCacheProducer(), [1024, 512, 512])
        request = InferenceRequest(prompt=PROMPT)
        slots = registry.snapshot().fleet.by_id
        assert [16, 8, 8] == [producer.match(request, registry.snapshot()).blocks(slot) for slot in slots.values()]
        registry.resync(pods[1:])
        assert [(8, 0b110)] == list(producer.match(request, registry.publish()).levels)
        several = attrs.evolve(request, more_prompts=(PROMPT,))
        assert [(16, 0b110)] == list(producer.match(several, registry.snapshot()).levels)
        registry.resync([])
        assert [] == list(producer.match(request, registry.publish()).levels)
        registry.resync(pods)

        assert [(16, 0b001), (8, 0b111)] == list(producer.match(request, registry.publish()).levels)

    def test_at_the_response(self) -> None:
        """A prompt counts from the response on; one whose response never began never does."""
        producer = ApproxPrefixCacheProducer(insert_at="response")
        scheduler, snapshot = Scheduler(SchedulingProfile(scorers=[PrefixCacheScorer(producer)])), make_snapshot(2)
        request = InferenceRequest(prompt=PROMPT)
        first, second = scheduler.schedule(request, snapshot), scheduler.schedule(request, snapshot)
        first.release()
        first.started()
        assert not producer.match(request, snapshot).levels or producer.index.statistics().prompts == 0
        second.detach()
        second.started()
        second.release()
        assert 1 == producer.index.statistics().prompts
        assert not producer._waiting

    def test_capacity_follows_the_engine(self) -> None:
        """An engine that reports its cache has room for as many tokens; one that does not has the default."""
        loads = {"a": {"cache_num_blocks": 4, "cache_block_size": 32}, "b": {}}
        for auto_tune, expected in ((True, [8, 16]), (False, [16, 16])):
            producer = ApproxPrefixCacheProducer(auto_tune=auto_tune)
            scheduler = Scheduler(SchedulingProfile(scorers=[PrefixCacheScorer(producer)]))
            snapshot = make_snapshot(loads)
            hold(scheduler, snapshot, [1, 1], prompt=PROMPT)
            match = producer.index.match(PROMPT, ("", ""))
            assert expected == [match.blocks(slot) for slot in range(2)]

    def test_one_for_all(self) -> None:
        """Several strategies share it: it looks each prompt up once and inserts it once."""

        @attrs.define(eq=False)
        class Counting:
            index: PrefixTree = attrs.field(factory=PrefixTree)
            calls: list[str] = attrs.field(factory=list)
            block_size = 64

            def match(self, *arguments: Any) -> Any:
                self.calls.append("match")
                return self.index.match(*arguments)

            def insert(self, *arguments: Any) -> Any:
                self.calls.append("insert")
                return self.index.insert(*arguments)

        producer, counting = ApproxPrefixCacheProducer(), Counting()
        producer.index = counting  # type: ignore[assignment]  # only what is asked for here
        scorers: list[Scorer] = [PrefixCacheScorer(producer), NoHitLruScorer(producer), QueueScorer()]
        scheduler = Scheduler(SchedulingProfile(scorers=scorers))
        scheduler.schedule(InferenceRequest(prompt=PROMPT), make_snapshot(3)).explain()
        assert ["match", "insert"] == counting.calls

    def test_compatibility(self) -> None:
        """The reference's chain of hashes, in blocks of 64 tokens."""
        producer = ApproxPrefixCacheProducer(compatibility=True)
        assert isinstance(producer.index, HashChainIndex)
        assert (64, 256) == (producer.tokens_per_block, producer.index.block_size)
        with pytest.raises(ConfigurationError, match="fingerprints: True is not possible with compatibility"):
            ApproxPrefixCacheProducer(compatibility=True, fingerprints=True)

    def test_many_prompts_that_wait(self) -> None:
        """Those whose response never begins are bounded in bytes: the oldest are not remembered, nor is a huge one."""
        producer = ApproxPrefixCacheProducer(insert_at="response", max_bytes=100_000)
        scheduler, snapshot = Scheduler(SchedulingProfile(scorers=[PrefixCacheScorer(producer)])), make_snapshot(2)
        prompts = [b"%04d" % number * 2_048 for number in range(20)]
        results = [
            scheduler.schedule(InferenceRequest(prompt=prompt), snapshot) for prompt in [*prompts, bytes(100_000)]
        ]
        for result in results:
            result.started()
        remembered = [bool(producer.index.match(prompt, ("", "")).levels) for prompt in [*prompts, bytes(100_000)]]
        assert [False] * 10 + [True] * 10 + [False] == remembered
        assert 0 == producer._waiting.currsize


def scores_by_pod(picker: EndpointPicker, request: InferenceRequest) -> list[float]:
    """What the prefix scorer gives each endpoint now."""
    explanation = picker.pick(request).explain()
    return [item.scores[0].score for item in explanation.candidates]


class TestNoHitLruScorer:
    """``no-hit-lru-scorer``."""

    def cold(self, scheduler: Scheduler, snapshot: Snapshot, number: int) -> tuple[int, list[float]]:
        """A prompt that nobody has: where it goes, and the scores."""
        result = scheduler.schedule(InferenceRequest(prompt=b"%064d" % number), snapshot)
        return result.slot, scores_of(result, "no-hit-lru-scorer")

    def test_cold_prompts_go_around(self) -> None:
        """First those that never had one, by slot; then whoever had one longest ago."""
        snapshot, scheduler = make_snapshot(3), Scheduler(SchedulingProfile(scorers=[NoHitLruScorer()]))
        assert [
            (0, [1, 0.5, 0]),
            (1, [0, 1, 0.5]),
            (2, [0.5, 0, 1]),
            (0, [1, 0.5, 0]),
            (1, [0, 1, 0.5]),
        ] == [self.cold(scheduler, snapshot, number) for number in range(5)]

    def test_warm_prompts_tell_nothing(self) -> None:
        """Where a candidate has the prompt, all score the same, and nothing is remembered."""
        scorer = NoHitLruScorer()
        scheduler, snapshot = Scheduler(SchedulingProfile(scorers=[scorer])), make_snapshot(2)
        self.cold(scheduler, snapshot, 1)
        result = scheduler.schedule(InferenceRequest(prompt=b"%064d" % 1), snapshot)
        assert [0.5, 0.5] == scores_of(result, "no-hit-lru-scorer")
        assert [0] == list(scorer._used)

    def test_one_endpoint(self) -> None:
        """It scores 1."""
        assert (0, [1]) == self.cold(Scheduler(SchedulingProfile(scorers=[NoHitLruScorer()])), make_snapshot(1), 1)

    def test_size(self) -> None:
        """Beyond its size it forgets the oldest."""
        scorer = NoHitLruScorer(lru_size=2)
        scheduler, snapshot = Scheduler(SchedulingProfile(scorers=[scorer])), make_snapshot(5)
        for number in range(4):
            self.cold(scheduler, snapshot, number)
        assert 2 == len(scorer._used)


class TestSharingByName:
    """Producers in configuration documents."""

    def test_strategies_share_the_default(self) -> None:
        """It is made when it is first needed, and found afterwards."""
        shared: dict[str, Any] = {}
        scorer: Any = build_strategy("prefix-cache-scorer", producers=shared).strategy
        tokens: Any = build_strategy("token-load-scorer", producers=shared).strategy
        item: Any = build_strategy("prefix-cache-affinity-filter", producers=shared).strategy
        assert set(shared) == {"approx-prefix-cache-producer", "inflight-load-producer"}
        assert scorer.producer is item.producer is tokens.producer.prefix
        assert tokens.producer is item.load

    def test_a_name_of_ones_own(self) -> None:
        """The parameter finds the producer that has it."""
        mine: Any = build_strategy("approx-prefix-cache-producer", {"blockSize": 32}).strategy
        named = {"prefixMatchInfoProducerName": "mine"}
        scorer: Any = build_strategy("prefix-cache-scorer", named, producers={"mine": mine}).strategy
        assert scorer.producer is mine
        assert 32 == scorer.producer.block_size_tokens

    def test_a_name_that_nobody_has(self) -> None:
        """The error tells which there are, instead of scoring 0 for ever."""
        with pytest.raises(ConfigurationError, match=r"'min' names no producer, there are approx-.*, mine"):
            build_strategy("prefix-cache-scorer", {"prefixMatchInfoProducerName": "min"}, producers={"mine": object()})

    def test_a_producer_of_another_kind(self) -> None:
        """The error says what it lacks."""
        load = build_strategy("inflight-load-producer").strategy
        with pytest.raises(ConfigurationError, match=r"prefixMatchInfoProducerName: .* is no producer with a method"):
            build_strategy("prefix-cache-scorer", {"prefixMatchInfoProducerName": "l"}, producers={"l": load})

    @pytest.mark.parametrize(
        ("type_name", "parameters", "message"),
        [
            ("prefix-cache-scorer", {"matchLengthWeight": 1.5}, "matchLengthWeight: 1.5 is not a number from 0"),
            (
                "prefix-cache-scorer",
                {"matchLengthScaleTokens": 0, "matchLengthWeight": 0.1},
                "matchLengthScaleTokens: 0 is not a whole number",
            ),
            ("prefix-cache-scorer", {"loadFactor": 0.5}, "prefix-cache-scorer: loadFactor: 0.5 is not a finite number"),
            (
                "prefix-cache-scorer",
                {"loadFactor": 1, "loadSlack": 0},
                "prefix-cache-scorer: loadSlack: 0 is not",
            ),
            ("prefix-cache-scorer", {"loadSlack": 3}, "loadSlack: 3 has no effect without loadFactor"),
            (
                "prefix-cache-affinity-filter",
                {"affinityThreshold": 1.1},
                "affinityThreshold: 1.1 is not a number",
            ),
            (
                "prefix-cache-affinity-filter",
                {"ttftSource": "latencyPredictor"},
                "ttftSource: 'latencyPredictor' is",
            ),
            (
                "approx-prefix-cache-producer",
                {"blockSizeTokens": 0, "autoTune": False},
                "blockSizeTokens: 0 is not a whole number from 1",
            ),
            ("approx-prefix-cache-producer", {"insertAt": "never"}, "insertAt: 'never' is none of 'pick', 'response'"),
            ("approx-prefix-cache-producer", {"maxBytes": 0}, "maxBytes: 0 is not a whole number from 1"),
            ("inflight-load-producer", {"syncCrossReplicaState": 1}, "syncCrossReplicaState: 1 is neither true"),
            ("inflight-load-producer", {"outputRatio": -1}, "outputRatio: -1 is not a finite number of 0 or more"),
            ("no-hit-lru-scorer", {"lruSize": "0"}, "lruSize: '0' is not a whole number from 1"),
            ("token-load-scorer", {"queueThresholdTokens": "x"}, "queueThresholdTokens: 'x' is not a whole number"),
            ("active-request-scorer", {"maxBusyScore": "x"}, "maxBusyScore: 'x' is not a number from 0 to 1"),
            ("warm-up-filter", {"share": 0}, "share: 0 is not a number from 0.001 to 10"),
        ],
    )
    def test_refuses(self, type_name: str, parameters: dict[str, Any], message: str) -> None:
        """The error names the strategy, the parameter as documents do, its value and what is allowed."""
        with pytest.raises(ConfigurationError) as caught:
            build_strategy(type_name, parameters)
        assert str(caught.value).startswith(f"{type_name}: ")
        assert message in str(caught.value)

    def test_values_that_stand_for_the_default(self) -> None:
        """As in the reference, what is out of range there is the default for some."""
        active: Any = build_strategy("active-request-scorer", {"maxBusyScore": 3, "requestTimeout": "1m"}).strategy
        tokens: Any = build_strategy("token-load-scorer", {"queueThresholdTokens": -1}).strategy
        assert (1.0, 4_194_304) == (active.max_busy_score, tokens.queue_threshold_tokens)
        lru: Any = build_strategy("no-hit-lru-scorer", {"prefixPluginName": "x", "prefixPluginType": "y"}).strategy
        assert lru.lru_size == 1024

    @pytest.mark.parametrize(
        ("type_name", "parameters", "attribute", "expected"),
        [
            ("active-request-scorer", {"idleThreshold": -1}, "idle_threshold", 0),
            ("active-request-scorer", {"idleThreshold": None}, "idle_threshold", 0),
            ("load-aware-scorer", {"threshold": None}, "threshold", 128),
            ("no-hit-lru-scorer", {"lruSize": 0}, "lru_size", 1024),
            ("approx-prefix-cache-producer", {"blockSizeTokens": 0}, "block_size_tokens", 16),
            ("approx-prefix-cache-producer", {"blockSizeTokens": 16, "blockSize": 32}, "block_size_tokens", 32),
            ("approx-prefix-cache-producer", {"blockSize": 0}, "block_size_tokens", 16),
            ("approx-prefix-cache-producer", {"lruCapacityPerServer": -1}, "lru_capacity_per_server", 31_250),
            ("inflight-load-producer", {"maxEstimatedOutputTokens": -1}, "max_estimated_output_tokens", None),
            ("inflight-load-producer", {"outputRatio": None}, "output_ratio", 1.5),
            ("prefix-cache-scorer", {"matchLengthScaleTokens": 0}, "match_length_scale_tokens", 8192),
            (
                "prefix-cache-affinity-filter",
                {"maxTTFTPenaltyMs": 0, "peakPrefillThroughput": 0},
                "peak_prefill_throughput",
                15_928,
            ),
            ("prefix-cache-scorer", {"prefixMatchInfoProducerName": ""}, "match_length_weight", 0),
        ],
    )
    def test_zeros_negatives_and_nulls_as_in_the_reference(
        self, type_name: str, parameters: dict[str, Any], attribute: str, expected: object
    ) -> None:
        """What the reference passes over stands for the default, a null anywhere."""
        assert expected == getattr(build_strategy(type_name, parameters).strategy, attribute)

    def test_what_is_required_may_not_be_null(self) -> None:
        """A null is no value."""
        with pytest.raises(ConfigurationError, match="by-label: label: is missing, but required"):
            build_strategy("by-label", {"label": None, "allowsNoLabel": True})


def test_equal_weights_and_equal_loads() -> None:
    """A prefix outweighs a queue by its weight, no more."""
    snapshot = make_snapshot({"a": {"waiting_queue_size": 1}, "b": {"waiting_queue_size": 0}})
    for weight, expected in ((3, "a"), (1, "b")):
        producer = holding(ApproxPrefixCacheProducer(), [1024, 0])
        scorers = [WeightedScorer(QueueScorer(), 2), WeightedScorer(PrefixCacheScorer(producer), weight)]
        result = Scheduler(SchedulingProfile(scorers=scorers)).schedule(InferenceRequest(prompt=PROMPT), snapshot)
        assert expected == result.endpoint.pod_name


def test_the_newest_snapshot_tells_the_size_of_a_cache() -> None:
    """Where two threads tell a producer what engines report, the older snapshot does not have the last word."""
    producer = ApproxPrefixCacheProducer()
    older, newer = (
        make_snapshot({"a": {"cache_num_blocks": blocks, "cache_block_size": 16}}, generation=generation)
        for generation, blocks in ((1, 100), (2, 900))
    )
    picks = [
        Scheduler(SchedulingProfile(scorers=[PrefixCacheScorer(producer)])).schedule(
            InferenceRequest(prompt=PROMPT), snapshot
        )
        for snapshot in (older, newer)
    ]
    told: list[int] = []

    class Slow:
        """The index, with another thread that comes in between."""

        def __init__(self, index: Any) -> None:
            self.index = index

        def __getattr__(self, name: str) -> Any:
            return getattr(self.index, name)

        def set_capacity(self, slot: int, blocks: int) -> None:
            """Let the newer pick overtake the older one, as far as locks allow."""
            if not told:
                told.append(-1)
                other.start()
                other.join(0.2)
            self.index.set_capacity(slot, blocks)
            told.append(blocks)

    other = Thread(target=producer.picked, args=(picks[1],))
    producer._sizes.clear()
    producer.index = Slow(producer.index)  # type: ignore[assignment]  # it asks the index for all but one thing
    producer.picked(picks[0])
    other.join()

    assert 900 == told[-1]
    producer.picked(picks[0])
    assert 900 == told[-1]
