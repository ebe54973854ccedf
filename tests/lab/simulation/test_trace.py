from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import InvalidDocumentError
from inferencepool.lab.simulation import WORKLOADS, Arrival, Prompt, read_trace, write_trace


def facts(arrivals: Sequence[Arrival]) -> list[tuple[object, ...]]:
    """What can be compared of *arrivals*: what they are, and which prompts are one and the same."""
    numbers: dict[Prompt, int] = {}

    def number(prompt: Prompt | None) -> list[tuple[object, ...]]:
        lineage = prompt.lineage() if prompt is not None else []
        return [(numbers.setdefault(part, len(numbers)), part.id, part.tokens, part.added_text()) for part in lineage]

    return [
        (each.at, number(each.prompt), each.output_tokens, each.model, each.adapter, each.session, number(each.answer))
        for each in arrivals
    ]


def read(*lines: Any) -> tuple[Arrival, ...]:
    """Read *lines*, those that are no texts as JSON."""
    return read_trace(line if isinstance(line, str) else json.dumps(line) for line in lines)


def line(**fields: Any) -> dict[str, Any]:
    """Make a line that is right, but for *fields*."""
    return {"at": 0, "prompt": 5, "output_tokens": 1} | fields


MOONCAKE_FIELDS = ("timestamp", "input_length", "output_length", "hash_ids", "session_id", "model")
FIELDS = ("at", "prompt", "output_tokens", "model", "adapter", "session", "answer")


class TestRoundTrip:
    @pytest.mark.parametrize("name", list(WORKLOADS))
    def test_a_workload_that_was_written_is_read_as_it_was(self, name: str) -> None:
        """Every workload comes back from a trace with the same requests, prompts, shares and texts."""
        arrivals = tuple(WORKLOADS[name]().arrivals(rate=8, duration=20, seed=3))

        again = read_trace(write_trace(arrivals))

        assert facts(arrivals) == facts(again)
        assert len(arrivals) > 50

    def test_prompts_without_ids_share_nothing_and_come_back_so(self) -> None:
        """Parts without id, and prompts told by their length, differ from all others, also after a second trip."""
        arrivals = read(line(prompt=300), line(prompt=300), line(prompt=[{"id": "a", "tokens": 9}, {"tokens": 3}]))

        again = read_trace(write_trace(arrivals))

        assert facts(arrivals) == facts(again)
        assert 3 == len({each.prompt.to_bytes()[:400] for each in again})

    @given(st.lists(st.text("ab\u00e9", min_size=1, max_size=40), min_size=1, max_size=12))
    def test_texts_come_back_and_share_what_they_have_in_common(self, texts: list[str]) -> None:
        """Prompts given as texts are those texts, and two of them share exactly the whole tokens that they agree in."""
        again = read_trace(write_trace(read(*(line(prompt=text) for text in texts))))

        assert [text.encode() for text in texts] == [each.prompt.to_bytes() for each in again]
        for one in again:
            assert -(-len(one.prompt.to_bytes()) // 4) == one.prompt.tokens
            for other in again:
                first, second = one.prompt.to_bytes(), other.prompt.to_bytes()
                agree = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
                common = [part for part in one.prompt.lineage() if part in other.prompt.lineage()]
                expected = (
                    one.prompt.tokens
                    if first == second
                    else (min(len(first), len(second)) if agree is None else agree) // 4
                )
                assert expected == (common[-1].tokens if common else 0)

    def test_texts_have_as_few_parts_as_they_have_places_where_others_part(self) -> None:
        """However long texts are, they have one part more than there are places where other texts leave them."""
        beginning = "word " * 1000
        one, other, longer = read(*(line(prompt=beginning + end) for end in ("ones", "other", "ones more")))

        assert [2, 2, 3] == [len(each.prompt.lineage()) for each in (one, other, longer)]


class TestReading:
    def test_parts_with_ids_are_shared_by_those_of_one_model_and_adapter(self) -> None:
        """The same ids mean the same prompt for the same model and adapter, and another prompt for another one."""
        parts = [{"id": "system", "tokens": 8}]
        base, again, other, adapter = read(
            line(prompt=parts), line(prompt=parts), line(prompt=parts, model="m"), line(prompt=parts, adapter="a")
        )

        assert base.prompt is again.prompt
        assert 3 == len({base.prompt, other.prompt, adapter.prompt})

    def test_an_answer_is_what_later_prompts_begin_with(self) -> None:
        """The id of an answer names a part of later prompts."""
        question, answer = {"id": "q", "tokens": 8}, {"id": "a", "tokens": 6}
        first, second = read(
            line(prompt=[question], output_tokens=6, answer="a", session="s"),
            line(prompt=[question, answer, {"tokens": 3}]),
        )

        assert second.prompt.parent is first.answer
        assert "s" == first.session

    def test_empty_lines_do_not_count(self) -> None:
        """Empty lines are left out, and later lines keep their numbers in errors."""
        with pytest.raises(InvalidDocumentError, match=r"^trace: line 3: at: -1 "):
            read(line(), "  \n", line(at=-1))

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ("[1]", "[1] is not an object"),
            ("{", "is not JSON: Expecting property name enclosed in double quotes at column 2"),
            ('{"at": NaN}', "NaN is not a JSON number"),
            ('{"at": 1, "at": 2}', "at: is given twice"),
            ("[" * 100_000, "is not JSON that can be read: a number too long, or nested too deep"),
            (line(at=1e400), "Infinity is not a JSON number"),
            (line(at="1"), "at: '1' is not a number of seconds of 0 or more"),
            (line(at=True), "at: True is not a number of seconds of 0 or more"),
            ({"prompt": 1, "output_tokens": 1}, "at: is missing; allowed is a number of seconds of 0 or more"),
            (
                {"at": 0, "output_tokens": 1},
                "prompt: is missing; allowed is a text, a number of tokens, or a list of one or more parts",
            ),
            ({"at": 0, "prompt": 1}, "output_tokens: is missing; allowed is a whole number from 1 to 2147483647"),
            (line(output_tokens=0), "output_tokens: 0 is not a whole number from 1 to 2147483647"),
            (line(output_tokens=1.0), "output_tokens: 1.0 is not a whole number from 1 to 2147483647"),
            (line(prompt=""), "prompt: has 0 tokens, allowed are 1 to 10000000"),
            (line(prompt=[]), "prompt: [] is not a text, a number of tokens, or a list of one or more parts"),
            (line(prompt=0), "prompt: has 0 tokens, allowed are 1 to 10000000"),
            (line(prompt=2.5), "prompt: 2.5 is not a text, a number of tokens, or a list of one or more parts"),
            (line(prompt="\ud800"), "prompt: '\\ud800' is no text, it holds half of a surrogate pair"),
            (line(prompt=[3]), "prompt[0]: 3 is not an object with id and tokens"),
            (
                line(prompt=[{"tokens": 1}, {}]),
                "prompt[1].tokens: is missing; allowed is a whole number from 1 to 2147483647",
            ),
            (
                line(prompt=[{"tokens": 1, "text": 2}]),
                "prompt[0].text: is no field of this object, allowed are id, tokens",
            ),
            (
                line(prompt=[{"tokens": 1, "id": "a b"}]),
                "prompt[0].id: 'a b' is not 1 to 64 letters, digits and . _ : / -",
            ),
            (line(prompt=[{"tokens": 1, "id": 4}]), "prompt[0].id: 4 is not 1 to 64 letters, digits and . _ : / -"),
            (line(prompt=[{"tokens": 2**31 - 1}] * 2), "prompt: has 4294967294 tokens, allowed are 1 to 10000000"),
            (line(model=3), "model: 3 is not a text"),
            (line(adapter=None), "adapter: None is not a text"),
            (line(session=[]), "session: [] is not a text"),
            (line(prompt="text", answer="a"), "answer: 'a' is not given beside a prompt that is a text"),
            (
                line(modle="m"),
                f"modle: is no field of this object, allowed are {', '.join(FIELDS)}",
            ),
            (line(model="x" * 99, at=["y" * 99]), f"at: ['{'y' * 58}... is not a number of seconds of 0 or more"),
        ],
    )
    def test_what_is_wrong_is_told_with_line_field_and_value(self, wrong: Any, message: str) -> None:
        """A line that is not as it should be is refused, and the error says where and what is allowed."""
        with pytest.raises(InvalidDocumentError) as caught:
            read(line(), wrong)

        assert f"trace: line 2: {message}" == str(caught.value)

    def test_time_does_not_run_backwards(self) -> None:
        """A line that is earlier than the one before it is refused."""
        with pytest.raises(
            InvalidDocumentError, match="line 2: at: 1 is not 2 or later, the time of the request before"
        ):
            read(line(at=2), line(at=1))

    def test_one_part_has_one_length(self) -> None:
        """A part that has another length than before is refused, and the error names the line that it was first in."""
        with pytest.raises(InvalidDocumentError) as caught:
            read(line(prompt=[{"id": "a", "tokens": 3}]), line(prompt=[{"id": "a", "tokens": 4}]))

        assert "trace: line 2: prompt[0].tokens: 4 is not the length of part 'a' in line 1, 3" == str(caught.value)

    def test_all_that_is_wrong_is_told_up_to_twenty(self) -> None:
        """The first twenty problems are told together."""
        with pytest.raises(InvalidDocumentError) as caught:
            read(*[line(at=-1)] * 30)

        assert [f"line {number}: at" for number in range(1, 21)] == [issue.field for issue in caught.value.issues]

    def test_an_empty_trace_is_refused(self) -> None:
        """A trace without any request is refused."""
        with pytest.raises(InvalidDocumentError, match=r"^trace: holds no request$"):
            read("")


def mooncake(**fields: Any) -> dict[str, Any]:
    """Make a line of a trace of Mooncake that is right, but for *fields*."""
    return {"timestamp": 0, "input_length": 1100, "output_length": 9, "hash_ids": [3, 4, 5]} | fields


class TestMooncake:
    def test_prompts_share_the_full_blocks_that_their_ids_agree_in(self) -> None:
        """Ids stand for 512 tokens each; what is left after the last full block is shared with nobody."""
        arrivals = read(
            mooncake(),
            mooncake(timestamp=27_482, session_id="s"),
            mooncake(timestamp=27_482, hash_ids=[3, 9], input_length=1024),
            mooncake(timestamp=27_482, hash_ids=[7], input_length=10),
            mooncake(timestamp=27_482, model="other"),
        )
        one, again, half, short, other = (each.prompt for each in arrivals)

        assert [1100, 1100, 1024, 10, 1100] == [prompt.tokens for prompt in (one, again, half, short, other)]
        assert one.parent is again.parent
        assert [512, 1024, 1100] == [part.tokens for part in one.lineage()]
        assert half.parent is one.lineage()[0]
        assert [short] == short.lineage()
        assert not set(one.lineage()) & set(other.lineage())
        assert (27.482, "s", 9) == (arrivals[1].at, arrivals[1].session, arrivals[1].output_tokens)

    def test_ids_may_leave_out_the_last_part_of_a_block(self) -> None:
        """Some traces have an id for the tokens after the last full block, and some have none; both mean the same."""
        with_id, without = read(mooncake(), mooncake(hash_ids=[3, 4]))

        assert with_id.prompt.parent is without.prompt.parent

    def test_it_can_be_written_as_a_trace_of_our_own(self) -> None:
        """What was read from such a trace is the same after it was written and read again."""
        arrivals = read(mooncake(), mooncake(hash_ids=[3, 9], input_length=1024), mooncake(hash_ids=[], input_length=5))

        again = read_trace(write_trace(arrivals))
        lengths = [[[part.tokens for part in each.prompt.lineage()] for each in trace] for trace in (arrivals, again)]
        assert lengths[0] == lengths[1]
        assert again[0].prompt.parent is not None
        assert again[0].prompt.parent.parent is again[1].prompt.parent

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (mooncake(timestamp=-1), "timestamp: -1 is not a number of milliseconds of 0 or more"),
            (mooncake(timestamp=5), "timestamp: 5 is not 10 or later, the time of the request before"),
            (mooncake(timestamp=10, hash_ids=[1]), "hash_ids: has 1 ids, allowed is one for each 512 tokens, 2"),
            (mooncake(timestamp=10, hash_ids=4), "hash_ids: 4 is not a list of whole numbers"),
            (
                mooncake(timestamp=10, hash_ids=[1, -2]),
                "hash_ids[1]: -2 is not a whole number from 0 to 18446744073709551615",
            ),
            (mooncake(timestamp=10, input_length=0), "input_length: 0 is not a whole number from 1 to 2147483647"),
            (
                mooncake(timestamp=10, input_length=2**31 - 1),
                "input_length: has 2147483647 tokens, allowed are 1 to 10000000",
            ),
            (mooncake(timestamp=10, output_length=0), "output_length: 0 is not a whole number from 1 to 2147483647"),
            (
                line(at=10),
                f"at: is no field of this object, allowed are {', '.join(MOONCAKE_FIELDS)}",
            ),
        ],
    )
    def test_what_is_wrong_is_told_with_line_field_and_value(self, wrong: Any, message: str) -> None:
        """A line that is not as it should be is refused, and the error says where and what is allowed."""
        with pytest.raises(InvalidDocumentError) as caught:
            read(mooncake(timestamp=10), wrong)

        assert f"trace: line 2: {message}" == str(caught.value)
