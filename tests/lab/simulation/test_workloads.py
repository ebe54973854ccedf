from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import ConfigurationError
from inferencepool.lab.simulation import (
    WORKLOADS,
    Arrival,
    Bursts,
    Chats,
    LongDocuments,
    LoraMix,
    Prompt,
    SharedPrompts,
    ZipfPrompts,
    parse_workload,
)
from inferencepool.lab.simulation._draws import length, zipf_choice

CHAT_FIELDS = ("turns", "pause_seconds", "groups", "prefix_tokens", "message_tokens", "output_tokens")


def summary(arrivals: list[Arrival]) -> list[tuple[object, ...]]:
    """What can be compared of *arrivals* of two runs."""
    return [
        (each.at, each.prompt.to_bytes(), each.output_tokens, each.adapter, each.session, repr(each.answer))
        for each in arrivals
    ]


class TestEveryWorkload:
    @pytest.mark.parametrize("name", list(WORKLOADS))
    def test_the_same_seed_makes_the_same_requests(self, name: str) -> None:
        """Requests repeat with the seed, and differ with another."""
        make = WORKLOADS[name]().arrivals
        one, again, other = (list(make(rate=20, duration=30, seed=seed)) for seed in (1, 1, 2))

        assert summary(one) == summary(again)
        assert summary(one) != summary(other)

    @pytest.mark.parametrize("name", list(WORKLOADS))
    @given(st.floats(0.5, 10), st.floats(0, 40), st.integers(0, 5))
    def test_requests_come_in_order_and_in_time(self, name: str, rate: float, duration: float, seed: int) -> None:
        """Requests come in order, between 0 and the duration, with a prompt and an answer of 1 token or more."""
        arrivals = list(WORKLOADS[name]().arrivals(rate=rate, duration=duration, seed=seed))

        assert all(one.at <= other.at for one, other in pairwise(arrivals))
        assert all(0 <= each.at < duration and each.output_tokens >= 1 <= each.prompt.tokens for each in arrivals)

    @pytest.mark.parametrize("name", sorted(set(WORKLOADS) - {"bursts"}))
    def test_requests_come_at_the_rate_that_was_asked_for(self, name: str) -> None:
        """Over a long time the number of requests is that of the rate, to within a tenth."""
        arrivals = list(WORKLOADS[name]().arrivals(rate=50, duration=200, seed=4))

        assert 0.9 <= len(arrivals) / 10_000 <= 1.1

    @pytest.mark.parametrize("name", list(WORKLOADS))
    def test_prompts_differ_where_their_lineage_does(self, name: str) -> None:
        """Texts of different prompts differ, within the first tokens after what they share."""
        arrivals = list(WORKLOADS[name]().arrivals(rate=5, duration=30, seed=5))
        prompts = {each.prompt for each in arrivals}
        for prompt in prompts:
            parent = prompt.parent
            shared = parent.tokens * 4 if parent is not None else 0
            siblings = {other.to_bytes()[shared : shared + 64] for other in prompts if other.parent is parent}
            long = [other for other in prompts if other.parent is parent and other.added_tokens >= 16]
            assert len(siblings) >= len(long)

        assert {len(prompt.to_bytes()) - 4 * prompt.tokens for prompt in prompts} == {0}


class TestParticulars:
    def test_shared_prompts_have_as_many_beginnings_as_groups(self) -> None:
        """Every request begins with one of the system prompts, each about equally often."""
        arrivals = SharedPrompts(groups=4, prefix_tokens=100).arrivals(rate=100, duration=100, seed=1)
        counts = Counter(each.prompt.parent for each in arrivals)

        assert {100} == {prompt.tokens for prompt in counts if prompt is not None}
        assert 4 == len(counts)
        assert max(counts.values()) < 1.1 * min(counts.values())

    def test_zipf_prompts_are_uneven(self) -> None:
        """The commonest system prompt comes up about twice as often as the second, with an exponent of 1."""
        arrivals = list(ZipfPrompts(groups=1000).arrivals(rate=100, duration=200, seed=1))
        first, second = (count for _, count in Counter(each.prompt.parent for each in arrivals).most_common(2))

        assert 1.6 < first / second < 2.5

    def test_each_turn_of_a_chat_begins_with_the_turn_and_the_answer_before(self) -> None:
        """The prompt of a turn goes on from the answer of the turn before it, in the same session."""
        arrivals = list(Chats(turns=5, pause_seconds=2).arrivals(rate=5, duration=60, seed=1))
        before: dict[str, Arrival] = {}
        followed = 0
        for turn in arrivals:
            if turn.session in before:
                followed += 1
                assert turn.prompt.parent is before[turn.session].answer
                assert turn.at >= before[turn.session].at + 1
            before[turn.session] = turn
            assert turn.answer is not None
            assert turn.prompt.tokens + turn.output_tokens == turn.answer.tokens
        assert followed > len(arrivals) / 2

    def test_chats_are_under_way_from_the_beginning(self) -> None:
        """The first ten seconds have about as many requests as the last ten, some of them far into a conversation."""
        arrivals = list(Chats(turns=8, pause_seconds=10).arrivals(rate=100, duration=100, seed=1))
        first = [each for each in arrivals if each.at < 10]
        last = [each for each in arrivals if each.at >= 90]

        assert 0.75 < len(first) / len(last) < 1.35
        assert any(len(each.prompt.lineage()) > 10 for each in first)

    def test_questions_about_a_document_begin_with_it(self) -> None:
        """Every prompt is a document and a question."""
        arrivals = list(LongDocuments(documents=5, exponent=0).arrivals(rate=10, duration=60, seed=1))

        assert 5 == len({each.prompt.parent for each in arrivals})
        assert {2} == {len(each.prompt.lineage()) for each in arrivals}

    def test_a_burst_of_one_prompt_is_one_prompt(self) -> None:
        """All requests of a burst have the same prompt, and come within its time."""
        arrivals = list(Bursts(burst_requests=30, burst_seconds=0.5).arrivals(rate=1, duration=40, seed=1))
        bursts: dict[Prompt, list[float]] = {}
        for each in arrivals:
            if each.prompt.id.startswith("burst"):
                bursts.setdefault(each.prompt, []).append(each.at)

        assert [30, 30] == [len(times) for times in bursts.values()]
        assert [10.0, 30.0] == [times[0] for times in bursts.values()]
        assert all(times[-1] - times[0] < 0.5 for times in bursts.values())

    def test_a_burst_of_many_prompts_has_one_for_each_request(self) -> None:
        """Without one prompt for all, no two requests share anything."""
        arrivals = Bursts(burst_requests=30, same_prompt=False).arrivals(rate=1, duration=20, seed=1)

        assert 30 == len({each.prompt for each in arrivals if each.prompt.id.startswith("burst")})

    def test_a_burst_ends_with_the_workload(self) -> None:
        """Of a burst that the end of the workload cuts off, only the beginning comes."""
        arrivals = list(Bursts(burst_requests=100, burst_seconds=10).arrivals(rate=1, duration=15, seed=1))

        assert 50 == sum(each.prompt.id.startswith("burst") for each in arrivals)

    def test_adapters_have_a_system_prompt_each(self) -> None:
        """Requests of one adapter begin alike, and a share of all needs none."""
        arrivals = list(LoraMix(adapters=3, base_share=0.25).arrivals(rate=100, duration=100, seed=1))
        beginnings = {(each.adapter, each.prompt.parent) for each in arrivals}
        without = sum(not each.adapter for each in arrivals) / len(arrivals)

        assert 4 == len(beginnings) == len({prompt for _, prompt in beginnings})
        assert 0.22 < without < 0.28


class TestParameters:
    def test_a_workload_is_read_with_its_parameters(self) -> None:
        """A name alone has the defaults, and parameters in parentheses change some of them."""
        assert Chats() == parse_workload(" chats ")
        assert Chats(turns=2.5, groups=1) == parse_workload("chats(turns=2.5, groups=1)")
        assert Bursts(same_prompt=False) == parse_workload("bursts(same_prompt=false)")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("chat", "workload 'chat': 'chat' is no known workload, allowed are " + ", ".join(WORKLOADS)),
            ("", "workload '': at its end: the name of a workload is missing"),
            ("chats(", "workload 'chats(': at its end: the name of a parameter is missing"),
            ("chats(turns)", "workload 'chats(turns)': at ')': '=' is missing"),
            ("chats(turns=)", "workload 'chats(turns=)': at ')': a value is missing"),
            ("chats(turns=4 groups=2)", "workload 'chats(turns=4 groups=2)': at 'groups=2)': ',' or ')' is missing"),
            ("chats(turns=4,turns=4)", "workload 'chats(turns=4,turns=4)': at '=4)': parameter turns is given twice"),
            ("chats() x", "workload 'chats() x': at 'x': something is left over"),
            (
                "chats(turn=4)",
                f"workload 'chats(turn=4)': 'turn' is no parameter of it, allowed are {', '.join(CHAT_FIELDS)}",
            ),
            ("chats(turns=many)", "chats: turns: 'many' is not a number from 1 to 1000"),
            ("chats(groups=0)", "chats: groups: 0 is not a whole number from 1 to 2147483647"),
            ("bursts(same_prompt=1)", "bursts: same_prompt: 1 is neither true nor false"),
            ("bursts(burst_seconds=30)", "bursts: burst_seconds: 30 is not every_seconds, 20.0, or less"),
            ("lora-mix(base_share=2)", "lora-mix: base_share: 2 is not a number from 0 to 1"),
            ("zipf-prompts(exponent=-1)", "zipf-prompts: exponent: -1 is not a number from 0 to 10"),
        ],
    )
    def test_a_wrong_one_is_refused_with_what_is_allowed(self, text: str, message: str) -> None:
        """A text that is no workload is refused; the error shows it, where it stops making sense, and what may be."""
        with pytest.raises(ConfigurationError) as caught:
            parse_workload(text)

        assert message == str(caught.value)

    @pytest.mark.parametrize("value", ["x", None, float("inf"), 0])
    def test_wrong_values_from_python_are_refused(self, value: Any) -> None:
        """A value of the wrong kind is refused in Python, too."""
        with pytest.raises(ConfigurationError, match="shared-prompts: groups: "):
            SharedPrompts(groups=value)


class TestDraws:
    def test_lengths_are_around_their_mean(self) -> None:
        """Lengths have the mean that was asked for, to within a twentieth, and are at most eight times as long."""
        rng = Random(1)
        lengths = [length(rng, 100) for _ in range(20_000)]

        assert 95 < sum(lengths) / len(lengths) < 105
        assert (1, 800) == (min(lengths), max(lengths))

    @given(st.integers(1, 50), st.floats(0, 3), st.integers(0, 10))
    def test_draws_stay_within_their_count(self, count: int, exponent: float, seed: int) -> None:
        """A draw is a number from 0 to one less than the count."""
        draw = zipf_choice(Random(seed), count, exponent)

        assert all(0 <= draw() < count for _ in range(20))
